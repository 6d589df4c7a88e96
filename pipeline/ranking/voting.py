"""Landmarks by soft voting: the nearest training photographs vote, each with its similarity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]
Rows = NDArray[np.int32]

NO_LABEL = -1
DECIMALS = 6  # totals that agree to this many decimals are ties
BLOCK_VALUES = 4 << 20  # comparisons of two neighbours' labels held at a time


class Votes(NamedTuple):
    """For each image a landmark and how sure the vote is.

    labels: (Q,) int64, -1 = nobody voted. confidences: (Q,) float32, rounded to 6 decimals; 0 where the label is -1.
    """

    labels: Labels
    confidences: Floats


def soft_vote(similarities: NDArray[np.floating], labels: Labels, votes: int = 3, sharpness: float = 1.0) -> Votes:
    """The landmark of each image by its `votes` nearest training photographs (Yokoo et al. 2020).

    v(x, c) = (1 / votes) * sum of cos(x, x') over the nearest x' whose label is c. The landmark is the c of greatest v;
    that v, in [-1, 1] for unit vectors, is the confidence. It is always divided by `votes`, so an image with fewer
    neighbours is less sure. Ties go to the smaller label (in the published code to the nearest neighbour's).
    sharpness: see `sharpen`; 1 is the published vote.

    similarities (Q, k), labels (Q, k), nearest first; label -1 = no neighbour or no label: no vote. Only the first
    `votes` columns count. O(Q votes^2) time; memory bounded.
    """
    if votes < 1:
        raise ValueError(f"votes={votes}; at least 1 is needed")
    winners, totals = add_votes(sharpen(similarities[:, :votes], sharpness), labels[:, :votes])
    return Votes(winners, _rounded(totals / votes))


def sharpen(similarities: Floats, sharpness: float) -> Floats:
    """The votes with more say for the nearer neighbours: their weighted mean in place of their mean, (Q, k) float32.

    Neighbour i of k counts r_i = (s_i / s_1)^(sharpness - 1), and its vote is s_i r_i k / sum(r). 1 leaves votes as
    they are; the greater it is, the less say a neighbour has that is farther than the nearest, so that more of them may
    vote. Votes stay comparable between images, however near their neighbours are; powers of the cosine would not.

    similarities: (Q, k), nearest first, 0 where there is no neighbour. A similarity below 0 counts as 0 in r; where the
    nearest is at 0 or below, votes stay as they are. Raises ValueError for a sharpness below 1.
    """
    if sharpness < 1.0:
        raise ValueError(f"sharpness={sharpness}; at least 1 is needed")
    if sharpness == 1.0 or not similarities.shape[1]:
        return similarities
    nearest = similarities[:, :1].astype(np.float64)
    relative = np.divide(similarities.clip(0), nearest, out=np.ones(similarities.shape), where=nearest > 0)
    say = relative ** (sharpness - 1.0)
    return (similarities * say * (similarities.shape[1] / say.sum(axis=1, keepdims=True))).astype(np.float32)


def vote_with_inliers(similarities: Floats, labels: Labels, weights: NDArray[np.floating], votes: int = 3) -> Votes:
    """`soft_vote`, but the landmark is the one with the greatest sum of other weights than the similarities.

    weights (Q, k): what the neighbours' votes are worth, such as recognition.weigh_votes gives. The confidence stays
    (1 / votes) * sum of cos over the nearest whose label won, in [-1, 1]: thresholds of confidence keep their meaning.
    Weights that are the similarities give `soft_vote`. O(Q votes^2) time.
    """
    if votes < 1:
        raise ValueError(f"votes={votes}; at least 1 is needed")
    near = labels[:, :votes]
    winners, _ = add_votes(weights[:, :votes], near)
    agreeing = (near == winners[:, None]) & (near != NO_LABEL)
    totals = np.where(agreeing, similarities[:, :votes].astype(np.float64), 0.0).sum(axis=1).round(DECIMALS)
    return Votes(winners, _rounded(totals / votes))


def add_votes(weights: NDArray[np.floating], labels: Labels) -> tuple[Labels, NDArray[np.float64]]:
    """The label with the greatest sum of weights in each row, and that sum: (Q,) int64, (Q,) float64.

    weights (Q, k), labels (Q, k); label -1 has no vote. Sums are compared after rounding to 6 decimals, ties go to the
    smaller label. A row without votes: label -1, sum 0. Weights may be negative.
    """
    if weights.ndim != 2 or weights.shape != labels.shape:
        raise ValueError(f"weights and labels need one shape (Q, k), not {weights.shape} and {labels.shape}")
    winners = np.full(len(labels), NO_LABEL, dtype=np.int64)
    totals = np.zeros(len(labels))
    size = max(1, BLOCK_VALUES // max(1, labels.shape[1] ** 2))
    for start in range(0, len(labels) if labels.shape[1] else 0, size):
        at = slice(start, start + size)
        winners[at], totals[at] = _winners(weights[at].astype(np.float64), labels[at])
    return winners, totals


def neighbour_labels(rows: Rows, base_labels: Labels) -> Labels:
    """The label of every neighbour, (Q, k) int64; -1 where the row is -1. base_labels: (N,) int64, by row."""
    if len(base_labels) == 0:
        return np.full(rows.shape, NO_LABEL, dtype=np.int64)
    labels = base_labels[rows]
    labels[rows < 0] = NO_LABEL
    return labels


def _winners(weights: NDArray[np.float64], labels: Labels) -> tuple[Labels, NDArray[np.float64]]:
    same = labels[:, :, None] == labels[:, None, :]
    sums = np.einsum("qij,qj->qi", same, weights).round(DECIMALS)  # the sum of each neighbour's label
    sums[labels == NO_LABEL] = -np.inf
    most = sums.max(axis=1)
    voted = np.isfinite(most)
    tied = np.where(sums == most[:, None], labels, np.iinfo(np.int64).max)
    return np.where(voted, tied.min(axis=1), NO_LABEL), np.where(voted, most, 0.0) + 0.0


def _rounded(values: NDArray[np.float64]) -> Floats:
    return (values.round(DECIMALS) + 0.0).astype(np.float32)
