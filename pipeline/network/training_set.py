"""Labelled images for training: the class of each image, and which images are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.arrays import Doubles, Integers, Labels, Mask
from pipeline.images.split import Split


@dataclass(frozen=True)
class TrainingSet:
    """N labelled images: their paths, (N,) height / width of the whole images, (N,) landmark ids of any value.

    split: where they come from, which says how many of them may turn out to be unreadable; None = not one.
    """

    paths: Sequence[Path]
    aspect_ratios: Doubles
    labels: Labels
    split: Split | None = None

    @classmethod
    def from_split(cls, split: Split) -> TrainingSet:
        """The images of the train split, or of some of its rows."""
        table = split.table
        return cls(split.paths, (table["height"] / table["width"]).to_numpy(), table["landmark"].to_numpy(), split)


def map_classes(labels: Labels) -> tuple[Labels, Integers]:
    """The landmark ids, ascending (C,) int64, and the class of each label (N,) int64. Ids may have gaps."""
    landmark_ids, classes = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    return landmark_ids, classes.astype(np.int64)


def holdout_mask(labels: Labels, fraction: float, seed: int) -> Mask:
    """(N,) bool: a random `fraction` of the images that is held out for validation.

    At least one image of each landmark stays for training, and two images in all, because BatchNorm needs two.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = np.asarray(labels)[order]
    first_of_landmark = np.zeros(len(order), dtype=bool)
    first_of_landmark[np.unique(shuffled, return_index=True)[1]] = True  # stays for training
    candidates = order[~first_of_landmark]
    held_out = np.zeros(len(order), dtype=bool)
    count = min(round(fraction * len(order)), max(len(order) - 2, 0))
    held_out[candidates[:count]] = True
    return held_out
