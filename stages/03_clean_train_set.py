"""Stage 03: the clean train set: images that verify against others of their landmark, or the given list."""

from __future__ import annotations

import sys

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.cleaning import correction_tasks, support_tasks
from pipeline.tasks.inputs import read_images
from pipeline.tasks.train_labels import choose_source, corrects_labels

TRAIN = layout.images("train")


def tasks(config: Config) -> list[Task]:
    """The list; where it is made here, before it the verified pairs, and after it the corrected labels, if asked."""
    source = choose_source(config)
    if source != "verify":
        return [Task(layout.CLEAN_LIST, copy_list, {"source": source}, (layout.GIVEN_CLEAN_LIST, TRAIN))]
    settings = {"source": source} | config.clean.kept_settings
    made = Task(layout.CLEAN_LIST, write_list, settings, (layout.CLEAN_PAIRS, TRAIN))
    return [*support_tasks(config), made, *(correction_tasks(config) if corrects_labels(config) else [])]


def write_list(task: TaskContext, config: Config) -> None:
    """Write train_clean.csv, and support.parquet: how many others support each image, and whether it is kept."""
    import pandas as pd

    from pipeline.matching.clean_list import make_clean_list

    pairs = pd.read_parquet(task.input(layout.CLEAN_PAIRS))
    task.facts |= make_clean_list(task.folder, read_images(task, "train"), pairs, config.clean)
    log.info("clean list: %(kept)d photographs of %(landmarks)d landmarks kept, %(dropped)d dropped", task.facts)


def copy_list(task: TaskContext, config: Config) -> None:
    """Write train_clean.csv: the list that came with the data, or none."""
    from pipeline.matching.clean_list import copy_clean_list

    given, source = task.input(layout.GIVEN_CLEAN_LIST), choose_source(config)
    task.facts |= copy_clean_list(task.folder, given, read_images(task, "train"), source)


STAGE = Stage(layout.CLEAN, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
