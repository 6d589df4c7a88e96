"""Telling landmarks that train knows from those it does not: the support of an answer, and how much it needs.

Soft voting gives every photograph a landmark, also one whose landmark has no train photograph. What tells the two apart
is the support: the mean cosine of the votes for the answer. How much of it a right answer has is seen on train
photographs, whose landmarks are given: each is answered once by all the others, as if it were a photograph of a known
landmark, and once by the photographs of other landmarks alone, as if train lacked its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.arrays import DECIMALS, NO_LABEL, Doubles, Labels, close_gaps
from pipeline.ranking.evidence import LabelledNeighbours
from pipeline.ranking.voting import soft_vote

FEWEST = 10  # answers of either kind that a threshold is found from


class UnknownThreshold(NamedTuple):
    """min_support: answers with less are for landmarks that train does not know; None = too few photographs to tell.

    photographs: how many it was found from. known_kept, unknown_refused: the shares of them that it decides rightly.
    """

    min_support: float | None
    photographs: int = 0
    known_kept: float = 0.0
    unknown_refused: float = 0.0


def answer_support(near: LabelledNeighbours, answers: Labels, votes: int) -> Doubles:
    """The support of each answer, (Q,): (1 / votes) * sum of cos over the nearest train images of that landmark.

    near: (Q, k), nearest first, of which `votes` count. answers: (Q,); NO_LABEL has the support 0.
    """
    agreeing = (near.labels[:, :votes] == answers[:, None]) & (answers != NO_LABEL)[:, None]
    return np.where(agreeing, near.similarities[:, :votes].astype(np.float64), 0.0).sum(axis=1).round(DECIMALS) / votes


def calibrate_unknown(near: LabelledNeighbours, own: Labels, votes: int) -> UnknownThreshold:
    """The support that separates best the right answers for known landmarks from all answers for unknown ones.

    near: (S, k), the nearest other train images of S train images; own: (S,), their landmarks. The threshold maximises
    the sum of both shares that it decides rightly (Youden's index), halfway between two supports; of equal ones the
    least. A photograph counts as unknown if its list holds `votes` images of other landmarks.
    """
    first = LabelledNeighbours(near.similarities[:, :votes], near.labels[:, :votes])
    answers = soft_vote(first.similarities, first.labels, votes).labels
    known = answer_support(first, answers, votes)[answers == own]
    others = _leave_out(near, near.labels == own[:, None], votes)
    answers = soft_vote(others.similarities, others.labels, votes).labels
    full = (others.labels != NO_LABEL).sum(axis=1) == votes
    unknown = answer_support(others, answers, votes)[full]
    if min(len(known), len(unknown)) < FEWEST:
        return UnknownThreshold(None, len(own))
    values = np.unique(np.concatenate([known, unknown]))
    cuts = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    kept = 1.0 - np.searchsorted(np.sort(known), cuts) / len(known)
    refused = np.searchsorted(np.sort(unknown), cuts) / len(unknown)
    best = int(np.argmax((kept + refused).round(DECIMALS)))
    return UnknownThreshold(round(float(cuts[best]), DECIMALS), len(own), float(kept[best]), float(refused[best]))


def _leave_out(near: LabelledNeighbours, removed: np.ndarray, votes: int) -> LabelledNeighbours:
    """The first `votes` neighbours that are not removed."""
    similarities = close_gaps(near.similarities, removed, 0.0)[:, :votes]
    return LabelledNeighbours(similarities, close_gaps(near.labels, removed, NO_LABEL)[:, :votes])
