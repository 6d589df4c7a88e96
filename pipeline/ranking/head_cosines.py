"""What the head of a trained network thinks of the labels among an image's neighbours: pairs alone, never Q x C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.voting import DECIMALS, Floats, Labels

BLOCK_VALUES = 4 << 20  # of gathered directions held at a time


def head_cosines(descriptors: Floats, directions: Floats, landmark_ids: Labels, labels: Labels) -> Floats:
    """The cosine of each image to the head's direction of each label beside it, (Q, k) float32, to 6 decimals.

    descriptors (Q, D): rows of length 1, in memory or mapped. directions (C, D) of any length, or (C, K, D): the
    greatest of K cosines counts. landmark_ids (C,) ascending: class c shows landmark_ids[c]. labels (Q, k).

    A label that the head has not learnt, and -1, has the cosine 0. What cleaning dropped cannot win a vote that asks
    the head then: there is no direction to ask, and any other factor would prefer it to what was learnt, whose cosines
    to a power are small. Sums are in float64. O(Q k K D) time; memory bounded beside the answer.
    """
    if len(directions) != len(landmark_ids) or (np.diff(landmark_ids) <= 0).any():
        raise ValueError(f"{len(directions)} directions need as many landmarks, ascending, not {len(landmark_ids)}")
    if descriptors.shape[1] != directions.shape[-1] or len(descriptors) != len(labels):
        raise ValueError(f"descriptors {descriptors.shape}, directions {directions.shape}, labels {labels.shape}")
    cosines = np.zeros(labels.shape, np.float32)
    if not len(landmark_ids):
        return cosines
    classes = np.searchsorted(landmark_ids, labels).clip(max=len(landmark_ids) - 1)
    images, places = np.nonzero(landmark_ids[classes] == labels)
    size = max(1, BLOCK_VALUES // max(1, directions[0].size))
    for start in range(0, len(images), size):
        image, place = images[start : start + size], places[start : start + size]
        asked = directions[classes[image, place]].astype(np.float64)
        asked = asked.reshape(len(asked), -1, asked.shape[-1])  # (pairs, K, D)
        cosines[image, place] = _cosines(descriptors[image].astype(np.float64), asked).max(axis=1).round(DECIMALS)
    return cosines


def join_head_cosines(cosines: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """The mean of several models' cosines (Q, k) each, weighted as these count in the joined cosine: squared.

    weights: of the models, as in features.ensemble. (Q, k) float32; one model's stay as they are.
    """
    if len(cosines) == 1:
        return cosines[0]
    mean = np.average(np.stack(cosines).astype(np.float64), axis=0, weights=np.square(weights))
    return mean.round(DECIMALS).astype(np.float32)


def _cosines(images: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, D), (P, K, D)  ->  (P, K); a direction of length 0 has the cosine 0."""
    lengths = np.linalg.norm(directions, axis=2)
    return np.einsum("pd,pkd->pk", images, directions) / np.where(lengths > 0.0, lengths, 1.0)
