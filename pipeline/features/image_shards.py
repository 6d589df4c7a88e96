"""Arrays made from the images of a split, in shards, without the images that cannot be read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.arrays import Integers, Mask
from pipeline.artifacts import write_json
from pipeline.features.row_reuse import ROW_KEYS, PublishedRows, key_rows
from pipeline.features.store import Arrays, shard_path, write_sharded
from pipeline.images.batch_loader import OnBad
from pipeline.images.rejection import Rejections
from pipeline.images.split import Split
from pipeline.task_context import TaskContext

log = logging.getLogger("cairn.features")  # below the project's logger, so that it reaches log.txt
MakeImages = Callable[[Integers, OnBad], Arrays]


def write_image_shards(
    task: TaskContext,
    split: Split,
    shard_rows: int,
    make: MakeImages,
    ragged: bool = False,
    wanted: Mask | None = None,
) -> None:
    """Write the arrays of `make(rows, on_bad)` as `write_sharded` does, and rejected.csv beside them.

    `make` calls on_bad(position in rows, reason) for an image that cannot be read, and returns something for it all the
    same. Finished shards of a killed run are used again, except those without an image that can be read now.
    wanted: (N,), images that are not make nothing. Rows of the published artifact are taken over where the split has
    digests: see row_reuse.py.
    """
    rejections = Rejections(split, task.folder)
    if task.ranks.is_first:
        _forget_restored(task, rejections)
    task.ranks.wait_for_all(task.stop_if_asked)
    published = _open_published(task, split, wanted) if split.digests is not None else None
    work = partial(_make_noted, task=task, rejections=rejections, make=make, published=published)
    write_sharded(task, len(split), shard_rows, work, "photographs", ragged)
    _add_noted(task, rejections)
    rejections.write(task)


def _open_published(task: TaskContext, split: Split, wanted: Mask | None) -> PublishedRows | None:
    """The rows that can be taken over, if there are any; also writes the keys of the rows."""
    keys = key_rows(split, wanted)
    if task.ranks.is_first:
        np.save(task.folder / ROW_KEYS, keys)
    if task.previous is None or not (task.previous / ROW_KEYS).exists():
        return None
    published = PublishedRows(task.previous, split, keys)
    task.facts["taken_over"] = published.count
    log.info("%d of %d photographs are unchanged: their rows are taken over", published.count, len(split))
    return published


def _make_noted(
    start: int,
    stop: int,
    task: TaskContext,
    rejections: Rejections,
    make: MakeImages,
    published: PublishedRows | None,
) -> Arrays:
    """The arrays of a shard; the images that it lacks are noted beside it, for when it is used again."""
    noted: dict[int, str] = {}

    def make_rows(rows: Integers) -> Arrays:
        def on_bad(position: int, reason: str) -> None:
            noted[int(rows[position])] = reason
            rejections.add(int(rows[position]), reason)

        return make(rows, on_bad)

    arrays = published.complete(start, stop, make_rows) if published else make_rows(np.arange(start, stop))
    write_json(task.scratch / f"rejected-{start:09d}-{stop:09d}.json", noted)
    return arrays


def _forget_restored(task: TaskContext, rejections: Rejections) -> None:
    """Delete the shards that lack an image which can be read now; leave out what the others lack."""
    for path, noted in _read_notes(task):
        if any(rejections.can_be_read(position) for position in noted):
            shard_path(task.scratch, *map(int, path.stem.split("-")[1:])).unlink(missing_ok=True)
        else:
            rejections.add_unreadable(noted)


def _add_noted(task: TaskContext, rejections: Rejections) -> None:
    """Leave out what the shards of other ranks lack. Raises PipelineError when too many images are left out."""
    for _, noted in _read_notes(task) if task.ranks.count > 1 else ():
        for position, reason in noted.items():
            rejections.add(position, reason)


def _read_notes(task: TaskContext) -> Iterator[tuple[Path, dict[int, str]]]:
    """The file that lies beside each shard, and the images that the shard lacks: position -> reason."""
    for path in sorted(task.scratch.glob("rejected-*.json")):
        noted = json.loads(path.read_text(encoding="utf-8"))
        yield path, {int(position): reason for position, reason in noted.items()}
