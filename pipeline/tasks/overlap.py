"""The task that lists near-duplicates of test photographs among train: a score with them tells less."""

from __future__ import annotations

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import read_images, read_neighbours


def overlap_tasks(config: Config) -> list[Task]:
    """One task; none where there is no train set."""
    if not config.data.has_train:
        return []
    inputs = (layout.neighbours("test", "train"), layout.images("test"), layout.images("train"))
    return [Task(layout.OVERLAP, write_overlap, config.search.model_dump(include={"overlap_similarity"}), inputs)]


def write_overlap(task: TaskContext, config: Config) -> None:
    """Write overlap.csv: test, train, landmark, similarity of each pair of near-duplicates."""
    import pandas as pd

    from pipeline.matching.overlap import find_overlap

    test, train = read_images(task, "test"), read_images(task, "train")
    found = find_overlap(read_neighbours(task, "test", "train"), config.search.overlap_similarity)
    pairs = {
        "test": test["id"].to_numpy()[found.test_rows],
        "train": train["id"].to_numpy()[found.train_rows],
        "landmark": train["landmark"].to_numpy()[found.train_rows],
        "similarity": found.similarities,
    }
    table = pd.DataFrame(pairs)
    table.to_csv(task.folder / "overlap.csv", index=False, float_format="%.6f")
    task.facts |= {"test": int(table["test"].nunique()), "train": int(table["train"].nunique())}
    if len(table):
        log.warning("%d test photographs have near-duplicates in train: overlap.csv lists them", task.facts["test"])
