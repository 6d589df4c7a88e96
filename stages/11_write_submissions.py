"""Stage 11: the two submission files, validated against the competition's rules; a benchmark has none."""

from __future__ import annotations

import sys

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import read_images, read_landmark_names


def tasks(config: Config) -> list[Task]:
    """One artifact; none when the data is a benchmark."""
    if config.data.is_benchmark:
        return []
    tables = [layout.images(split) for split in ("train", "index", "test")]
    inputs = (layout.ranking("recipe"), layout.RECOGNITION, *tables, layout.REJECTED, layout.LANDMARK_NAMES)
    settings = {"submit": config.submit.model_dump(), "last_step": last_step(config)}
    return [Task(layout.SUBMIT, write_submissions, settings, inputs)]


def last_step(config: Config) -> str:
    """The file name of the last step of the recipe."""
    return f"{len(config.rerank.recipe) - 1}_{config.rerank.recipe[-1]}"


def write_submissions(task: TaskContext, config: Config) -> None:
    """Write retrieval.csv and recognition.csv; a rejected test photograph gets its row too, empty.

    Where landmarks have names, recognition_names.csv says the same for a person.
    """
    import numpy as np
    import pandas as pd

    from pipeline.competition import submission

    tables = {split: read_images(task, split) for split in ("train", "index", "test")}
    rejected = pd.read_csv(task.input(layout.REJECTED), dtype=str, keep_default_na=False)
    missing = rejected.loc[rejected["split"] == "test", "id"].tolist()
    test_ids, index_ids = tables["test"]["id"].tolist() + missing, tables["index"]["id"].tolist()
    rows = np.load(task.input(layout.ranking("recipe")) / f"{last_step(config)}.rows.npy")
    answers = pd.read_parquet(task.input(layout.RECOGNITION))
    labels, scores = answers["labels"].to_numpy(), answers["scores"].to_numpy()

    suffix = ".csv.gz" if config.submit.gzip else ".csv"
    retrieval, recognition = (task.folder / f"{name}{suffix}" for name in ("retrieval", "recognition"))
    submission.write_retrieval(
        retrieval, test_ids, np.pad(rows, ((0, len(missing)), (0, 0)), constant_values=-1), index_ids
    )
    filled = np.pad(labels, (0, len(missing)), constant_values=-1), np.pad(scores, (0, len(missing)))
    submission.write_recognition(recognition, test_ids, *filled)
    if names := read_landmark_names(task):
        submission.write_names(task.folder / "recognition_names.csv", test_ids, *filled, names)
    submission.validate_retrieval(retrieval, test_ids, index_ids)
    submission.validate_recognition(recognition, test_ids, set(tables["train"]["landmark"].tolist()))
    task.facts |= {
        "test_photographs": len(test_ids),
        "rejected": len(missing),
        "recognised": int((labels >= 0).sum()),
    }
    log.info("%d rows in each of %s and %s", len(test_ids), retrieval.name, recognition.name)


STAGE = Stage(layout.SUBMIT, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
