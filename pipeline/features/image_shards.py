"""Arrays made from the images of a split, in shards, without the images that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from pipeline.artifacts import write_json
from pipeline.features.store import Arrays, shard_path, write_sharded
from pipeline.images.batches import OnBad
from pipeline.images.rejection import Rejections
from pipeline.images.split import Split
from pipeline.task_context import TaskContext

MakeImages = Callable[[int, int, OnBad], Arrays]


def write_image_shards(
    task: TaskContext, split: Split, shard_rows: int, make: MakeImages, ragged: bool = False
) -> None:
    """Write the arrays of `make(start, stop, on_bad)` as `write_sharded` does, and rejected.csv beside them.

    `make` calls on_bad(position from `start` on, reason) for an image that cannot be read, and returns something for it
    all the same. Finished shards of a killed run are used again, except those without an image that can be read now.
    """
    rejections = Rejections(split, task.folder)
    _forget_restored(task, rejections)
    work = partial(_make_noted, task=task, rejections=rejections, make=make)
    write_sharded(task, len(split), shard_rows, work, "photographs", ragged)
    rejections.write(task)


def _make_noted(start: int, stop: int, task: TaskContext, rejections: Rejections, make: MakeImages) -> Arrays:
    """The arrays of a shard; the images that it lacks are noted beside it, for when it is used again."""
    noted: dict[int, str] = {}

    def on_bad(position: int, reason: str) -> None:
        noted[start + position] = reason
        rejections.add(start + position, reason)

    arrays = make(start, stop, on_bad)
    write_json(task.scratch / f"rejected-{start:09d}-{stop:09d}.json", noted)
    return arrays


def _forget_restored(task: TaskContext, rejections: Rejections) -> None:
    """Delete the shards that lack an image which can be read now; leave out what the others lack."""
    for path in sorted(task.scratch.glob("rejected-*.json")):
        noted = {int(position): reason for position, reason in json.loads(path.read_text(encoding="utf-8")).items()}
        start, stop = map(int, path.stem.split("-")[1:])
        if any(rejections.can_be_read(position) for position in noted):
            shard_path(task.scratch, start, stop).unlink(missing_ok=True)
        else:
            rejections.add_unreadable(noted)
