"""Stage 05: the global descriptors of every split, by every model."""

from __future__ import annotations

import sys

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.tasks.extraction import Extraction, external_task, global_task, same_images_task


def tasks(config: Config) -> list[Task]:
    """One artifact per model and split: new test images leave the train descriptors unchanged."""
    return [describe_task(config, name, split) for name in config.models for split in config.splits]


def describe_task(config: Config, name: str, split: str) -> Task:
    """The descriptors of a split: by a network, taken from a folder, or those of the same images as index."""
    artifact = layout.descriptors(name, split)
    if split == "test" and config.data.is_searched_in_itself:
        return same_images_task(artifact, layout.descriptors(name, "index"))
    if config.models[name].is_network:
        return global_task(artifact, Extraction(layout.final_network(name), name, split), config)
    return external_task(artifact, name, split, config)


STAGE = Stage(layout.EXTRACT_GLOBAL, version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
