"""The recognition answer: a landmark for each test image, and a score that ranks all test images together.

A neighbour's vote is computed in this order, each part where the settings ask for it: its cosine; minus its similarity
to non-landmarks (non_landmarks.py), by which the neighbours are sorted again; to a power; plus its inliers; times the
classifier's cosine to a power. So a power and inliers give cos^p + min(inliers, m) / m. With a power other than 1, and
with the classifier, negative values count 0. The score is the (power + head_power)-th root of the mean vote: six
decimals then suffice, and the order of the test images is that of the sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS, NO_LABEL, AnyIntegers, Doubles, Floats, Integers, Labels
from pipeline.ranking.voting import Votes, add_votes, soft_vote

Weights = NDArray[np.floating]


class Recognition(NamedTuple):
    """labels: (Q,) int64, NO_LABEL = no answer. scores: (Q,) float32, the confidence; 0 where there is no answer."""

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

    weights (Q, k): the weight of each neighbour's vote, nearest first: its cosine, or what the functions below return.
    labels (Q, k): NO_LABEL = no neighbour. root: see `vote_by_powers`; 1 is `soft_vote`. lower_by (Q,): subtracted from
    the sum of an answer's votes, such as the image's similarity to non-landmarks; the score, a mean of `votes` or the
    root of one, is lowered by lower_by / votes. None = nothing. ban_above: see `ban_frequent`.
    """
    winners = soft_vote(weights, labels, votes) if root == 1.0 else vote_by_powers(weights, labels, votes, root)
    scores = winners.confidences
    if lower_by is not None:
        lowered = (scores.astype(np.float64) - lower_by / votes).round(DECIMALS).astype(np.float32)
        scores = np.where(winners.labels == NO_LABEL, np.float32(0.0), lowered)
    return Recognition(winners.labels, ban_frequent(winners.labels, scores, ban_above))


def vote_by_powers(weights: Weights, labels: Labels, votes: int, root: float) -> Votes:
    """`soft_vote` of weights that are powers: the score is the root-th root of (1 / votes) * the winner's sum.

    weights (Q, k): 0 or more. A product such as cos^8 * head^12 is soon below all decimals of a score. Its root, with
    the exponent power + head_power, has the magnitude of a cosine again, and keeps the order of labels and of images.
    For the same reason sums are compared after rounding relative to the greatest weight among the first `votes`; ties
    go to the smaller label. Where all weights are 0, the score of that label is 0. O(Q votes^2) time.
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
    """The weight of each neighbour's vote: similarity ** power, (Q, k) float64, negative similarities as 0.

    (2020 recognition, third place: cos^8 over the top 5.) The power 1 leaves all unchanged, negative ones too.
    """
    if power <= 0.0:
        raise ValueError(f"power={power}; more than 0 is needed")
    return similarities if power == 1.0 else np.maximum(similarities.astype(np.float64), 0.0) ** power


def weigh_votes(similarities: Weights, inliers: AnyIntegers, max_inliers: int) -> Floats:
    """The weight of each neighbour's vote: similarity + min(inliers, max_inliers) / max_inliers, (Q, k) float32.

    (Yokoo et al. 2020, released code, with the cosine in place of 1 - squared distance.) inliers: (Q, k), 0 for pairs
    that were not compared. max_inliers: the count from which more make no difference; above 0. With a power,
    similarity ** power replaces the similarity: cos^p + min(inliers, m) / m, whose two parts are both in [0, 1].
    """
    if max_inliers < 1:
        raise ValueError(f"max_inliers={max_inliers}; 1 or more is needed")
    return (similarities + np.minimum(inliers, max_inliers) / max_inliers).astype(np.float32)


def weigh_by_head(weights: Weights, head_cosines: Weights, head_power: float) -> Doubles:
    """The weights times (classifier cosine of the neighbour's label) ** head_power, (Q, k).

    (2020 recognition, third place: the sum of a label's votes times classifier cosine^12; all votes for a label have
    the same factor, so that it may be applied to each.) head_cosines: (Q, k), clipped to [0, 1] here. Negative weights
    count 0: a factor below 1 would make a bad vote a better one. head_power: above 0.
    """
    if head_power <= 0.0:
        raise ValueError(f"head_power={head_power}; more than 0 is needed")
    factors = np.clip(head_cosines.astype(np.float64), 0.0, 1.0) ** head_power
    return np.maximum(weights, 0.0) * factors


def ban_frequent(labels: Labels, scores: Floats, ban_above: int) -> Floats:
    """The scores, where a label predicted for more than `ban_above` test images scores minus its frequency, (Q,).

    A label that is predicted so often is not a landmark but a kind of picture: sky, food, a face (Yokoo et al. 2020).
    Its predictions go below all others, the most frequent lowest. Labels are compared whole: banning 12 does not ban
    112. NO_LABEL is never banned; ban_above 0 bans nothing.
    """
    if ban_above < 0:
        raise ValueError(f"ban_above={ban_above}; 0 or more is needed")
    return ban_by_frequency(labels, scores, labels, ban_above)


def ban_by_frequency(labels: Labels, scores: Floats, predicted: Labels, ban_above: int) -> Floats:
    """`ban_frequent` for images outside of the test set: labels count as often as in `predicted` (T,), its answers."""
    if ban_above == 0:
        return scores
    known, counts = np.unique(predicted[predicted != NO_LABEL], return_counts=True)
    if not len(known):
        return scores
    at = np.searchsorted(known, labels).clip(max=len(known) - 1)
    frequency: Integers = np.where(known[at] == labels, counts[at], 0)
    return np.where(frequency > ban_above, -frequency, scores).astype(np.float32)
