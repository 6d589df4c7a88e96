"""Landmarks by soft voting: the nearest train images vote, each with its similarity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS, NO_LABEL, Doubles, Floats, Labels, Rows, round_similarity

VOTES_TRIED = (1, 2, 3, 5, 7, 9)  # by tuning
WEIGHT_POWERS_TRIED = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0)
BLOCK_VALUES = 4 << 20  # comparisons of two neighbours' labels held at a time


class Votes(NamedTuple):
    """The predicted landmark of each image and its confidence.

    labels: (Q,) int64, NO_LABEL where no neighbour voted. confidences: (Q,) float32, rounded to 6 decimals; 0 where
    there is no label.
    """

    labels: Labels
    confidences: Floats


def soft_vote(similarities: NDArray[np.floating], labels: Labels, votes: int = 3, sharpness: float = 1.0) -> Votes:
    """The landmark of each image by its `votes` nearest train images (Yokoo et al. 2020).

    v(x, c) = (1 / votes) * sum of cos(x, x') over the nearest x' whose label is c. The landmark is the c of greatest v;
    that v, in [-1, 1] for L2-normalised vectors, is the confidence. It is always divided by `votes`, so an image with
    fewer neighbours has a lower confidence. Ties go to the smaller label (in the published code to the label of the
    nearest neighbour). sharpness: see `sharpen`; 1 is the published vote.

    similarities (Q, k), labels (Q, k), nearest first; NO_LABEL = no neighbour or no label: no vote. Only the first
    `votes` columns count. O(Q votes^2) time; memory bounded.
    """
    if votes < 1:
        raise ValueError(f"votes={votes}; at least 1 is needed")
    winners, totals = add_votes(sharpen(similarities[:, :votes], sharpness), labels[:, :votes])
    return Votes(winners, round_similarity(totals / votes).astype(np.float32))


def sharpen(similarities: Floats, sharpness: float) -> Floats:
    """The votes re-weighted so that nearer neighbours count more: a weighted instead of a plain mean, (Q, k) float32.

    Neighbour i of k has the weight r_i = (s_i / s_1)^(sharpness - 1), and its vote is s_i r_i k / sum(r). 1 leaves the
    votes unchanged; the greater it is, the less a neighbour counts that is farther than the nearest, so that more of
    them may vote. Votes stay comparable between images, however near their neighbours are; powers of the cosine would
    not.

    similarities: (Q, k), nearest first, 0 where there is no neighbour. A similarity below 0 counts as 0 in r; where the
    nearest is at 0 or below, the votes stay unchanged. Raises ValueError for a sharpness below 1.
    """
    if sharpness < 1.0:
        raise ValueError(f"sharpness={sharpness}; at least 1 is needed")
    if sharpness == 1.0 or not similarities.shape[1]:
        return similarities
    nearest = similarities[:, :1].astype(np.float64)
    relative = np.divide(similarities.clip(0), nearest, out=np.ones(similarities.shape), where=nearest > 0)
    weights = relative ** (sharpness - 1.0)
    return (similarities * weights * (similarities.shape[1] / weights.sum(axis=1, keepdims=True))).astype(np.float32)


def vote_with_inliers(similarities: Floats, labels: Labels, weights: NDArray[np.floating], votes: int = 3) -> Votes:
    """`soft_vote`, but the landmark is the one with the greatest sum of weights other than the similarities.

    weights (Q, k): the weights of the neighbours' votes, such as recognition.weigh_votes returns. The confidence stays
    (1 / votes) * sum of cos over the nearest whose label won, in [-1, 1], so that thresholds of confidence keep their
    meaning. Weights equal to the similarities give `soft_vote`. O(Q votes^2) time.
    """
    if votes < 1:
        raise ValueError(f"votes={votes}; at least 1 is needed")
    near = labels[:, :votes]
    winners, _ = add_votes(weights[:, :votes], near)
    agreeing = (near == winners[:, None]) & (near != NO_LABEL)
    totals = np.where(agreeing, similarities[:, :votes].astype(np.float64), 0.0).sum(axis=1).round(DECIMALS)
    return Votes(winners, round_similarity(totals / votes).astype(np.float32))


def add_votes(weights: NDArray[np.floating], labels: Labels) -> tuple[Labels, Doubles]:
    """The label with the greatest sum of weights of each image, and that sum: (Q,) int64, (Q,) float64.

    weights (Q, k), labels (Q, k); NO_LABEL has no vote. Sums are compared after rounding to 6 decimals, ties go to the
    smaller label. An image without votes: NO_LABEL, sum 0. Weights may be negative. Raises ValueError for a weight that
    is not finite, naming the image's row: NaN would win no vote, in silence.
    """
    if weights.ndim != 2 or weights.shape != labels.shape:
        raise ValueError(f"weights and labels need one shape (Q, k), not {weights.shape} and {labels.shape}")
    broken = ~np.isfinite(weights).all(axis=1)
    if broken.any():
        raise ValueError(f"a vote of image {int(broken.argmax())} is not finite ({int(broken.sum())} images in all)")
    winners = np.full(len(labels), NO_LABEL, dtype=np.int64)
    totals = np.zeros(len(labels))
    size = max(1, BLOCK_VALUES // max(1, labels.shape[1] ** 2))
    for start in range(0, len(labels) if labels.shape[1] else 0, size):
        at = slice(start, start + size)
        winners[at], totals[at] = _winners(weights[at].astype(np.float64), labels[at])
    return winners, totals


def neighbour_labels(rows: Rows, base_labels: Labels) -> Labels:
    """The label of every neighbour, (Q, k) int64; NO_LABEL where there is none. base_labels: (N,) int64, by row."""
    if len(base_labels) == 0:
        return np.full(rows.shape, NO_LABEL, dtype=np.int64)
    labels = base_labels[rows]
    labels[rows < 0] = NO_LABEL
    return labels


def _winners(weights: Doubles, labels: Labels) -> tuple[Labels, Doubles]:
    same = labels[:, :, None] == labels[:, None, :]
    sums = np.einsum("qij,qj->qi", same, weights).round(DECIMALS)  # the sum of each neighbour's label
    sums[labels == NO_LABEL] = -np.inf
    most = sums.max(axis=1)
    voted = np.isfinite(most)
    tied = np.where(sums == most[:, None], labels, np.iinfo(np.int64).max)
    return np.where(voted, tied.min(axis=1), NO_LABEL), np.where(voted, most, 0.0) + 0.0
