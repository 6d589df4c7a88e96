"""The nearest neighbours of one split in another, as an artifact: shards of queries, shared by the ranks of a task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Vectors
from pipeline.artifacts import atomic_file
from pipeline.distributed import Share
from pipeline.errors import PipelineError
from pipeline.features.store import Arrays, shard_bounds, shard_path, write_sharded
from pipeline.matching.gaps import Gaps
from pipeline.matching.knn import SearchOptions, search
from pipeline.matching.knn_parts import merge_parts, search_part
from pipeline.matching.neighbours import Neighbours
from pipeline.task_context import TaskContext

SHARD_ROWS = 65_536  # queries that a kill can cost; an approximate index, built again for each shard, has one shard
GPU_SHARD_ROWS = 262_144  # a GPU is given the base once a shard, and is done with one in seconds


@dataclass(frozen=True)
class NeighbourSearch:
    """What is searched, and how: the k nearest rows of `base` for every row of `queries`.

    gaps: the rows of both that are no images. in_itself: queries and base are the same; none is its own neighbour.
    """

    queries: Vectors
    base: Vectors
    k: int
    gaps: Gaps
    options: SearchOptions
    in_itself: bool = False

    @property
    def shard_rows(self) -> int:
        """Queries of a shard."""
        if self.options.index_factory != "Flat":
            return len(self.queries) or 1
        return SHARD_ROWS if self.options.device.type == "cpu" else GPU_SHARD_ROWS

    def find(self, start: int, stop: int) -> Neighbours:
        """The lists of the queries start to stop. Raises PipelineError for an index that faiss refuses."""
        try:
            return self._search(partial(search, options=self.options), start, stop)
        except ValueError as error:
            hint = "take Flat, or a faiss index_factory string that suits so many rows"
            where = f"search.index_factory = {self.options.index_factory}"
            raise PipelineError(str(error), where, hint) from error

    def find_in_part(self, start: int, stop: int, share: Share) -> Neighbours:
        """The lists of these queries in one part of the base."""
        return self._search(partial(search_part, share=share, device=self.options.device), start, stop)

    def _search(self, find: Any, start: int, stop: int) -> Neighbours:
        own = np.arange(start, stop) if self.in_itself else None
        asked = self.queries[start:stop]
        return self.gaps.within(start, stop).search(find, asked, self.base, self.k, own)


def write_neighbours(task: TaskContext, asked: NeighbourSearch, unit: str) -> None:
    """Write rows.npy (Q, k) int32 and similarities.npy (Q, k) float32; images without a descriptor are in no list.

    Several ranks each search parts of the base, so that there is work for all of them however few the queries are; the
    merged lists are the same bytes. Resumes after the last finished shard, or part of one.
    """
    count = len(asked.queries)

    def make(start: int, stop: int) -> Arrays:
        if task.ranks.count == 1:
            return asked.find(start, stop)._asdict()
        shares = [Share(number, task.ranks.count) for number in range(task.ranks.count)]
        parts = [_load_part(_part_path(task.scratch, start, stop, share)) for share in shares]
        return merge_parts(parts, asked.k)._asdict()

    if task.ranks.count > 1:
        _search_parts(task, asked)
    write_sharded(task, count, asked.shard_rows, make, unit)
    task.facts["rows"] = count


def _search_parts(task: TaskContext, asked: NeighbourSearch) -> None:
    """Search every part of the base for the queries of every shard that is not there yet. Returns when all have."""
    ranks, claims = task.ranks.count, task.ranks.open_counter()
    task.scratch.mkdir(parents=True, exist_ok=True)
    bounds = shard_bounds(len(asked.queries), asked.shard_rows)
    while (number := claims.claim()) < len(bounds) * ranks:
        (start, stop), share = bounds[number // ranks], Share(number % ranks, ranks)
        path = _part_path(task.scratch, start, stop, share)
        if not path.exists() and not shard_path(task.scratch, start, stop).exists():
            found = asked.find_in_part(start, stop, share)
            with atomic_file(path) as part, open(part, "wb") as file:
                np.savez(file, **found._asdict())
        task.stop_if_asked()
    task.ranks.wait_for_all(task.stop_if_asked)


def _part_path(scratch: Path, start: int, stop: int, share: Share) -> Path:
    return scratch / f"{start:09d}-{stop:09d}.part-{share.number}-of-{share.total}.npz"


def _load_part(path: Path) -> Neighbours:
    with np.load(path) as part:
        return Neighbours(part["rows"], part["similarities"])
