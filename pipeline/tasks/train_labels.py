"""The labels of train as everything after the cleaning reads them: as given, or corrected by stage 03."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.competition.train_clean import has_clean_list
from pipeline.config import Config
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import read_landmarks

if TYPE_CHECKING:
    from pipeline.arrays import Labels


def choose_source(config: Config) -> str:
    """Where the clean list comes from: "given", "verify" or "none"."""
    if config.clean.source != "auto":
        return config.clean.source
    if config.data.clean_root is not None and has_clean_list(config.data.clean_root, config.data.source):
        return "given"
    trains = any(model.is_trained_here for model in config.models.values())  # else no training reads the list
    return "verify" if trains and config.local_model else "none"


def corrects_labels(config: Config) -> bool:
    """Whether stage 03 corrects labels."""
    return config.clean.other_candidates > 0 and choose_source(config) == "verify"


def label_references(config: Config) -> list[str]:
    """What `read_labels` reads."""
    return [layout.CORRECTED_LABELS if corrects_labels(config) else layout.images("train")]


def read_labels(task: TaskContext, config: Config) -> Labels:
    """The landmark of every train image, (N,)."""
    import numpy as np

    return np.load(task.input(layout.CORRECTED_LABELS)) if corrects_labels(config) else read_landmarks(task)
