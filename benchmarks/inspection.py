"""Stage 01 at the size of GLDv2: headers per second and core, and the memory of the tables of 4.1 million photographs.

    python -m benchmarks.inspection                     20,000 small JPEGs, and a train.csv of 4,132,914 lines
    python -m benchmarks.inspection --files 2000 --rows 100000

The files lie in a temporary folder, below --folder if given: their headers come from the page cache, so that what is
measured is the processor; beside it stands how fast the disk reads the first and last pages of files that are not
cached (they are dropped from the cache first). The slower of the two bounds a run on that disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.record import add_json_argument, measure_apart, publish
from pipeline.competition.dataset import SplitListing
from pipeline.competition.gldv2 import read_gldv2
from pipeline.images.file_ends import HEAD_BYTES, TAIL_BYTES
from pipeline.images.inspection import Limits, inspect_photograph
from pipeline.images.split_table import divide_split
from pipeline.images.survey import SMALL_FILES, survey_splits
from pipeline.memory import read_peak
from pipeline.processes import available_cores
from pipeline.settings import DataSettings
from pipeline.task_context import TaskContext

GLDV2 = 4_132_914  # photographs of train
LIMITS = Limits(8, 20_000, 100_000_000)


def write_files(folder: Path, count: int) -> SplitListing:
    """`count` JPEGs of 512 x 384 pixels, of 16 contents, in folders of a thousand."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(16):
        coarse = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        contents.append(cv2.imencode(".jpg", cv2.resize(coarse, (512, 384)))[1].tobytes())
    paths = [f"{row // 1000:04d}/{row:07d}.jpg" for row in range(count)]
    for row, path in enumerate(paths):
        if row % 1000 == 0:
            (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(contents[row % 16])
    return SplitListing([f"{row:016x}" for row in range(count)], paths)


def measure(work: Callable[[], object]) -> float:
    """The seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def read_ends_uncached(folder: Path, paths: list[str]) -> float:
    """The seconds to read what an inspection reads of files that the page cache lacks."""
    os.sync()
    for path in paths:
        with open(folder / path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read() -> None:
        for path in paths:
            with open(folder / path, "rb", buffering=0) as file:
                size = len(os.pread(file.fileno(), HEAD_BYTES, 0))
                if size == HEAD_BYTES:
                    os.pread(file.fileno(), TAIL_BYTES, max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))

    return measure(read)


def inspect_all(folder: Path, split: SplitListing, cores: int, decode: bool) -> None:
    """The work of stage 01 on this split, without writing its table."""
    with tempfile.TemporaryDirectory() as scratch:
        task = TaskContext(Path(scratch), workers=cores)
        task.scratch.mkdir()
        survey_splits(task, folder, {"train": split}, DataSettings(strict_decode=decode))


def measure_speed(folder: Path, count: int) -> list[dict[str, Any]]:
    """Files per second: of one core, of all, decoded, and of the disk."""
    split, cores = write_files(folder, count), available_cores()
    look = partial(inspect_photograph, limits=LIMITS)
    some = split.paths[: max(count // 10, 1)]
    pairs = SplitListing(split.ids[: len(some)], some)
    seconds = {
        "one core": len(some) / measure(lambda: [look(folder / path) for path in some]),
        f"{cores} cores, in shards" if count >= SMALL_FILES else "in shards": count
        / measure(lambda: inspect_all(folder, split, cores, False)),
        "decoded too": len(some) / measure(lambda: inspect_all(folder, pairs, cores, True)),
        "disk, one reader": len(some) / read_ends_uncached(folder, some),
    }
    title = f"minutes for {GLDV2:,}"
    return [{"by": name, "files a second": rate, title: GLDV2 / rate / 60} for name, rate in seconds.items()]


def tabulate(rows: int) -> dict[str, Any]:
    """Read a train.csv of so many lines and make the table of it, as stage 01 does: time and peak memory."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with open(root / "train.csv", "w", encoding="utf-8") as file:
            file.write("id,landmark_id\n")
            file.writelines(f"{row:016x},{row % 203_094}\n" for row in range(rows))
        before, begun = read_peak(), time.perf_counter()
        split = read_gldv2(root, "nested", ("train",)).splits["train"]
        read = time.perf_counter()
        sizes = np.tile(np.array([640, 480, 90_000]), (rows, 1))
        good, _ = divide_split(root, split, sizes, dict.fromkeys(range(0, rows, 1000), "no such file"))
        good.to_parquet(root / "train.parquet", index=False)
        done = time.perf_counter()
    figures = {"rows": rows, "read, s": read - begun, "written, s": done - read}
    return figures | {"at the peak, MB": read_peak() / 1e6, "of them before it": before / 1e6}


def main() -> None:
    """All figures; the table is made in a process of its own, so that its peak is its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000, help="JPEGs (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=GLDV2, help="lines of the table (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: that of temporary files)")
    add_json_argument(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        speed = measure_speed(Path(folder), given.files)
    publish({"files": speed, "tables": [measure_apart(tabulate, given.rows)]}, given.json)


if __name__ == "__main__":
    main()
