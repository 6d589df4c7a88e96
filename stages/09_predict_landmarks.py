"""Stage 09: the landmark of every index and test photograph by soft voting, and the recognition answer."""

from __future__ import annotations

import sys
from typing import Any

from pipeline import layout
from pipeline.artifacts import write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.calibration import (
    calibrate_scores,
    calibrate_support,
    calibration_references,
    calibration_settings,
    draw_train,
)
from pipeline.tasks.prediction import read_recognition_evidence, vote_references, vote_split
from pipeline.tasks.propagation import propagation_tasks


def tasks(config: Config) -> list[Task]:
    """The propagated labels, where they are asked for, and the predictions."""
    settings: dict[str, Any] = {"vote": config.vote.model_dump(), "recognition": config.recognition.answer_settings}
    if config.recognition.head_power:
        settings["weights"] = {name: model.weight for name, model in config.models.items()}
    settings |= calibration_settings(config)
    references = dict.fromkeys([*vote_references(config), *calibration_references(config)])
    return [*propagation_tasks(config), Task(layout.PREDICT, predict_landmarks, settings, tuple(references))]


def predict_landmarks(task: TaskContext, config: Config) -> None:
    """Write index.parquet, test.parquet (label, confidence) and recognition.parquet (label, score), rows as in 01.

    unknown.json says how much support an answer needs to be one for a landmark of train, calibration.json how probable
    one is by its score.
    """
    import numpy as np
    import pandas as pd

    from pipeline.ranking.prediction import answer_recognition

    for split in ("index", "test"):
        votes = vote_split(task, config, split)
        pd.DataFrame(votes._asdict()).to_parquet(task.folder / f"{split}.parquet", index=False)
        voted = votes.labels >= 0
        task.facts[split] = {"photographs": len(voted), "with_landmark": int(voted.sum())}
        log.info("%s: %d landmarks predicted", split, len(np.unique(votes.labels[voted])))
    answer = answer_recognition(read_recognition_evidence(task, config), config.recognition)
    pd.DataFrame(answer._asdict()).to_parquet(task.folder / "recognition.parquet", index=False)
    sample = draw_train(task, config)
    write_json(task.folder / "unknown.json", calibrate_support(sample, config)._asdict())
    write_json(task.folder / "calibration.json", calibrate_scores(task, config, sample)._asdict())


STAGE = Stage(layout.PREDICT, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
