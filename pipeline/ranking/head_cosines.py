"""Cosines of images to the classifier weights of their neighbours' labels: only those pairs, never Q x C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.arrays import DECIMALS, Doubles, Floats, Labels

BLOCK_VALUES = 4 << 20  # of gathered directions held at a time


def head_cosines(descriptors: Floats, directions: Floats, landmark_ids: Labels, labels: Labels) -> Floats:
    """The cosine of each image to the classifier weight of each of its labels, (Q, k) float32, to 6 decimals.

    descriptors (Q, D): L2-normalised, in memory or mapped. directions (C, D) of any norm, or (C, K, D) with
    sub-centres: the greatest of K cosines counts. landmark_ids (C,) ascending: class c is landmark_ids[c].
    labels (Q, k): of the image's neighbours.

    A label that the head has not learnt, and NO_LABEL, has the cosine 0. A landmark that cleaning dropped then cannot
    win a vote that reads the head: it has no weight vector, and any other factor would prefer it to the learnt ones,
    whose cosines to a power are small. Sums are in float64. O(Q k K D) time; memory bounded beside the answer.
    """
    if len(directions) != len(landmark_ids) or (np.diff(landmark_ids) <= 0).any():
        raise ValueError(f"{len(directions)} directions need as many landmarks, ascending, not {len(landmark_ids)}")
    if descriptors.shape[1] != directions.shape[-1] or len(descriptors) != len(labels):
        raise ValueError(f"descriptors {descriptors.shape}, directions {directions.shape}, labels {labels.shape}")
    cosines = np.zeros(labels.shape, np.float32)
    if not len(landmark_ids):
        return cosines
    classes = np.searchsorted(landmark_ids, labels).clip(max=len(landmark_ids) - 1)
    images, positions = np.nonzero(landmark_ids[classes] == labels)
    size = max(1, BLOCK_VALUES // max(1, directions[0].size))
    for start in range(0, len(images), size):
        image, position = images[start : start + size], positions[start : start + size]
        asked = directions[classes[image, position]].astype(np.float64)
        asked = asked.reshape(len(asked), -1, asked.shape[-1])  # (pairs, K, D)
        cosines[image, position] = _cosines(descriptors[image].astype(np.float64), asked).max(axis=1).round(DECIMALS)
    return cosines


def join_head_cosines(cosines: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """The mean of several models' cosines (Q, k) each, weighted as these count in the joined cosine: squared.

    weights: of the models, as in features.ensemble. (Q, k) float32; those of a single model stay unchanged.
    """
    if len(cosines) == 1:
        return cosines[0]
    mean = np.average(np.stack(cosines).astype(np.float64), axis=0, weights=np.square(weights))
    return mean.round(DECIMALS).astype(np.float32)


def _cosines(images: Doubles, directions: Doubles) -> Doubles:
    """(P, D), (P, K, D)  ->  (P, K); a zero weight vector has the cosine 0."""
    lengths = np.linalg.norm(directions, axis=2)
    return np.einsum("pd,pkd->pk", images, directions) / np.where(lengths > 0.0, lengths, 1.0)
