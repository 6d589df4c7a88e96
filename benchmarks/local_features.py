"""Reading local features beside an HDF5 file with one group a photograph, in one process.

    python -m benchmarks.local_features
    python -m benchmarks.local_features --photographs 200 --keypoints 500

Both sides of random pairs are read, from files that the system has in its cache. The rival's groups hold keypoints,
scores and descriptors in float16, the common layout of published feature files; it gives them as float32. Ours gives
float32 unit vectors, and scales besides. Rounds go through all ways in turn, so that a busy machine slows all of
them; the best round of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

from pipeline.features.local_store import ENCODE, LocalFeatures, LocalStore, decode_descriptors, pack
from pipeline.features.store import write_ragged_in_shards

SHARD_ROWS = 50
Read = Callable[[int], object]


def make_features(row: int, keypoints: int) -> LocalFeatures:
    """Random features of one photograph."""
    random = np.random.default_rng(row)
    descriptors = random.standard_normal((keypoints, 128), dtype=np.float32)
    return LocalFeatures(
        random.random((keypoints, 2), np.float32) * 800,
        random.random(keypoints, np.float32),
        random.random(keypoints, np.float32),
        descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
    )


def write_store(folder: Path, photographs: int, keypoints: int, storage: str) -> LocalStore:
    """Our files, made in shards."""

    def make(start: int, stop: int) -> dict:
        return pack([make_features(row, keypoints) for row in range(start, stop)], storage)

    write_ragged_in_shards(folder, folder / "scratch", photographs, SHARD_ROWS, make)
    for shard in (folder / "scratch").iterdir():
        shard.unlink()
    return LocalStore(folder)


def write_groups(path: Path, photographs: int, keypoints: int) -> None:
    """The rival's file."""
    with h5py.File(path, "w") as file:
        for row in range(photographs):
            features, group = make_features(row, keypoints), file.create_group(f"{row:016x}.jpg")
            group["keypoints"] = features.points.astype(np.float16)
            group["scores"] = features.attention.astype(np.float16)
            group["descriptors"] = features.descriptors.astype(np.float16)


def read_group(file: h5py.File, row: int, convert: bool = True) -> list:
    """The arrays of a photograph's group, as float32 on demand; torch converts quicker than numpy, which is kinder."""
    group = file[f"{row:016x}.jpg"]
    arrays = [group[name][()] for name in ("keypoints", "scores", "descriptors")]
    return [torch.from_numpy(array).float() for array in arrays] if convert else arrays


def open_and_read(path: Path, row: int) -> list:
    """The same, the file opened for this photograph alone."""
    with h5py.File(path, "r") as file:
        return read_group(file, row)


def read_stored(store: LocalStore, row: int) -> LocalFeatures:
    """The bytes of a photograph, its descriptors not decoded."""
    at = store._slice(row)
    return LocalFeatures(
        *(array[at].copy() for array in (store._points, store._scales, store._attention, store._descriptors))
    )


def decode_again(stored: np.ndarray, row: int) -> np.ndarray:
    """The decoding of the same descriptors, whatever the row."""
    return decode_descriptors(stored)


def read_in_threads(read: Read, rows: list[int], threads: int) -> None:
    """Read all rows, each thread its share."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda start: read_all(read, rows[start::threads]), range(threads)))


def read_all(read: Read, rows: list[int]) -> None:
    """Read the rows one after the other, keeping none."""
    for row in rows:
        read(row)


def best_milliseconds(ways: dict[str, Callable[[], None]], reads: int, rounds: int) -> dict[str, float]:
    """The least milliseconds a photograph of each way over the rounds."""
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], 1000 * (time.perf_counter() - start) / reads)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=1_000)
    parser.add_argument("--keypoints", type=int, default=1_000, help="of a photograph")
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # for the rival's small arrays more cost more

    rows = np.random.default_rng(0).integers(0, asked.photographs, 2 * asked.pairs).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {
            storage: write_store(folder / storage, asked.photographs, asked.keypoints, storage) for storage in ENCODE
        }
        path = folder / "groups.h5"
        write_groups(path, asked.photographs, asked.keypoints)
        with h5py.File(path, "r") as file:
            reads: dict[str, Read] = {
                "HDF5, opened once": partial(read_group, file),
                "HDF5, opened once, not converted": partial(read_group, file, convert=False),
                "HDF5, opened every time": partial(open_and_read, path),
            }
            for storage, store in stores.items():
                reads[f"ours, {storage}"] = store.__getitem__
                reads[f"ours, {storage}, not decoded"] = partial(read_stored, store)
                stored = store.stored_descriptors(0).copy()
                reads[f"ours, {storage}, decoding alone"] = partial(decode_again, stored)
            ways: dict[str, Callable[[], None]] = {name: partial(read_all, read, rows) for name, read in reads.items()}
            for name in ("HDF5, opened once", "ours, float16"):
                ways[f"{name}, {asked.threads} threads"] = partial(read_in_threads, reads[name], rows, asked.threads)
            taken = best_milliseconds(ways, len(rows), asked.rounds)
        print_table(taken)
        print()
        for storage in ENCODE:
            size = sum(part.stat().st_size for part in (folder / storage).glob("*.npy"))
            print(f"{storage:8s} {size / 1e6:8.1f} MB")
        print(f"{'HDF5':8s} {path.stat().st_size / 1e6:8.1f} MB")


def print_table(taken: dict[str, float]) -> None:
    """Milliseconds a photograph, and how many times as long both rivals take."""
    once, anew = taken["HDF5, opened once"], taken["HDF5, opened every time"]
    print(f"{'':34s} ms/photograph  opened once / this  opened every time / this")
    for name, milliseconds in taken.items():
        print(f"{name:34s} {milliseconds:13.4f} {once / milliseconds:19.1f} {anew / milliseconds:25.1f}")


if __name__ == "__main__":
    main()
