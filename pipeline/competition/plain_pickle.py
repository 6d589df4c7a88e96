"""Pickle files read as data: containers, numbers, texts and NumPy arrays; a pickle that would run code is refused."""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError

TYPE_CODE = re.compile(r"[biufcSUO][0-9]{0,9}")  # numbers, texts and objects; no structured types
BYTE_ORDERS = ("<", ">", "|", "=")
MAX_BYTES = 256 << 20  # the published ground truths have less than one MiB
EXPANSION = 10  # values in the content for each byte of the file; without shared containers it is at most one
MAX_EMPTY = 1_000_000  # rows of an array without values


def read_plain_pickle(path: Path) -> Any:
    """The content of the pickle at `path`, with the texts of Python 2 decoded as latin-1.

    A pickle is a program that names functions and calls them. This reader only accepts the names that sets and NumPy
    arrays need, and calls the stand-ins below instead of NumPy's functions, which would accept a state that points
    outside of an array's memory. Raises PipelineError, naming the file and the function, for any other name, and for a
    damaged file; nothing that the file names has been imported or called by then. Time and memory are bounded by the
    size of the file: containers that hold each other many times over are refused.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _Refused(f"more than {MAX_BYTES} bytes")
        value = _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
        return _Resolver(EXPANSION * len(content) + 1000).resolve(value)
    except _Refused as refused:
        hint = "fetch the file again from its publisher, and compare its checksum"
        raise PipelineError(f"the pickle asks for {refused}: it is not only data", path, hint) from None
    except OSError as error:
        raise PipelineError(f"the file cannot be read: {error.strerror}", path, "check the path") from error
    except Exception as error:  # a damaged stream fails in many ways
        hint = "fetch it again, and compare its checksum"
        raise PipelineError(f"not a pickle that can be read: {str(error) or repr(error)}", path, hint) from error


class _Refused(Exception):
    """What the pickle asks for and plain data does not need."""


class _PlainUnpickler(pickle._Unpickler):
    """The unpickler in Python: that in C allocates every position of the memo below one that ten bytes may name."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    read: Callable[[int], bytes]
    append: Callable[[object], None]

    def load_bytearray8(self) -> None:
        """The bytes that follow. The standard library would allocate as many as the file claims to have."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ACCEPTED:
            raise _Refused(f"{module}.{name}")
        return ACCEPTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the persistent object {pid!r}")


class _Function:
    """A function that a pickle may call, and whose attributes it cannot set."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]):
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a change of a function")


def _no_bytes() -> bytes:
    """b"", as Python 3 writes it into pickles that Python 2 can read."""
    return b""


def _make_set(items: object = ()) -> set[Any]:
    return set(_listed(items))


def _make_frozenset(items: object = ()) -> frozenset[Any]:
    return frozenset(_listed(items))


def _listed(items: object) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise _Refused("a set of what is no list")
    return list(items)


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as Python 3 writes them into pickles that Python 2 can read."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


class _Type:
    """The stand-in for numpy.dtype while a pickle is read."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not TYPE_CODE.fullmatch(code):
            raise _Refused(f"the array type {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *shape_and_fields = state
        if order not in BYTE_ORDERS or any(part is not None for part in shape_and_fields[:3]):
            raise _Refused(f"the array type {self.code!r} with fields")
        self.order = order

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """The stand-in for numpy.ndarray while a pickle is read."""

    def __init__(self, kind: object, shape: object, code: object):
        if kind is not NDARRAY:
            raise _Refused("an array of a subclass")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.type, self.column_major, self.data = state[-4:]

    def resolve(self, resolver: _Resolver) -> NDArray[Any]:
        """The array that the pickle describes, its objects resolved as well."""
        order: Literal["C", "F"] = "F" if self.column_major else "C"
        if not isinstance(self.data, list):
            return _array_of_bytes(self.data, self.type, self.shape, order)
        values = np.empty(len(self.data), np.object_)
        for position, value in enumerate(self.data):
            values[position] = resolver.resolve(value)
        return _shape(values, self.shape, order)


def _array_of_bytes(data: Any, kind: _Type, shape: Any, order: Literal["C", "F"] = "C") -> NDArray[Any]:
    data = data.encode("latin1") if isinstance(data, str) else data  # Python 2's bytes
    return _shape(np.frombuffer(data, kind.resolve()), shape, order).copy(order)


def _shape(values: NDArray[Any], shape: Any, order: Literal["C", "F"]) -> NDArray[Any]:
    """The array in another shape. An empty one may not be of a million empty rows."""
    if not values.size and max(shape, default=0) > MAX_EMPTY:
        raise _Refused(f"an empty array of the shape {shape}")
    return values.reshape(shape, order=order)


def _scalar(kind: _Type, data: Any) -> Any:
    return _array_of_bytes(data, kind, (1,))[0]


class _Resolver:
    """Arrays and types instead of their stand-ins, in lists, tuples and dicts of any depth; at most `left` values."""

    def __init__(self, left: int):
        self.left = left

    def resolve(self, value: Any) -> Any:
        """The value with arrays and types. Raises _Refused when there are more values than `left`."""
        self.left -= 1
        if self.left < 0:
            raise _Refused("containers that hold each other many times over")
        if isinstance(value, _Array):
            return value.resolve(self)
        if isinstance(value, _Type):
            return value.resolve()
        if isinstance(value, dict):
            return {self.resolve(key): self.resolve(item) for key, item in value.items()}
        return type(value)(map(self.resolve, value)) if type(value) in (list, tuple) else value


NDARRAY = "numpy.ndarray"  # pickles name the class as an argument, and never need to call it
ACCEPTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Function(_encode_latin1),
}
for _builtins in ("builtins", "__builtin__"):  # Python 3's and Python 2's
    for _name, _make in (("set", _make_set), ("frozenset", _make_frozenset), ("bytes", _no_bytes)):
        ACCEPTED[_builtins, _name] = _Function(_make)
for _core in ("numpy.core", "numpy._core"):  # NumPy 1's and NumPy 2's
    ACCEPTED[f"{_core}.multiarray", "_reconstruct"] = _Array
    ACCEPTED[f"{_core}.multiarray", "scalar"] = _Function(_scalar)
    ACCEPTED[f"{_core}.numeric", "_frombuffer"] = _Function(_array_of_bytes)
