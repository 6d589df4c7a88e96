"""Readers of files fed with damaged and hostile ones: each input gives a value or a PipelineError, in bounded time.

    python -m benchmarks.fuzz [--reader tables pickles …] [--count 100000] [--seed 0]

An input is a valid file that has been changed in a few places, or random bytes. The same seed gives the same inputs.
tests/test_fuzz.py feeds some hundreds of them to each reader.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import pickle
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from pipeline.artifacts import read_manifest
from pipeline.competition.gldv2 import read_gldv2
from pipeline.competition.revisited import read_revisited
from pipeline.competition.scoring import score_submission
from pipeline.competition.submission import read_retrieval, validate_retrieval, write_retrieval
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.images.decode import decode_photograph
from pipeline.images.inspection import Limits, inspect_photograph
from pipeline.network.checkpoint import load_training_state
from pipeline.network.weights import load_matching, read_weights
from pipeline.processes import start_workers

SEPARATOR = b"\x1d"  # between the files of an input that is several
SECONDS = 10.0  # of processor time; an input that takes longer hangs, as one does that waits ten times as long
CHANGES = (1, 1, 1, 2, 3, 6)  # of a valid file
LIMITS = Limits(8, 20_000, 1_000_000)
TOKENS = (
    b"", b"\0", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b",", b'"', b"'", b" ", b"\t",
    b"=1+1", b"@SUM(A1)", b"../../etc/passwd", b"<script>", b"%s%n", b"-1", b"0", b"1", b"nan", b"inf", b"1e999",
    b"9" * 18, b"9" * 30, b"9" * 5000, b"-0.0", "é😀٣".encode(), b"None", b"null", b"true", b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff", b"\x00\x00\x00\x00\x00\x00\x00\x80", b"[", b"]", b"{", b"}", b"a" * 1000, b"\x1b[2J",
    SEPARATOR,
)  # fmt: skip
NESTED = (b"[" * 5000, b"{'a':" * 5000, b'{"a":' * 5000, b"a." * 5000)


class Hang(BaseException):
    """An input that takes longer than SECONDS."""


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    read: takes an input and an empty folder; True where the input is accepted, False where a reason refuses it, as
    PipelineError does. samples: valid inputs. tokens: what is inserted into them. repair: makes an input valid in the
    parts that a checksum or a length would give away at once.
    """

    read: Callable[[bytes, Path], bool]
    samples: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()
    repair: Callable[[bytes], bytes] = bytes


@dataclass
class Count:
    """What became of the inputs of one reader. failures: a description of each kind, with the first such input."""

    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: dict[str, bytes] = field(default_factory=dict)


# ---- Inputs ---------------------------------------------------------------------------------------------------------


def make_input(reader: Reader, chance: random.Random) -> bytes:
    """An input: in nine of ten cases a changed sample, else random bytes."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(200))
    data = chance.choice(reader.samples)
    for _ in range(chance.choice(CHANGES)):
        data = _change(data, reader, chance)
    return reader.repair(data) if chance.random() < 0.8 else data


def _change(data: bytes, reader: Reader, chance: random.Random) -> bytes:
    """The data with one change."""
    start = chance.randrange(len(data) + 1)
    stop = min(len(data), start + chance.choice((1, 2, 4, 8, 32, len(data))))
    kind = chance.randrange(8)
    if kind == 0 and start < len(data):
        return data[:start] + bytes([data[start] ^ (1 << chance.randrange(8))]) + data[start + 1 :]
    if kind == 1:
        return data[:start] + chance.randbytes(stop - start) + data[stop:]
    if kind == 2:
        return data[:start] + data[stop:]
    if kind == 3:
        return data[:stop] + data[start:stop] * chance.choice((1, 2, 50)) + data[stop:]
    if kind == 4 and chance.random() < 0.3:
        return data[:start]
    if kind == 5:  # the beginning of one and the end of another
        other = chance.choice(reader.samples)
        return data[:start] + other[chance.randrange(len(other) + 1) :]
    token = chance.choice(reader.tokens + TOKENS)
    return data[:start] + token + data[start if kind == 6 else stop :]


# ---- Readers --------------------------------------------------------------------------------------------------------


def _parts(data: bytes, count: int) -> list[bytes]:
    return (data.split(SEPARATOR, count - 1) + [b""] * count)[:count]


def _read_tables(data: bytes, folder: Path) -> bool:
    names = ("train.csv", "index.csv", "test.csv", "train_clean.csv", "boxes.csv")
    for name, content in zip(names, data.split(SEPARATOR), strict=False):
        (folder / name).write_bytes(content)
    read_gldv2(folder)
    return True


def _read_submissions(data: bytes, folder: Path) -> bool:
    files = folder / "solution.csv", folder / "submission.csv"
    for file, content in zip(files, _parts(data, 2), strict=True):
        file.write_bytes(content)
    scores = score_submission(*files).scores
    assert all(0.0 <= scores[name] <= 1.0 for name in scores if name.startswith(("map", "gap", "top1")))  # type: ignore[operator]
    return True


def _read_gzip(data: bytes, folder: Path) -> bool:
    (folder / "x.csv.gz").write_bytes(data)
    return all(isinstance(images, list) for _, images in read_retrieval(folder / "x.csv.gz"))


def _write_submissions(data: bytes, folder: Path) -> bool:
    """Ids from the input: what is written is valid and comes back, or is refused before anything is written."""
    test, index = (list(dict.fromkeys(part.decode("latin1").split("\n"))) for part in _parts(data, 2))
    chance = np.random.default_rng(len(data))
    rows = np.array([chance.permutation(len(index))[:3] for _ in test], np.int32).reshape(len(test), -1)
    try:
        write_retrieval(folder / "x.csv", test, rows, index)
    except PipelineError:
        assert not list(folder.iterdir())
        raise
    with _no_refusal():
        validate_retrieval(folder / "x.csv", test, index)
        assert dict(read_retrieval(folder / "x.csv")) == {
            name: [index[row] for row in own] for name, own in zip(test, rows.tolist(), strict=True)
        }
    return True


@contextlib.contextmanager
def _no_refusal() -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        raise AssertionError(f"what was written is refused: {error}") from error


def _read_settings(data: bytes, folder: Path) -> bool:
    text, *overrides = _parts(data, 3)
    (folder / "run.toml").write_bytes(text)
    load_config(folder / "run.toml", [override.decode(errors="replace") for override in overrides if override])
    return True


def _read_pickle(data: bytes, folder: Path) -> bool:
    (folder / "gnd_x.pkl").write_bytes(data)
    read_revisited(folder / "gnd_x.pkl")
    return True


def _read_image(data: bytes, folder: Path) -> bool:
    path = folder / "x.jpg"
    path.write_bytes(data)
    found = inspect_photograph(path, LIMITS, decode=True)
    if not found.reason:
        height, width, channels = decode_photograph(path).shape
        assert (width, height, channels) == (found.width, found.height, 3)
    return not found.reason


def _read_manifest(data: bytes, folder: Path) -> bool:
    (folder / "manifest.json").write_bytes(data)
    return read_manifest(folder) is not None


def _read_weights(data: bytes, folder: Path) -> bool:
    path = folder / ("x.pt" if data[:1] in (b"P", b"\x80") else "x.safetensors")
    path.write_bytes(data)
    load_matching(torch.nn.Linear(3, 2), read_weights(path), "linear", str(path))
    return True


def _read_state(data: bytes, folder: Path) -> bool:
    (folder / "state.pt").write_bytes(data)
    return isinstance(load_training_state(folder / "state.pt"), dict)


# ---- Samples --------------------------------------------------------------------------------------------------------


def _tables() -> Reader:
    tables = (
        b"id,landmark_id\nt1,5\nt2,5\n007,6\n", b"id\ni1\ni2\n", b"id\nq1\n", b"landmark_id,images\n5,t1 t2\n6,007\n",
        b"id,left,top,right,bottom\nq1,0,1.5,20,30\n",
    )  # fmt: skip
    quoted = b'\xef\xbb\xbfid,url,landmark_id\r\n"t1","http://a,b",5\r\n\r\nt2,,6,\r\n'
    return Reader(_read_tables, (SEPARATOR.join(tables), SEPARATOR.join((quoted, *tables[1:3]))))


def _submissions() -> Reader:
    retrieval = b"id,images,Usage\na,i1 i2,Public\nb,None,Ignored\nc,i3,Private\n", b"id,images\na,i2 i5 i1\nb,\nc,i3\n"
    recognition = b"id,landmarks,Usage\na,3 12,Public\nb,,Public\nc,5,Private\n", b"id,landmarks\na,3 0.5\nb,\nc,5 1\n"
    return Reader(_read_submissions, (SEPARATOR.join(retrieval), SEPARATOR.join(recognition)))


def _gzip() -> Reader:
    plain = b"id,images\na,i2 i5 i1\nb,\nc,i3\n"
    bomb = gzip.compress(b"id,images\n" + b"a" * (1 << 17))
    return Reader(_read_gzip, (gzip.compress(plain), gzip.compress(plain * 50), bomb))


def _writing() -> Reader:
    return Reader(_write_submissions, (b"q1\nq2\nq3" + SEPARATOR + b"i1\ni2\ni3\ni4", b"007" + SEPARATOR + b"None"))


def _settings() -> Reader:
    configs = [path.read_bytes() for path in sorted(Path("configs").glob("*.toml"))]
    samples = [SEPARATOR.join((text, b"extract.scales=[1.0]", b"rerank.top_k=50")) for text in configs]
    tokens = (
        b"rerank.insert=3", b"rerank.min_confidence=0.5", b"models.cnn.trained='x'", b"[data]\n", b"[models.cnn]\n",
        b"data.root='a'", b"models=3", b"run='../x'", b"1979-05-27T07:32:00Z", b"0x_1", b'"""', b"'''", b"\\u0000",
        b"[[a]]\n", b"a.b.c=", b"= ", b"search.index_k=", b"nan", b"-inf", *NESTED,
    )  # fmt: skip
    return Reader(_read_settings, tuple(samples), tokens)


def _pickles() -> Reader:
    one = {"easy": [0], "hard": np.array([1]), "junk": [], "bbx": [0.0, 1.0, 20.0, 30.0]}
    truth = {"imlist": ["a", "b", "c"], "qimlist": ["q", "c"], "gnd": [one, {**one, "hard": [2]}]}
    shared: list = ["a"]
    for _ in range(4):
        shared = [shared, shared]
    samples = [pickle.dumps(truth, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    samples.append(pickle.dumps({**truth, "set": {1}, "bytes": b"\xff", "shared": shared, "none": np.zeros((0, 4))}, 2))
    tokens = (
        b"cos\nsystem\n(S'true'\ntR.", b"r\xff\xff\xff\x7f", b"\x96\x00\x00\x00\x80\x00\x00\x00\x00",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"22222222l",
        b"cbuiltins\nbytes\n(I10000000000\ntR", b"c_codecs\nencode\n", b"cnumpy\nndarray\n", b"}b", b"(lp0\n", b"\x86R",
        b"cnumpy.core.multiarray\nscalar\n", b"N}X\x05\x00\x00\x00resolveNs\x86b", b"p999999999\n", b".", b"0",
        b"h\x00",
    )  # fmt: skip
    return Reader(_read_pickle, tuple(samples), tokens)


def _images() -> Reader:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = []
    for format, mode, options in (
        ("JPEG", "RGB", {}), ("JPEG", "CMYK", {}), ("JPEG", "L", {"progressive": True}),
        ("JPEG", "RGB", {"exif": exif}), ("PNG", "RGB", {}), ("PNG", "P", {"transparency": 0}), ("PNG", "RGBA", {}),
        ("PNG", "I;16", {}), ("PNG", "1", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
        ("GIF", "P", {}), ("BMP", "RGB", {}), ("BMP", "1", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        image = Image.fromarray(pixels)
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
        image.save(file, format, **options)
        samples.append(file.getvalue())
    tokens = (
        b"\xff\xd8\xff",
        b"\xff\xd9",
        b"\xff\xc0",
        b"IDAT",
        b"acTL",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF",
        b"GIF89a",
        b"BM",
    )
    return Reader(_read_image, tuple(samples), tokens, _repair_png)


def _repair_png(data: bytes) -> bytes:
    """The checksums of the chunks of a PNG, made right; other data unchanged."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    repaired, at = bytearray(data), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            break
        repaired[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(repaired)


def _manifests() -> Reader:
    manifest = {
        "format": 1, "key": {"stage": "05", "version": 1, "settings": {"a": [1, 2.5]}, "inputs": {"x": "ab"}},
        "files": {"a.npy": {"bytes": 3, "sha256": "ab", "mtime_ns": 5}}, "facts": {}, "seconds": 1.5, "packages": {},
    }  # fmt: skip
    return Reader(_read_manifest, (json.dumps(manifest).encode(), json.dumps(manifest, indent=1).encode()), NESTED)


def _weights() -> Reader:
    tensors = torch.nn.Linear(3, 2).state_dict()
    samples = [safetensors.torch.save(tensors), safetensors.torch.save({k: v.half() for k, v in tensors.items()})]
    samples += [_save({"state_dict": tensors}), _save(list(tensors.items())), _save(tensors, old=True)]
    tokens = (b'"dtype":"F64"', b'"F32"', b'"I8"', b'"F8_E4M3"', b"data_offsets", b"[0,18446744073709551615]", *NESTED)
    return Reader(_read_weights, tuple(samples), tokens, _repair_weights)


def _save(value: object, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def _repair_weights(data: bytes) -> bytes:
    """A zip file with valid checksums where it can be read as one; a safetensors header with its true length."""
    if data[:2] == b"PK":
        return _repair_zip(data)
    if data[:1] == b"\x80":
        return data
    end = data.rfind(b"}}") + 2
    return data if end < 10 else (end - 8).to_bytes(8, "little") + data[8:]


def _repair_zip(data: bytes) -> bytes:
    """The records of a zip file of torch, changed but with valid checksums: each is cut out between its headers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for record in data.split(b"PK\x03\x04")[1:]:
            length, extra = int.from_bytes(record[22:24], "little"), int.from_bytes(record[24:26], "little")
            name = record[26 : 26 + length].decode("latin1")
            content = record[26 + length + extra :].split(b"PK\x07\x08")[0].split(b"PK\x01\x02")[0]
            with contextlib.suppress(ValueError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # two records of one name
                archive.writestr(zipfile.ZipInfo(name or "x"), content)
    return file.getvalue()


def _states() -> Reader:
    state = {"format": 3, "identity": "ab", "network": {"w": torch.ones(2)}, "progress": {"epoch": 1, "history": []}}
    tokens = (b"cos\nsystem\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\neval\n", b"}b", b"\x86R", b".")
    return Reader(_read_state, (_save(state), _save({**state, "format": 4})), tokens, _repair_zip)


READERS: dict[str, Callable[[], Reader]] = {
    "tables": _tables,
    "submissions": _submissions,
    "gzip": _gzip,
    "writing": _writing,
    "settings": _settings,
    "pickles": _pickles,
    "images": _images,
    "manifests": _manifests,
    "weights": _weights,
    "states": _states,
}


# ---- Running --------------------------------------------------------------------------------------------------------


def feed(reader: Reader, data: bytes, folder: Path) -> bool:
    """Whether the reader accepts the input. Raises whatever is no PipelineError, and Hang. Empties the folder."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    try:
        return reader.read(data, folder)
    except PipelineError as error:
        assert len(str(error)) < 5000, f"a message of {len(str(error))} characters"
        return False
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
        for path in folder.iterdir():
            path.unlink()


def fuzz(name: str, count: int, seed: int) -> Count:
    """Feed `count` inputs to a reader. The same seed gives the same inputs."""
    reader, result, chance = READERS[name](), Count(), random.Random(f"{seed} {name}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        for _ in range(count):
            data = make_input(reader, chance)
            try:
                accepted = feed(reader, data, Path(made))
            except (Exception, Hang) as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                kind = f"{type(error).__name__}: {str(error)[:100]!r} in {Path(place.filename).name}:{place.lineno}"
                result.kinds[kind] += 1
                result.failures.setdefault(kind, data)
            else:
                result.accepted += accepted
                result.refused += not accepted
    result.seconds = time.perf_counter() - start
    result.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--count", type=int, default=100_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| reader | inputs | accepted | refused | seconds | peak MiB | failures |\n|---|---|---|---|---|---|---|")
    for name in asked.reader:
        with start_workers(1) as pool:  # a process for each: the peak of its memory is its own
            found = pool.submit(fuzz, name, asked.count, asked.seed).result()
        failures = sum(found.kinds.values())
        print(
            f"| {name} | {asked.count} | {found.accepted} | {found.refused} | {found.seconds:.0f} | "
            f"{found.peak_mib:.0f} | {failures} |",
            flush=True,
        )
        for kind, times in found.kinds.most_common():
            print(f"  {times} × {kind}\n    {found.failures[kind][:300]!r}", flush=True)


if __name__ == "__main__":
    main()
