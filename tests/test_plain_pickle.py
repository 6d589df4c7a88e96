"""Pickles read as data: containers and arrays of every age come through, everything else is refused and not called."""

import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.competition.plain_pickle import read_plain_pickle
from pipeline.errors import PipelineError

DATA = {
    "names": ["a", "ü"],
    "numbers": (1, 2.5, None, True, 10**30),
    "bytes": b"\x00\xff",
    "sets": [{1, 2}, frozenset({3})],
    "array": np.arange(6, dtype=np.int32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "texts": np.array(["x", "yz"]),
    "objects": np.array([[1, 2], "three", np.arange(2)], dtype=object),
    "nested": [{"deep": (np.zeros((0, 4)), [np.array([True, False])])}],
    "complex": np.array([[1 + 2j]]),
    "big_endian": np.arange(3, dtype=">i2"),
    "matrix of objects": np.array([["a", 1], [None, b"b"]], dtype=object),
    "type": np.dtype("<f4"),
    "scalar": np.float64(1.5),
}


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and same(one.tolist(), other.tolist())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_numbers_texts_and_arrays_come_through_in_every_protocol(tmp_path, protocol):
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(DATA, protocol))
    assert same(read_plain_pickle(tmp_path / "data.pkl"), DATA)


@pytest.mark.parametrize(("one", "other"), [(b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")])
def test_arrays_of_either_numpy_come_through(tmp_path, one, other):
    written = pickle.dumps(np.arange(3), 2)  # in protocol 2 names are lines: no lengths to correct
    (tmp_path / "a.pkl").write_bytes(written.replace(one, other))
    assert read_plain_pickle(tmp_path / "a.pkl").tolist() == [0, 1, 2]


def test_an_array_written_by_python_2_comes_through(tmp_path):
    """Texts of Python 2 are bytes without an encoding: the opcodes S and U."""
    stream = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00\xff\x7ftb."
    )
    (tmp_path / "two.pkl").write_bytes(stream)
    assert read_plain_pickle(tmp_path / "two.pkl").tolist() == [1, 32767]


class Calls:
    """What pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, "touch {}"), "system"),
        ((eval, "open('{}', 'w')"), "eval"),
        ((exec, "open('{}', 'w')"), "exec"),
        ((open, "{}", "w"), "open"),
        ((getattr, os, "system"), "getattr"),
        ((subprocess.Popen, ["touch", "{}"]), "Popen"),
        ((np.save, "{}", 1), "save"),
        ((Path, "{}"), "Path"),
        ((bytearray, 3), "bytearray"),
    ],
)
def test_a_pickle_that_calls_anything_else_is_refused_by_name_and_does_nothing(tmp_path, call, named, protocol):
    target = tmp_path / "touched"
    function, *arguments = call
    arguments = [text.format(target) if isinstance(text, str) else text for text in arguments]
    if function is getattr:
        arguments = ["x", "upper"]  # a module does not pickle
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps({"imlist": Calls(function, *arguments)}, protocol))
    with pytest.raises(PipelineError) as caught:
        read_plain_pickle(path)
    assert named in str(caught.value) and str(path) in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x05numpy\x94\x8c\x0endarray.tofile\x94\x93.",  # a method of something admitted
        b"\x80\x04\x8c\x08builtins\x94\x8c\x04eval\x94\x93.",
        b"c__builtin__\napply\n.",
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        b"Psomewhere\n.",  # a persistent object
        b"\x80\x02\x82\x01.",  # of the extension registry
    ],
)
def test_hand_written_pickles_that_name_other_functions_are_refused(tmp_path, stream):
    (tmp_path / "bad.pkl").write_bytes(stream)
    with pytest.raises(PipelineError):
        read_plain_pickle(tmp_path / "bad.pkl")


HEAD = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85"


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02cnumpy\nndarray\nK\x01\x85U\x02O8U\x08\x01\x02\x03\x04\x05\x06\x07\x08\x87R.",  # bytes as a pointer
        HEAD + b"cnumpy\ndtype\nU\x02O8\x85R\x89U\x08\x01\x02\x03\x04\x05\x06\x07\x08tb.",  # the same, by a state
        HEAD + b"cnumpy\ndtype\nU\x02V8\x85R\x89U\x08abcdefghtb.",  # a type of fields
        HEAD + b"cnumpy\ndtype\nU\x02i8\x85R(K\x03U\x01<NU\x01a}tb\x89U\x08abcdefghtb.",  # fields by a state
        HEAD + b"cnumpy\ndtype\nU\x02i8\x85R\x89U\x04abcdtb.",  # fewer bytes than the shape needs
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02O8\x85RU\x08abcdefgh\x86R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc__builtin__\nset\nK\x00\x85U\x01b\x87R.",
    ],
)
def test_arrays_that_would_reach_outside_of_their_memory_are_refused(tmp_path, stream):
    (tmp_path / "bad.pkl").write_bytes(stream)
    with pytest.raises(PipelineError):
        read_plain_pickle(tmp_path / "bad.pkl")


@pytest.mark.parametrize("cut", [0, 1, 10, 100])
def test_a_file_that_is_no_whole_pickle_is_an_error(tmp_path, cut):
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps(DATA)[:cut])
    with pytest.raises(PipelineError, match="not a pickle that can be read"):
        read_plain_pickle(tmp_path / "cut.pkl")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_plain_pickle(tmp_path / "missing.pkl")
