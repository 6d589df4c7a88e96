"""The recognition answer: a landmark for each test image, and a score that ranks all test images together.

A neighbour's vote is made in this order, each step where the settings ask for it: its cosine; that lowered by its
likeness to non-landmarks (non_landmarks.py); that to a power; plus its inliers; times the head's opinion of its label.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.voting import DECIMALS, NO_LABEL, Floats, Labels, Votes, add_votes, soft_vote

Weights = NDArray[np.floating]


class Recognition(NamedTuple):
    """labels: (Q,) int64, -1 = no answer. scores: (Q,) float32, greater = surer; 0 where there is no answer."""

    labels: Labels
    scores: Floats


def recognise(
    weights: Weights,
    labels: Labels,
    *,
    votes: int = 3,
    root: float = 1.0,
    lower_by: NDArray[np.floating] | None = None,
    ban_above: int = 0,
) -> Recognition:
    """The landmark of each test image by soft voting of its training neighbours, distractors banned.

    weights (Q, k): what each neighbour's vote is worth, nearest first: its cosine, or what the functions below give.
    labels (Q, k): -1 = no neighbour. root: see `vote_by_powers`; 1 is `soft_vote`. lower_by (Q,): what the sum of an
    answer's votes is lowered by, such as its image's likeness to non-landmarks; the score, a mean of `votes` or the
    root of one, loses lower_by / votes. None = nothing. ban_above: see `ban_frequent`.
    """
    winners = soft_vote(weights, labels, votes) if root == 1.0 else vote_by_powers(weights, labels, votes, root)
    scores = winners.confidences
    if lower_by is not None:
        lowered = (scores.astype(np.float64) - lower_by / votes).round(DECIMALS).astype(np.float32)
        scores = np.where(winners.labels == NO_LABEL, np.float32(0.0), lowered)
    return Recognition(winners.labels, ban_frequent(winners.labels, scores, ban_above))


def vote_by_powers(weights: Weights, labels: Labels, votes: int, root: float) -> Votes:
    """`soft_vote` of weights that are powers: the score is the root-th root of (1 / votes) * the winner's sum.

    weights (Q, k): 0 or more. A product such as cos^8 * head^12 is soon below all decimals of a score. The sum's root,
    power + head_power, is of the size of a cosine again, and as good: it keeps the order of labels and of images. For
    the same reason sums are compared after rounding relative to the greatest weight among the first `votes`; ties go to
    the smaller label. Where all weigh nothing, that label's score is 0. O(Q votes^2) time.
    """
    if votes < 1 or root <= 0.0:
        raise ValueError(f"votes={votes}, root={root}; at least 1 vote and a root above 0 are needed")
    near, counted = weights[:, :votes].astype(np.float64), labels[:, :votes]
    if (near[counted != NO_LABEL] < 0.0).any():
        raise ValueError("a negative weight has no root")
    greatest = near.max(axis=1, initial=0.0, where=counted != NO_LABEL)
    greatest[greatest == 0.0] = 1.0
    winners, totals = add_votes(near / greatest[:, None], counted)
    scores = (totals * greatest / votes) ** (1.0 / root)
    return Votes(winners, scores.round(DECIMALS).astype(np.float32))


def raise_votes(similarities: Floats, power: float) -> Weights:
    """What each neighbour's vote is worth: similarity ** power, (Q, k) float64, negative similarities as 0.

    (2020 recognition, third place: cos^8 over the top 5.) The power 1 leaves all as it is, negative ones too.
    """
    if power <= 0.0:
        raise ValueError(f"power={power}; more than 0 is needed")
    return similarities if power == 1.0 else np.maximum(similarities.astype(np.float64), 0.0) ** power


def weigh_votes(similarities: Weights, inliers: NDArray[np.integer], max_inliers: int) -> Floats:
    """What each neighbour's vote is worth: similarity + min(inliers, max_inliers) / max_inliers, (Q, k) float32.

    (Yokoo et al. 2020, released code, with the cosine in place of 1 - squared distance.) inliers: (Q, k), 0 for pairs
    that were not compared. max_inliers: where more say no more; above 0. With a power, similarity ** power takes the
    similarity's place: so cos^p + min(inliers, m) / m, whose two parts are both in [0, 1].
    """
    if max_inliers < 1:
        raise ValueError(f"max_inliers={max_inliers}; 1 or more is needed")
    return (similarities + np.minimum(inliers, max_inliers) / max_inliers).astype(np.float32)


def weigh_by_head(weights: Weights, head_cosines: Weights, head_power: float) -> NDArray[np.float64]:
    """The weights times (cosine of the image to the head's direction of the neighbour's label) ** head_power, (Q, k).

    (2020 recognition, third place: the sum of a label's votes times head cosine^12; all votes for a label have the same
    factor, so that it may as well be on each.) head_cosines: (Q, k), clipped to [0, 1] here. Negative weights count 0:
    a factor below 1 would make a bad vote a better one. head_power: above 0.
    """
    if head_power <= 0.0:
        raise ValueError(f"head_power={head_power}; more than 0 is needed")
    factors = np.clip(head_cosines.astype(np.float64), 0.0, 1.0) ** head_power
    return np.maximum(weights, 0.0) * factors


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
