"""Labelled photographs: which class each shows, and which are held back to validate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class TrainingSet:
    """Labelled photographs: N paths, (N,) height / width, (N,) landmark ids of any value."""

    paths: Sequence[Path]
    aspect_ratios: np.ndarray
    labels: np.ndarray

    @classmethod
    def from_table(cls, table: pd.DataFrame, root: Path) -> TrainingSet:
        """The photographs of stage 01's table of train, or of some of its rows; `root`: the data folder."""
        paths = [root / path for path in table["path"]]
        return cls(paths, (table["height"] / table["width"]).to_numpy(), table["landmark"].to_numpy())


def map_classes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The landmark ids, ascending (C,) int64, and the class of each label (N,) int64. Ids may have gaps."""
    landmark_ids, classes = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    return landmark_ids, classes.astype(np.int64)


def hold_back(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """(N,) bool: `fraction` of the photographs drawn for validation.

    Never the last one of a landmark, and two stay to train on, for BatchNorm cannot learn from one.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = np.asarray(labels)[order]
    first_of_landmark = np.zeros(len(order), dtype=bool)
    first_of_landmark[np.unique(drawn, return_index=True)[1]] = True  # the one that stays to train on
    candidates = order[~first_of_landmark]
    held_back = np.zeros(len(order), dtype=bool)
    count = min(round(fraction * len(order)), max(len(order) - 2, 0))
    held_back[candidates[:count]] = True
    return held_back
