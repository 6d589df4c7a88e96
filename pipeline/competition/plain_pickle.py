"""Pickle files read as data: containers, numbers, texts and NumPy arrays; whatever would run code is refused."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError

TYPE_CODE = re.compile(r"[biufcSUO][0-9]{0,9}")  # numbers, texts and objects; no fields, which may point anywhere
ORDERS = ("<", ">", "|", "=")


def read_plain_pickle(path: Path) -> Any:
    """What the pickle at `path` holds, texts of Python 2 as latin-1.

    A pickle is a program: it names functions and calls them. Here it may name those alone that make sets and NumPy
    arrays, and what they stand for is done by the few lines below: NumPy's own would take a state that points outside
    of an array's memory. Raises PipelineError that names the file and the function for any other, and for a damaged
    file; nothing that the file names has been called or imported by then.
    """
    try:
        with open(path, "rb") as file:
            return _settle(_PlainUnpickler(file, encoding="latin1").load())
    except _Refused as refused:
        raise PipelineError(
            f"the pickle asks for {refused}: it holds more than data and is not trusted", path,
            "fetch the file again from its publisher, and compare its checksum",
        ) from None  # fmt: skip
    except OSError as error:
        raise PipelineError(f"the file cannot be read: {error.strerror}", path, "check the path") from error
    except Exception as error:  # a damaged stream fails in many ways
        hint = "fetch it again, and compare its checksum"
        raise PipelineError(f"not a pickle that can be read: {str(error) or repr(error)}", path, hint) from error


class _Refused(Exception):
    """The name of a function that no data needs."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the persistent object {pid!r}")


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Python 3 writes bytes so into pickles that Python 2 can read; other encodings have no place there."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


class _Type:
    """What stands for a numpy.dtype while a pickle is read."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not TYPE_CODE.fullmatch(code):
            raise _Refused(f"the array type {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *shape_and_fields = state
        if order not in ORDERS or any(part is not None for part in shape_and_fields[:3]):
            raise _Refused(f"the array type {self.code!r} with fields")
        self.order = order

    def make(self) -> np.dtype[Any]:
        """The type it stands for."""
        return np.dtype(self.order + self.code)


class _Array:
    """What stands for a numpy.ndarray while a pickle is read."""

    def __init__(self, kind: object, shape: object, code: object):
        if kind is not NDARRAY:
            raise _Refused("an array of a class of its own")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.type, self.in_columns, self.data = state[-4:]

    def make(self) -> NDArray[Any]:
        """The array it stands for, what it holds settled too."""
        order: Literal["C", "F"] = "F" if self.in_columns else "C"
        if not isinstance(self.data, list):
            return _array_of_bytes(self.data, self.type, self.shape, order)
        values = np.empty(len(self.data), np.object_)
        for at, value in enumerate(self.data):
            values[at] = _settle(value)
        return values.reshape(self.shape, order=order)


def _array_of_bytes(data: Any, kind: _Type, shape: Any, order: Literal["C", "F"] = "C") -> NDArray[Any]:
    data = data.encode("latin1") if isinstance(data, str) else data  # Python 2's bytes
    return np.frombuffer(data, kind.make()).reshape(shape, order=order).copy(order)


def _scalar(kind: _Type, data: Any) -> Any:
    return _array_of_bytes(data, kind, (1,))[0]


def _settle(value: Any) -> Any:
    """The value with arrays where their stand-ins are, in lists, tuples and dicts of any depth."""
    if isinstance(value, _Array | _Type):
        return value.make()
    if isinstance(value, dict):
        return {_settle(key): _settle(held) for key, held in value.items()}
    return type(value)(map(_settle, value)) if type(value) in (list, tuple) else value


NDARRAY = "numpy.ndarray"  # pickles name the class, but have no need to call it
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode_latin1,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1's and NumPy 2's
    ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _Array
    ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    ADMITTED[f"{_core}.numeric", "_frombuffer"] = _array_of_bytes
for _builtins in ("builtins", "__builtin__"):  # Python 3's and Python 2's
    ADMITTED |= {(_builtins, made.__name__): made for made in (set, frozenset, bytes)}
