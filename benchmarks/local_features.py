"""Reading local features compared with an HDF5 file with one group per image, in one process.

    python -m benchmarks.local_features
    python -m benchmarks.local_features --images 200 --keypoints 500

Both sides of random pairs are read, from files in the page cache. The groups of the baseline hold keypoints, scores and
descriptors in float16, the common layout of published feature files; they are converted to float32. Ours returns
L2-normalised float32 vectors, and scales as well. Every round runs each method once, so that a busy machine slows all
of them; the best round of each counts, in processor time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.record import add_json_argument, publish
from benchmarks.rivals import best_seconds, use_one_thread
from pipeline.features.local_store import ENCODE, LocalFeatures, LocalStore, decode_descriptors, pack
from pipeline.features.store import write_ragged_in_shards

SHARD_ROWS = 50
Read = Callable[[int], object]


def make_features(row: int, keypoints: int) -> LocalFeatures:
    """Random features of one image."""
    random = np.random.default_rng(row)
    descriptors = random.standard_normal((keypoints, 128), dtype=np.float32)
    return LocalFeatures(
        random.random((keypoints, 2), np.float32) * 800,
        random.random(keypoints, np.float32),
        random.random(keypoints, np.float32),
        descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
    )


def write_store(folder: Path, images: int, keypoints: int, storage: str) -> LocalStore:
    """Write our files in shards and open them."""

    def make(start: int, stop: int) -> dict:
        return pack([make_features(row, keypoints) for row in range(start, stop)], storage)

    write_ragged_in_shards(folder, folder / "scratch", images, SHARD_ROWS, make)
    for shard in (folder / "scratch").iterdir():
        shard.unlink()
    return LocalStore(folder)


def write_groups(path: Path, images: int, keypoints: int) -> None:
    """Write the file of the baseline."""
    with h5py.File(path, "w") as file:
        for row in range(images):
            features, group = make_features(row, keypoints), file.create_group(f"{row:016x}.jpg")
            group["keypoints"] = features.points.astype(np.float16)
            group["scores"] = features.attention.astype(np.float16)
            group["descriptors"] = features.descriptors.astype(np.float16)


def read_group(file: h5py.File, row: int, convert: bool = True) -> list:
    """The arrays of an image's group, as float32 if `convert`; by torch, which converts faster than numpy."""
    group = file[f"{row:016x}.jpg"]
    arrays = [group[name][()] for name in ("keypoints", "scores", "descriptors")]
    return [torch.from_numpy(array).float() for array in arrays] if convert else arrays


def open_and_read(path: Path, row: int) -> list:
    """The same, with the file opened only for this image."""
    with h5py.File(path, "r") as file:
        return read_group(file, row)


def read_stored(store: LocalStore, row: int) -> LocalFeatures:
    """The stored arrays of an image, its descriptors not decoded."""
    at = store._slice(row)
    return LocalFeatures(
        *(array[at].copy() for array in (store._points, store._scales, store._attention, store._descriptors))
    )


def decode_again(stored: np.ndarray, row: int) -> np.ndarray:
    """The decoded descriptors; the same for every row."""
    return decode_descriptors(stored)


def read_all(read: Read, rows: list[int]) -> None:
    """Read the rows one after another and discard them."""
    for row in rows:
        read(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--keypoints", type=int, default=1_000, help="per image")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_argument(parser)
    asked = parser.parse_args()
    use_one_thread()  # more threads only slow the baseline's small arrays down

    rows = np.random.default_rng(0).integers(0, asked.images, 2 * asked.pairs).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {storage: write_store(folder / storage, asked.images, asked.keypoints, storage) for storage in ENCODE}
        path = folder / "groups.h5"
        write_groups(path, asked.images, asked.keypoints)
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
                reads[f"ours, {storage}, only decoding"] = partial(decode_again, stored)
            methods: dict[str, Callable[[], None]] = {
                name: partial(read_all, read, rows) for name, read in reads.items()
            }
            seconds = best_seconds(methods, asked.rounds)
            taken = {name: 1000 * value / len(rows) for name, value in seconds.items()}
        files = {name: [*(folder / name).glob("*.npy")] for name in ENCODE} | {"HDF5": [path]}
        disk = {name: sum(part.stat().st_size for part in parts) / 1e6 for name, parts in files.items()}
    once, reopened = taken["HDF5, opened once"], taken["HDF5, opened every time"]
    read = [
        {"read": name, "ms an image": each, "opened once / this": once / each, "every time / this": reopened / each}
        for name, each in taken.items()
    ]
    tables = {
        f"{asked.images} images of {asked.keypoints} keypoints, best of {asked.rounds} rounds": read,
        "on disk": [{"stored as": name, "MB": size} for name, size in disk.items()],
    }
    ratios = {f"local features ({name}), HDF5 file kept open": once / taken[f"ours, {name}"] for name in ENCODE}
    publish(tables, asked.json, ratios=ratios)


if __name__ == "__main__":
    main()
