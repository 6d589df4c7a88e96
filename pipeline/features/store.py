"""Large arrays made in shards: what a kill costs is one shard, and memory holds one shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import atomic_file

Arrays = dict[str, NDArray]


def write_in_shards(
    folder: Path,
    scratch: Path,
    rows: int,
    shard_rows: int,
    make: Callable[[int, int], Arrays],
    on_shard: Callable[[int], object] = lambda count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Write `folder`/<name>.npy of `rows` rows for every array that `make(start, stop)` returns for its rows.

    Shards that stand in `scratch` from an earlier, killed call are taken as they are: the caller keeps scratch folders
    of different work apart. on_shard is told the rows of each shard as it is there. Raises KeyboardInterrupt behind a
    finished shard when should_stop() says so. Memory: one shard.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    bounds = [(start, min(start + shard_rows, rows)) for start in range(0, max(rows, 1), shard_rows)]
    for start, stop in bounds:
        shard = _shard_path(scratch, start, stop)
        if not shard.exists():
            arrays = make(start, stop)
            _check_rows(arrays, start, stop)
            with atomic_file(shard) as part, open(part, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        on_shard(stop - start)
        if should_stop():
            raise KeyboardInterrupt
    _merge_shards(folder, [_shard_path(scratch, *bound) for bound in bounds], bounds, rows)


def _merge_shards(folder: Path, shards: list[Path], bounds: list[tuple[int, int]], rows: int) -> None:
    merged: Arrays = {}
    for path, (start, stop) in zip(shards, bounds, strict=True):
        with np.load(path) as shard:
            for name in shard.files:
                part = shard[name]
                if name not in merged:
                    merged[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", mode="w+", dtype=part.dtype, shape=(rows, *part.shape[1:])
                    )
                merged[name][start:stop] = part


def _shard_path(scratch: Path, start: int, stop: int) -> Path:
    return scratch / f"{start:09d}-{stop:09d}.npz"


def _check_rows(arrays: Arrays, start: int, stop: int) -> None:
    for name, array in arrays.items():
        if len(array) != stop - start:
            raise ValueError(f"{name} has {len(array)} rows for the rows {start} to {stop}")
