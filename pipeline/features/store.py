"""Large arrays written in shards: a kill loses at most one shard of work, and memory holds one shard."""

from __future__ import annotations

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


def write_sharded(
    task: TaskContext, rows: int, shard_rows: int, make: Make, unit: str = "rows", ragged: bool = False
) -> None:
    """Write arrays to the task's folder as `write_in_shards` does, or as `write_ragged_in_shards` if `ragged`.

    The rows are shown on a progress bar, counted in `unit`. Raises KeyboardInterrupt after a finished shard when the
    task should stop.
    """
    write = write_ragged_in_shards if ragged else write_in_shards
    with task.progress(rows, unit) as bar:
        write(task.folder, task.scratch, rows, shard_rows, make, report_shards(task, bar))


def report_shards(task: TaskContext, bar: Terminal | PlainLines) -> OnShard:
    """What a task does after each shard: move its progress bar, and raise KeyboardInterrupt when it should stop."""

    def on_shard(count: int) -> None:
        bar.update(count)
        if task.should_stop():
            raise KeyboardInterrupt

    return on_shard


def shard_path(scratch: Path, start: int, stop: int) -> Path:
    """The file of the shard that holds these rows."""
    return scratch / f"{start:09d}-{stop:09d}.npz"


def write_in_shards(
    folder: Path, scratch: Path, rows: int, shard_rows: int, make: Make, on_shard: OnShard = lambda count: None
) -> None:
    """Write `folder`/<name>.npy with `rows` rows for every array that `make(start, stop)` returns for its rows.

    Shards in `scratch` from an earlier call that was killed are reused: the caller keeps the scratch folders of
    different work apart. on_shard is called with the number of rows after each shard, also a reused one; what it raises
    ends the call without losing that shard. Memory: one shard.
    """
    shards = _make_shards(scratch, rows, shard_rows, partial(_make_checked, make, _check_rows), on_shard)
    _merge_shards(folder, shards, rows)


def write_ragged_in_shards(
    folder: Path, scratch: Path, rows: int, shard_rows: int, make: Make, on_shard: OnShard = lambda count: None
) -> None:
    """Write ragged arrays, with a variable number of items per row; otherwise as `write_in_shards`.

    `make(start, stop)` returns "counts", (stop - start,) integers, and packed arrays: the items of its rows
    concatenated, counts.sum() of them. `folder` gets <name>.npy for every packed array, and offsets.npy, (rows + 1,)
    int64: row r has the items offsets[r] to offsets[r + 1].
    """
    shards = _make_shards(scratch, rows, shard_rows, partial(_make_checked, make, _check_counts), on_shard)
    offsets = np.zeros(rows + 1, np.int64)
    for path, start, stop in shards:
        with np.load(path) as arrays:
            offsets[start + 1 : stop + 1] = arrays[COUNTS]
    np.cumsum(offsets, out=offsets)
    packed = [Shard(path, int(offsets[start]), int(offsets[stop])) for path, start, stop in shards]
    _merge_shards(folder, packed, int(offsets[-1]), leave_out=COUNTS, casting="no")
    np.save(folder / f"{OFFSETS}.npy", offsets)


def _make_shards(scratch: Path, rows: int, shard_rows: int, make: Make, on_shard: OnShard) -> list[Shard]:
    """Every shard, in order; those that are not in `scratch` yet are made."""
    scratch.mkdir(parents=True, exist_ok=True)
    bounds = [(start, min(start + shard_rows, rows)) for start in range(0, max(rows, 1), shard_rows)]
    shards = [Shard(shard_path(scratch, start, stop), start, stop) for start, stop in bounds]
    for path, start, stop in shards:
        if not path.exists():
            arrays = make(start, stop)
            with atomic_file(path) as part, open(part, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        on_shard(stop - start)
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
