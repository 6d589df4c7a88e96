"""Stage 07: the local features of the photographs that stage 08 compares."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.extraction import Extraction, LocalSelection, local_task, same_images_task, threshold_task
from pipeline.tasks.inputs import compared_references, read_compared


def tasks(config: Config) -> list[Task]:
    """The threshold of attention, and one artifact per split; nothing where nothing is compared."""
    splits, model = config.verified_splits, config.local_model
    if not splits:
        return []
    network, threshold = layout.final_network(model), layout.attention_threshold(model)
    # Without a train set the threshold is found on images of the database: it needs no labels.
    calibrated = Extraction(network, model, "train" if config.data.has_train else "index")
    in_itself = config.data.is_searched_in_itself
    features = [
        local_task(
            layout.local_features(model, split), Extraction(network, model, split), threshold,
            select(config, split), config,
        )
        for split in (*splits, "test")[: 1 if in_itself else None]
    ]  # fmt: skip
    if in_itself:
        features.append(same_images_task(layout.local_features(model, "test"), layout.local_features(model, "index")))
    return [threshold_task(threshold, calibrated, config), *features]


def select(config: Config, split: str) -> LocalSelection:
    """The images of a split that are compared: of test all, which may be the images of index too."""
    if split == "test" or config.data.is_searched_in_itself:
        return LocalSelection(choose_all)
    settings = {"first": config.verify.first(split)}
    return LocalSelection(partial(choose_compared, split=split), tuple(compared_references(config, split)), settings)


def choose_all(task: TaskContext, config: Config, count: int) -> Any:
    """All images, (N,) bool."""
    import numpy as np

    return np.ones(count, np.bool_)


def choose_compared(task: TaskContext, config: Config, count: int, split: str) -> Any:
    """The images that some test image is compared with, (N,) bool."""
    import numpy as np

    return np.isin(np.arange(count), read_compared(task, config, split)[:, 1])


STAGE = Stage(layout.EXTRACT_LOCAL, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
