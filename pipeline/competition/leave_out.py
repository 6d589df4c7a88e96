"""Train photographs that are left out because a list names them, such as near-duplicates of what is asked."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from pipeline.competition.dataset import Dataset, SplitListing
from pipeline.competition.records import read_header, read_records
from pipeline.errors import PipelineError

log = logging.getLogger("cairn.competition")
COLUMN = "train"  # of a list of near-duplicates; a list of ids alone may call it id


def read_leave_out(path: Path) -> set[str]:
    """The ids in the column `train`, else `id`, of a CSV. Raises PipelineError where it is missing or has neither."""
    column = COLUMN if COLUMN in read_header(path) else "id"
    return {image_id for _, (image_id,) in read_records(path, (column,))}


def leave_out(dataset: Dataset, path: Path) -> Dataset:
    """The dataset without the train photographs that the list names.

    Other ids of the list are ignored: it may be of another release. Raises PipelineError where no photograph is left.
    """
    named, train = read_leave_out(path), dataset.splits["train"]
    kept = [at for at, image_id in enumerate(train.ids) if image_id not in named]
    if train.ids and not kept:
        hint = "it should name near-duplicates only"
        raise PipelineError("the list leaves out every photograph of train", path, hint)
    landmarks = None if train.landmarks is None else [train.landmarks[at] for at in kept]
    ids, paths = ([values[at] for at in kept] for values in (train.ids, train.paths))
    listing = SplitListing(ids, paths, landmarks, {name: box for name, box in train.boxes.items() if name not in named})
    log.info("train: %d of %d photographs left out by %s", len(train.ids) - len(kept), len(train.ids), path)
    return replace(dataset, splits={**dataset.splits, "train": listing})
