"""Submission files and solution files of Google Landmarks v2: writing, reading, and checking them against the rules.

    retrieval.csv     id,images       test id, then at most 100 index ids, best first, separated by spaces
    recognition.csv   id,landmarks    test id, then `<landmark> <score>`, or nothing
    solutions         id,images,Usage  or  id,landmarks,Usage; Usage is Public, Private or Ignored

Names ending in .gz are gzip files. Everything is streamed, record by record.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Generic, TextIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS, Labels, Rows, round_similarity
from pipeline.artifacts import atomic_file
from pipeline.catalogue import LIST_LENGTH
from pipeline.competition.dataset import ID
from pipeline.competition.records import name_id, quote, read_records
from pipeline.errors import PipelineError

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is computed by a spreadsheet
SHOWN = 5  # offenders named in an error
BLOCK = 4_096  # lists converted to text at a time
NO_IMAGES = "None"  # marks a query that is not scored in the retrieval solution

Answer = TypeVar("Answer")


# ---- Write ----------------------------------------------------------------------------------------------------------


def write_retrieval(path: Path, ids: Sequence[str], rows: Rows, index_ids: Sequence[str]) -> None:
    """Write one list per test image: rows (Q, K) of index images, -1 = none. The same input gives the same bytes.

    Raises PipelineError for an id that would break a cell, or that a spreadsheet would compute.
    """
    if len(ids) != len(rows):
        raise ValueError(f"{len(rows)} lists for {len(ids)} test images")
    _refuse_unsafe_ids(path, ids, index_ids)
    with _open_output(path) as file:
        file.write("id,images\n")
        for start in range(0, len(rows), BLOCK):
            for name, row in zip(ids[start : start + BLOCK], rows[start : start + BLOCK].tolist(), strict=True):
                file.write(f"{name},{' '.join([index_ids[image] for image in row if image >= 0])}\n")


def write_recognition(path: Path, ids: Sequence[str], labels: Labels, scores: NDArray[np.float32]) -> None:
    """Write one answer per test image, scores with 6 decimals; label -1 = an empty cell.

    The same input gives the same bytes. Raises PipelineError for an id as `write_retrieval` does, and for a score that
    is not finite.
    """
    _refuse_unsafe_ids(path, ids)
    bad = np.flatnonzero((labels >= 0) & ~np.isfinite(scores))
    if len(bad):
        named = ", ".join(ids[image] for image in bad[:SHOWN].tolist())
        raise PipelineError(f"{len(bad)} scores are not finite ({named})", path, "predict again: see the log before")
    with _open_output(path) as file:
        file.write("id,landmarks\n")
        rounded = round_similarity(scores)  # never "-0.000000"
        for name, label, score in zip(ids, labels.tolist(), rounded.tolist(), strict=True):
            file.write(f"{name},{label} {score:.{DECIMALS}f}\n" if label >= 0 else f"{name},\n")


def write_names(
    path: Path, ids: Sequence[str], labels: Labels, scores: NDArray[np.float32], names: Mapping[int, str]
) -> None:
    """Write the answers of `write_recognition` for a person: columns id, name and confidence, empty without a label.

    A name that a spreadsheet would compute gets an apostrophe before it.
    """
    with _open_output(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name", "confidence"])
        for image, label, score in zip(ids, labels.tolist(), round_similarity(scores).tolist(), strict=True):
            name = names.get(label, str(label)) if label >= 0 else ""
            writer.writerow([image, f"'{name}" if name.startswith(FORMULA) else name, f"{score:.6f}" if name else ""])


def _refuse_unsafe_ids(path: Path, *lists: Sequence[str]) -> None:
    """Raise PipelineError for ids with a comma, a space or a line break, and for those that begin with = + - @."""
    unsafe = [name for ids in lists for name in ids if not ID.fullmatch(name)]
    if unsafe:
        named = ", ".join(map(name_id, unsafe[:SHOWN]))
        hint = "ids consist of letters, digits, '_', '-' and '.', and begin with none of the last two"
        raise PipelineError(f"{len(unsafe)} ids cannot stand in a submission ({named})", path, hint)


@contextlib.contextmanager
def _open_output(path: Path) -> Iterator[TextIO]:
    with atomic_file(path) as part, open(part, "wb") as raw:
        binary: BinaryIO = raw
        if path.suffix == ".gz":  # no name or time in the header; random ids gain nothing from higher levels
            binary = cast(BinaryIO, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0))
        with io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as text:
            yield text


# ---- Validate -------------------------------------------------------------------------------------------------------


def validate_retrieval(path: Path, test_ids: Collection[str], index_ids: Collection[str]) -> None:
    """Raise PipelineError unless every test id has one record, with at most 100 index ids, none of them twice."""
    offences, index = _Offences(), frozenset(index_ids)
    records = Counter[str]()
    for _, (query, cell) in read_records(path, ("id", "images")):
        records[query] += 1
        images = cell.split()
        listed = frozenset(images)
        offences.add(f"lists of more than {LIST_LENGTH} images", [query] if len(images) > LIST_LENGTH else [])
        offences.add("lists with an image twice", [query] if len(listed) < len(images) else [])
        offences.add("listed images that are not in index", [] if index >= listed else sorted(listed - index))
    _refuse_offences(path, records, test_ids, offences)


def validate_recognition(path: Path, test_ids: Collection[str], landmarks: Collection[int] | None = None) -> None:
    """Raise PipelineError unless every test id has one record, with one answer or none, from the known landmarks."""
    offences, known = _Offences(), None if landmarks is None else frozenset(landmarks)
    records = Counter[str]()
    for line, (image, cell) in read_records(path, ("id", "landmarks")):
        records[image] += 1
        answer = _parse_answer(cell, path, line)
        unknown = answer is not None and known is not None and answer[0] not in known
        offences.add("answers with a landmark that is not in train", [image] if unknown else [])
    _refuse_offences(path, records, test_ids, offences)


@dataclass
class _Offences:
    """How often each rule is broken, and the first offenders."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, rule: str, offenders: Sequence[str]) -> None:
        if offenders:
            self.counts[rule] += len(offenders)
            shown = self.first.setdefault(rule, [])
            shown.extend(offenders[: SHOWN - len(shown)])

    def __str__(self) -> str:
        return "; ".join(
            f"{count} {rule} ({', '.join(map(name_id, self.first[rule]))}{', …' if count > SHOWN else ''})"
            for rule, count in self.counts.items()
        )


def _refuse_offences(path: Path, records: Counter[str], test_ids: Collection[str], offences: _Offences) -> None:
    """Raise PipelineError with all offences, including test ids whose number of records is not one."""
    test = frozenset(test_ids)
    offences.add("test images without a record", [name for name in test_ids if name not in records])
    offences.add("records of images that are not in test", [name for name in records if name not in test])
    offences.add("test images with several records", [name for name, count in records.items() if count > 1])
    if offences.counts:
        raise PipelineError(
            f"the submission breaks the competition's rules: {offences}",
            path,
            "write it again from rankings of the same index.csv and test.csv",
        )


# ---- Read submissions -----------------------------------------------------------------------------------------------


def read_retrieval(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(test id, index ids best first) of every record; an empty cell is an empty list.

    Raises PipelineError for a repeated test id.
    """
    for _, (query, cell) in _read_once(path, ("id", "images")):
        yield query, cell.split()


def read_recognition(path: Path) -> Iterator[tuple[str, tuple[int, float]]]:
    """(test id, (landmark, score)) of every record with an answer. Raises PipelineError for a repeated test id."""
    for line, (image, cell) in _read_once(path, ("id", "landmarks")):
        answer = _parse_answer(cell, path, line)
        if answer is not None:
            yield image, answer


def _read_once(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The records of `read_records`. Raises PipelineError for a first cell that an earlier record has."""
    seen: dict[str, int] = {}
    for line, cells in read_records(path, columns):
        if seen.setdefault(cells[0], line) != line:
            raise PipelineError(
                f"the test image {quote(cells[0])} already has a record in line {seen[cells[0]]}",
                f"{path}, line {line}",
                "keep one of the two",
            )
        yield line, cells


def _parse_answer(cell: str, path: Path, line: int) -> tuple[int, float] | None:
    tokens = cell.split()
    if not tokens:
        return None
    with contextlib.suppress(ValueError):
        label, score = tokens  # ValueError too unless there are two
        if math.isfinite(float(score)):
            return _landmark(label), float(score)
    raise PipelineError(
        f"{quote(cell)} is no answer", f"{path}, line {line}", "write `<landmark> <score>`, both numbers, or nothing"
    )


def _landmark(token: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", token):  # int() would also take 1_2 and +3; 18 digits fit into an int64
        raise ValueError(token)
    return int(token)


# ---- Read solutions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution(Generic[Answer]):
    """The ground truth of each test id in the two halves of the leaderboard, and the test ids that are not scored."""

    public: dict[str, Answer]
    private: dict[str, Answer]
    ignored: frozenset[str]


def read_retrieval_solution(path: Path) -> Solution[tuple[str, ...]]:
    """The relevant index ids of every query. A query whose cell is `None` or empty is ignored: it has none."""
    return _read_solution(path, "images", _parse_images)


def read_recognition_solution(path: Path) -> Solution[tuple[int, ...]]:
    """The ground-truth landmarks of each test image (may be empty)."""
    return _read_solution(path, "landmarks", _parse_landmarks)


def _parse_images(cell: str) -> tuple[str, ...] | None:
    images = tuple(cell.split())
    return None if images in ((), (NO_IMAGES,)) else images


def _parse_landmarks(cell: str) -> tuple[int, ...]:
    return tuple(_landmark(token) for token in cell.split())


def _read_solution(path: Path, column: str, parse: Callable[[str], Answer | None]) -> Solution[Answer]:
    halves: dict[str, dict[str, Answer]] = {"Public": {}, "Private": {}}
    ignored: set[str] = set()
    for line, (name, cell, usage) in _read_once(path, ("id", column, "Usage")):
        where = f"{path}, line {line}"
        if usage.strip() not in (*halves, "Ignored"):
            raise PipelineError(f"Usage is {quote(usage)}", where, "Usage is Public, Private or Ignored")
        try:
            answer = None if usage.strip() == "Ignored" else parse(cell)
        except ValueError as error:
            raise PipelineError(
                f"{name_id(str(error))} is no landmark", where, "landmarks are whole numbers"
            ) from error
        if answer is None:
            ignored.add(name)
        else:
            halves[usage.strip()][name] = answer
    return Solution(halves["Public"], halves["Private"], frozenset(ignored))
