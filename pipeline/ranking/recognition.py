"""The recognition answer: a landmark for each test image, and a score that ranks all test images together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.voting import NO_LABEL, Floats, Labels, soft_vote


class Recognition(NamedTuple):
    """labels: (Q,) int64, -1 = no answer. scores: (Q,) float32, greater = surer; 0 where there is no answer."""

    labels: Labels
    scores: Floats


def recognise(weights: Floats, labels: Labels, *, votes: int = 3, ban_above: int = 0) -> Recognition:
    """The landmark of each test image by soft voting of its training neighbours, distractors banned.

    weights (Q, k): what each neighbour's vote is worth, nearest first: its cosine, or what `weigh_votes` gives.
    labels (Q, k): -1 = no neighbour. ban_above: see `ban_frequent`.
    """
    winners = soft_vote(weights, labels, votes)
    return Recognition(winners.labels, ban_frequent(winners.labels, winners.confidences, ban_above))


def weigh_votes(similarities: Floats, inliers: NDArray[np.integer], max_inliers: int) -> Floats:
    """What each neighbour's vote is worth: similarity + min(inliers, max_inliers) / max_inliers, (Q, k) float32.

    (Yokoo et al. 2020, released code, with the cosine in place of 1 - squared distance.) inliers: (Q, k), 0 for pairs
    that were not compared. max_inliers: where more say no more; above 0.
    """
    if max_inliers < 1:
        raise ValueError(f"max_inliers={max_inliers}; 1 or more is needed")
    return (similarities + np.minimum(inliers, max_inliers) / max_inliers).astype(np.float32)


def ban_frequent(labels: Labels, scores: Floats, ban_above: int) -> Floats:
    """The scores, where a label predicted for more than `ban_above` test images scores minus its frequency, (Q,).

    A landmark that so many test images seem to show is no landmark but a look: sky, food, a face (Yokoo et al. 2020).
    Its predictions sink below all others, the most frequent lowest. Labels are compared whole: a ban of 12 leaves 112
    alone. -1 is never banned; ban_above 0 bans nothing.
    """
    if ban_above < 0:
        raise ValueError(f"ban_above={ban_above}; 0 or more is needed")
    answered = labels != NO_LABEL
    if ban_above == 0 or not answered.any():
        return scores
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    frequency: NDArray[np.int64] = counts[which]
    return np.where(answered & (frequency > ban_above), -frequency, scores).astype(np.float32)
