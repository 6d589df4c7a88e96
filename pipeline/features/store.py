"""Large arrays written in shards: a kill loses at most one shard of work, and memory holds one shard."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import atomic_file
from pipeline.progress import PlainLines, Terminal
from pipeline.shortages import explaining_shortages
from pipeline.task_context import TaskContext

Arrays = dict[str, NDArray]
Make = Callable[[int, int], Arrays]
OnShard = Callable[[int], object]
COUNTS, OFFSETS = "counts", "offsets"


class Shard(NamedTuple):
    """A file of arrays that holds the rows start to stop of the whole."""

    path: Path
    start: int
    stop: int


class Turns:
    """Which shards this process makes, and what it does between them: here all of them, and on_shard(rows)."""

    def __init__(self, on_shard: OnShard = lambda count: None):
        self._numbers, self._on_shard = itertools.count(), on_shard

    def claim(self) -> int:
        """The number of the next shard that this process makes, or finds made."""
        return next(self._numbers)

    def report(self, count: int) -> None:
        """Tell that a shard of so many rows is there."""
        self._on_shard(count)

    def end(self) -> None:
        """Return when all shards are there, those that others make included, to the process that merges them."""


class RankTurns(Turns):
    """Shards shared by the ranks of a task. The bar shows the rows of all ranks.

    `report` raises KeyboardInterrupt when the task should stop, `end` raises PartDone on every rank but the first.
    """

    def __init__(self, task: TaskContext, bar: Terminal | PlainLines):
        self._task, self._bar = task, bar
        self._claims, self._rows = task.ranks.open_counter(), task.ranks.open_counter()

    def claim(self) -> int:
        return self._claims.claim()

    def report(self, count: int) -> None:
        self._show(self._rows.add(count))
        self._task.stop_if_asked()

    def end(self) -> None:
        self._task.ranks.leave_to_first(self._wait)

    def _wait(self) -> None:
        self._show(self._rows.value)
        self._task.stop_if_asked()  # a rank that has died never comes: torchrun asks the others to stop

    def _show(self, rows: int) -> None:
        if rows > self._bar.n:
            self._bar.update(rows - self._bar.n)


def write_sharded(
    task: TaskContext, rows: int, shard_rows: int, make: Make, unit: str = "rows", ragged: bool = False
) -> None:
    """Write arrays to the task's folder as `write_in_shards` does, or as `write_ragged_in_shards` if `ragged`.

    The rows are shown on a progress bar, counted in `unit`. The shards are shared by the ranks of the task, and merged
    by the first: on others this raises PartDone. Raises KeyboardInterrupt after a finished shard when the task should
    stop.
    """
    write = write_ragged_in_shards if ragged else write_in_shards
    with task.progress(rows, unit) as bar:
        write(task.folder, task.scratch, rows, shard_rows, make, RankTurns(task, bar))


def shard_bounds(rows: int, shard_rows: int) -> list[tuple[int, int]]:
    """The first row of each shard and the row after its last; one empty shard where there are no rows."""
    return [(start, min(start + shard_rows, rows)) for start in range(0, max(rows, 1), shard_rows)]


def shard_path(scratch: Path, start: int, stop: int) -> Path:
    """The file of the shard that holds these rows."""
    return scratch / f"{start:09d}-{stop:09d}.npz"


def write_in_shards(
    folder: Path, scratch: Path, rows: int, shard_rows: int, make: Make, turns: Turns | None = None
) -> None:
    """Write `folder`/<name>.npy with `rows` rows for every array that `make(start, stop)` returns for its rows.

    Shards in `scratch` from an earlier call that was killed are reused: the caller keeps the scratch folders of
    different work apart. turns: which of the shards this process makes, by default all; what it raises after a shard
    ends the call without losing it. Memory: one shard.
    """
    shards = _make_shards(scratch, rows, shard_rows, partial(_make_checked, make, _check_rows), turns)
    _merge_shards(folder, shards, rows)


def write_ragged_in_shards(
    folder: Path, scratch: Path, rows: int, shard_rows: int, make: Make, turns: Turns | None = None
) -> None:
    """Write ragged arrays, with a variable number of items per row; otherwise as `write_in_shards`.

    `make(start, stop)` returns "counts", (stop - start,) integers, and packed arrays: the items of its rows
    concatenated, counts.sum() of them. `folder` gets <name>.npy for every packed array, and offsets.npy, (rows + 1,)
    int64: row r has the items offsets[r] to offsets[r + 1].
    """
    shards = _make_shards(scratch, rows, shard_rows, partial(_make_checked, make, _check_counts), turns)
    offsets = np.zeros(rows + 1, np.int64)
    for path, start, stop in shards:
        with np.load(path) as arrays:
            offsets[start + 1 : stop + 1] = arrays[COUNTS]
    np.cumsum(offsets, out=offsets)
    packed = [Shard(path, int(offsets[start]), int(offsets[stop])) for path, start, stop in shards]
    _merge_shards(folder, packed, int(offsets[-1]), leave_out=COUNTS, casting="no")
    np.save(folder / f"{OFFSETS}.npy", offsets)


def _make_shards(scratch: Path, rows: int, shard_rows: int, make: Make, turns: Turns | None) -> list[Shard]:
    """Every shard, in order. This process makes those of its turns that are not in `scratch` yet."""
    scratch.mkdir(parents=True, exist_ok=True)
    bounds = shard_bounds(rows, shard_rows)
    shards = [Shard(shard_path(scratch, start, stop), start, stop) for start, stop in bounds]
    turns = turns or Turns()
    while (number := turns.claim()) < len(shards):
        path, start, stop = shards[number]
        if not path.exists():
            arrays = make(start, stop)
            with atomic_file(path) as part, open(part, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        turns.report(stop - start)
    turns.end()
    return shards


def _merge_shards(
    folder: Path, shards: list[Shard], rows: int, leave_out: str = "", casting: Literal["no", "unsafe"] = "unsafe"
) -> None:
    """Write every array of the shards as one file; the first shard determines its dtype and the shape of a row."""
    merged: Arrays = {}
    for path, start, stop in shards:
        with np.load(path) as shard:
            for name in shard.files:
                if name == leave_out:
                    continue
                part = shard[name]
                if name not in merged:
                    merged[name] = _create_file(folder / f"{name}.npy", part.dtype, (rows, *part.shape[1:]))
                np.copyto(merged[name][start:stop], part, casting=casting)


def _create_file(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
    """A memory-mapped .npy file. Its room on the disk is reserved: writing to one on a full disk would be SIGBUS."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        size = path.stat().st_size
        with explaining_shortages(path, size), open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    return array


def _make_checked(make: Make, check: Callable[[Arrays, int, int], None], start: int, stop: int) -> Arrays:
    arrays = make(start, stop)
    check(arrays, start, stop)
    return arrays


def _check_rows(arrays: Arrays, start: int, stop: int) -> None:
    for name, array in arrays.items():
        if len(array) != stop - start:
            raise ValueError(f"{name} has {len(array)} rows for the rows {start} to {stop}")


def _check_counts(arrays: Arrays, start: int, stop: int) -> None:
    if COUNTS not in arrays or OFFSETS in arrays:
        raise ValueError(f"ragged arrays of the rows {start} to {stop} need {COUNTS} and must have no {OFFSETS}")
    counts = arrays[COUNTS]
    if counts.shape != (stop - start,) or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(
            f"{COUNTS} {counts.dtype}{counts.shape} is no item count for each of the rows {start} to {stop}"
        )
    for name, array in arrays.items():
        if name != COUNTS and len(array) != counts.sum():
            raise ValueError(f"{name} has {len(array)} items where the rows {start} to {stop} have {counts.sum()}")
