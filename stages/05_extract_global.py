"""Stage 05: the global descriptors of every split, by every model."""

from __future__ import annotations

import sys

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.tasks.extraction import Extraction, global_task


def tasks(config: Config) -> list[Task]:
    """One artifact per model and split: new test images leave the train descriptors unchanged."""
    return [
        global_task(layout.descriptors(name, split), Extraction(layout.final_network(name), name, split), config)
        for name in config.models
        for split in config.splits
    ]


STAGE = Stage(layout.EXTRACT_GLOBAL, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
