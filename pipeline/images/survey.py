"""Inspecting the files of whole splits: by all processes, in shards that survive a kill, until too many are rejected.

First the headers and ends of all files are read. Then, where a setting asks for it or all of it takes about a minute,
every pixel is decoded. So a data folder in which much is missing is refused before the long work begins.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.arrays import Integers
from pipeline.artifacts import atomic_file
from pipeline.competition.dataset import SplitListing
from pipeline.errors import PipelineError
from pipeline.images.inspection import (
    Inspection,
    Limits,
    Tolerance,
    inspect_photograph,
    name_rejected,
    too_many_rejected,
)
from pipeline.images.split_table import divide_split
from pipeline.processes import start_workers
from pipeline.settings import DataSettings
from pipeline.task_context import TaskContext

SHARD = 16_384  # files whose inspection a kill can cost
CHUNK = 128  # files that a worker inspects at a time
SMALL_FILES = 2_048  # fewer files are inspected in this process, because starting workers would take longer …
SMALL_PIXELS = 200_000_000  # … and fewer pixels are decoded in it
DECODED_PIXELS = 4_000_000_000  # "auto" decodes no more: a minute of one core. No clock may decide what is rejected
REJECTED = "rejected.csv"
log = logging.getLogger("cairn.images")  # below the project's logger, so that it reaches log.txt
Check = Callable[[Path], Inspection]
CheckAll = Callable[[list[list[Path]]], Iterator[list[Inspection]]]


@dataclass(frozen=True)
class Findings:
    """What was found about n consecutive files of a split.

    sizes: (n, 3) int64, width, height and bytes, 0 where a file is rejected. reasons: position -> why it is rejected.
    """

    sizes: Integers
    reasons: dict[int, str]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def pixels(self) -> int:
        """The pixels of all accepted images together."""
        return int((self.sizes[:, 0] * self.sizes[:, 1]).sum())

    @classmethod
    def collect(cls, inspections: Sequence[Inspection]) -> Findings:
        """The findings about these files."""
        sizes = [(one.width, one.height, one.bytes) for one in inspections]
        reasons = {position: one.reason for position, one in enumerate(inspections) if one.reason}
        return cls(np.array(sizes, np.int64).reshape(-1, 3), reasons)

    @classmethod
    def join(cls, parts: Sequence[Findings]) -> Findings:
        """The findings about consecutive groups of files."""
        reasons: dict[int, str] = {}
        start = 0
        for part in parts:
            reasons |= {start + position: reason for position, reason in part.reasons.items()}
            start += len(part)
        return cls(np.concatenate([np.zeros((0, 3), np.int64), *(part.sizes for part in parts)]), reasons)

    def revise(self, position: int, one: Inspection) -> None:
        """Replace what was found about a rejected file."""
        self.sizes[position] = one.width, one.height, one.bytes
        del self.reasons[position]
        if one.reason:
            self.reasons[position] = one.reason

    def save(self, path: Path) -> None:
        """Write the findings, atomically."""
        rejected = np.array(list(self.reasons), np.int64)
        with atomic_file(path) as part, open(part, "wb") as file:
            np.savez(file, sizes=self.sizes, rejected=rejected, reasons=np.array(list(self.reasons.values()), str))

    @classmethod
    def load(cls, path: Path) -> Findings:
        """The findings that `save` wrote."""
        with np.load(path) as stored:
            reasons = dict(zip(stored["rejected"].tolist(), stored["reasons"].tolist(), strict=True))
            return cls(stored["sizes"], reasons)


def survey_splits(
    task: TaskContext, root: Path, splits: Mapping[str, SplitListing], settings: DataSettings
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The accepted and the rejected images of every split, as `divide_split` returns them; also writes rejected.csv.

    Shards of an earlier call that was killed are used again, but files that they reject are inspected again, since they
    may have been repaired. When the task should stop, KeyboardInterrupt is raised after a chunk.
    Raises PipelineError with exit code 3 for a split of which more files are rejected than the settings tolerate, as
    soon as so many are found; and for a box that lies outside its image.
    """
    limits = Limits(settings.min_side_px, settings.max_side_px, settings.max_pixels)
    surveyor = Surveyor(task, root, splits, settings.max_bad_fraction)
    if not settings.photographs:
        log.info("data.photographs = false: no photograph is looked for")
        return surveyor.divide()
    files = sum(len(split.paths) for split in splits.values())
    surveyor.inspect("headers", partial(inspect_photograph, limits=limits), files >= SMALL_FILES)
    pixels = sum(found.pixels for found in {id(found): found for found in surveyor.found.values()}.values())
    decodes = settings.strict_decode is True or (settings.strict_decode == "auto" and pixels <= DECODED_PIXELS)
    if decodes:
        surveyor.inspect("pixels", partial(inspect_photograph, limits=limits, decode=True), pixels >= SMALL_PIXELS)
        log.info("every pixel of %d files was decoded", files)
    else:
        log.info(
            "of %d files the headers and ends were checked (of GIF and BMP only the headers), not their %d million "
            "pixels: damage inside a file is found when it is first used; data.strict_decode = true decodes all now",
            files,
            pixels // 1_000_000,
        )
    task.facts["checked"] = "pixels" if decodes else "headers and ends"
    return surveyor.divide()


class Surveyor:
    """Inspects the files of all splits. found: the latest findings of each split, at first files of size 0."""

    def __init__(self, task: TaskContext, root: Path, splits: Mapping[str, SplitListing], max_fraction: float):
        self.task, self.root, self.splits, self.max_fraction = task, root, splits, max_fraction
        self.found = {name: Findings(np.zeros((len(split.paths), 3), np.int64), {}) for name, split in splits.items()}

    def inspect(self, what: str, check: Check, in_parallel: bool) -> None:
        """Run the check over the files of every split. what: names the shards, so that those of two checks differ."""
        inspected: dict[int, Findings] = {}
        with Workers(self.task.workers if in_parallel else 1) as workers:
            for name, split in self.splits.items():
                if id(split) in inspected:  # of a folder that is searched in itself, two splits are one listing
                    self.found[name] = inspected[id(split)]
                    continue
                tolerance = Tolerance(name, len(split.paths), 0, self.max_fraction)
                with self.task.progress(len(split.paths), f"{name} files ({what})") as bar:
                    shards = Shards(self.task, f"{what}-{name}", partial(workers.map, check), bar.update)
                    self.found[name] = inspected[id(split)] = shards.inspect(self.root, split.paths, tolerance)
                if tolerance.is_exceeded_by(len(self.found[name].reasons)):
                    raise self._refuse(tolerance)

    def divide(self) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
        """The accepted and the rejected images of every split; writes rejected.csv."""
        self._write_rejected()
        return {
            name: divide_split(self.root, split, self.found[name].sizes, self.found[name].reasons)
            for name, split in self.splits.items()
        }

    def _write_rejected(self) -> Path:
        """Write every file rejected so far, with the columns split, id, path, reason."""
        lines = [
            (name, self.splits[name].ids[at], self.splits[name].paths[at], reason)
            for name, found in self.found.items()
            for at, reason in found.reasons.items()
        ]
        path = self.task.folder / REJECTED
        pd.DataFrame(lines, columns=["split", "id", "path", "reason"]).to_csv(path, index=False)
        return path

    def _refuse(self, tolerance: Tolerance) -> PipelineError:
        split, found = self.splits[tolerance.split], self.found[tolerance.split]
        first = name_rejected([split.paths[at] for at in found.reasons], list(found.reasons.values()))
        stopped = len(found) < tolerance.files
        looked = f"the first {len(found)} of {tolerance.files}" if stopped else str(tolerance.files)
        what = f"{len(found.reasons)} of {looked} files of {tolerance.split} are not readable photographs ({first})"
        return too_many_rejected(tolerance, what, self._write_rejected())


class Shards:
    """The inspection of one split in shards, each a file in the task's scratch folder, called `name` and its start."""

    def __init__(self, task: TaskContext, name: str, check_all: CheckAll, on_progress: Callable[[int], object]):
        self.task, self.name, self.check_all, self.on_progress = task, name, check_all, on_progress

    def inspect(self, root: Path, paths: Sequence[str], tolerance: Tolerance) -> Findings:
        """The findings about these files, or about the first of them if more are rejected than tolerated."""
        shards: list[Findings] = []
        rejected = 0
        for start in range(0, len(paths), SHARD):
            wanted = [root / path for path in paths[start : start + SHARD]]
            shards.append(self._inspect_shard(start, wanted, replace(tolerance, rejected=rejected)))
            rejected += len(shards[-1].reasons)
            if tolerance.is_exceeded_by(rejected):
                break
        return Findings.join(shards)

    def _inspect_shard(self, start: int, paths: list[Path], tolerance: Tolerance) -> Findings:
        stored = self.task.scratch / f"{self.name}-{start:09d}.npz"
        if stored.exists():
            return self._look_again(stored, paths)
        found = Findings.collect(self._inspect(paths, tolerance))
        if len(found) == len(paths):
            found.save(stored)
        return found

    def _inspect(self, paths: list[Path], tolerance: Tolerance) -> list[Inspection]:
        """The inspections of these files, or of the first of them if more are rejected than tolerated."""
        inspections: list[Inspection] = []
        rejected = 0
        for chunk in self.check_all([paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]):
            inspections += chunk
            rejected += sum(bool(one.reason) for one in chunk)
            self.on_progress(len(chunk))
            if tolerance.is_exceeded_by(rejected):
                break
            if self.task.should_stop():
                raise KeyboardInterrupt
        return inspections

    def _look_again(self, stored: Path, paths: list[Path]) -> Findings:
        """The stored findings, those about rejected files made again."""
        found = Findings.load(stored)
        self.on_progress(len(paths))
        rejected = list(found.reasons)
        chunks = [rejected[start : start + CHUNK] for start in range(0, len(rejected), CHUNK)]
        inspected = self.check_all([[paths[position] for position in chunk] for chunk in chunks])
        for position, one in zip(rejected, itertools.chain.from_iterable(inspected), strict=True):
            found.revise(position, one)
        found.save(stored)
        return found


class Workers:
    """Processes that check files, started when they are first needed; with a count of 1 this process checks them."""

    def __init__(self, count: int):
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, check: Check, chunks: list[list[Path]]) -> Iterator[list[Inspection]]:
        """The inspections of every chunk of files, in order."""
        work = partial(_check_chunk, check)
        if self._count <= 1:
            return map(work, chunks)
        self._pool = self._pool or start_workers(self._count)
        return self._pool.map(work, chunks)


def _check_chunk(check: Check, paths: list[Path]) -> list[Inspection]:
    return [check(path) for path in paths]
