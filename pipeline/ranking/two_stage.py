"""The two steps of discriminative re-ranking (Yokoo et al. 2020): the sort-step and the insert-step.

An index image is *positive* for a query when soft voting predicts the same landmark for both. The sort-step moves the
positives of a list to its front. The insert-step adds the positives that the search did not find right after them:
they may show the landmark from sides that share nothing with the query, where similarity cannot lead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.arrays import NO_LABEL, NONE, Floats, Integers, Labels, Mask, Rows, round_similarity
from pipeline.ranking.evidence import LandmarkVotes
from pipeline.ranking.landmark_groups import LandmarkGroups
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.ranking.voting import Votes, neighbour_labels
from pipeline.settings import Settings

BLOCK = 8_192  # queries at a time: about 100 MB of working memory for lists of 100


class InsertSettings(Settings):
    """The insert-step."""

    min_confidence: Annotated[float, Field(ge=0.0, le=2.0)] = 0.6  # the sum of both confidences has to exceed it


class _Lists(NamedTuple):
    """Rows and scores of a block of lists, (B, K) each."""

    rows: Rows
    scores: Floats


def sort_step(ranking: Ranking, query_labels: Labels, index_labels: Labels) -> Ranking:
    """The lists with the positives first, the order otherwise unchanged (a stable partition); scores follow their rows.

    query_labels (Q,), index_labels (N,): landmarks by soft voting. A query with NO_LABEL keeps its list as it is; an
    index image with NO_LABEL is a negative for every query. O(Q K).
    """
    _check_votes(ranking, query_labels)
    rows, scores = ranking.rows.copy(), ranking.scores.copy()
    for at in _blocks(len(rows)):
        order = np.argsort(~_positives(rows[at], query_labels[at], index_labels), axis=1, kind="stable")
        rows[at] = np.take_along_axis(rows[at], order, axis=1)
        scores[at] = np.take_along_axis(scores[at], order, axis=1)
    return Ranking(rows, scores, ranking.count)


def insert_step(
    ranking: Ranking, query_votes: Votes, groups: LandmarkGroups, *, min_confidence: float = 0.6, top_k: int = 100
) -> Ranking:
    """The lists with the positives that they lack inserted, highest confidence first, cut (or filled) to `top_k`.

    query_votes: labels and confidences of the Q queries. groups: of the index images.
    An image is inserted only if confidence(query) + confidence(image) > min_confidence (tau; cosines, so 0..2): a query
    whose landmark is not in the training set has a low confidence, and gets nothing. Equal confidences go by row.
    The comparison is strict and made after rounding the sum to 6 decimals.

    Where: directly after the last positive of the list; after the sort-step that is before its first negative. A list
    without a positive gets them at its top: the vote of a query that passes tau is worth more than similarities among
    which its landmark does not occur (the published code does the same, by accident or not). A query with NO_LABEL gets
    nothing. The score of an inserted image is its confidence.

    At most K + top_k images of a landmark are considered, however many it has: O(Q (K + top_k)).
    """
    _check_votes(ranking, query_votes.labels)
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for at in _blocks(len(ranking)):
        votes = Votes(query_votes.labels[at], query_votes.confidences[at])
        part = _Lists(ranking.rows[at], ranking.scores[at])
        rows[at], scores[at] = _insert(part, votes, groups, min_confidence, top_k)
    return Ranking(rows, scores, ranking.count)


def _insert(lists: _Lists, votes: Votes, groups: LandmarkGroups, min_confidence: float, top_k: int) -> _Lists:
    """The insert-step on one block of B queries: rows (B, top_k), scores (B, top_k)."""
    positive = _positives(lists.rows, votes.labels, groups.votes.labels)
    point = _insertion_points(positive)
    # The room after the insertion point, and as many more as may turn out to be in the list already.
    wanted = np.maximum(top_k - point, 0) + np.count_nonzero(positive, axis=1)
    candidates = _candidates(votes.labels, wanted, groups)
    confidences = groups.votes.confidences[candidates]
    accepted = (candidates != NONE) & ~_listed(lists.rows, positive, groups.positions, candidates.shape[1])
    # Rounded in float64: 0.3 + 0.3 is not above 0.6, though in float32 it is.
    accepted &= round_similarity(votes.confidences[:, None].astype(np.float64) + confidences) > min_confidence
    return _splice(lists, _Lists(candidates, confidences), accepted, point, top_k)


def _positives(rows: Rows, query_labels: Labels, index_labels: Labels) -> Mask:
    """(B, K) bool: whether the image at each position shares the query's predicted landmark; False where none is."""
    return (neighbour_labels(rows, index_labels) == query_labels[:, None]) & (query_labels != NO_LABEL)[:, None]


def _insertion_points(positive: Mask) -> Integers:
    """(B,) int64: the position after the last positive, 0 without one."""
    from_the_end = np.argmax(positive[:, ::-1], axis=1) if positive.shape[1] else 0
    return np.where(positive.any(axis=1), positive.shape[1] - from_the_end, 0)


def _candidates(query_labels: Labels, wanted: Integers, groups: LandmarkGroups) -> Rows:
    """(B, C) int32: the first `wanted` images of each query's group, padded with NONE to the longest."""
    begins, sizes = groups.find(query_labels)
    count = np.minimum(sizes, wanted)
    column = np.arange(count.max(initial=0))
    inside = column < count[:, None]
    candidates = np.full(inside.shape, NONE, dtype=np.int32)
    candidates[inside] = groups.rows[(begins[:, None] + column)[inside]]
    return candidates


def _listed(rows: Rows, positive: Mask, positions: Rows, width: int) -> Mask:
    """(B, width) bool: whether the image at that position of the query's group is in its list already.

    A positive is in the query's own group, so its position there tells which candidate it is: nothing is searched.
    """
    listed = np.zeros((len(rows), width), dtype=np.bool_)
    query, position = np.nonzero(positive)[0], positions[rows[positive]]
    within = position < width
    listed[query[within], position[within]] = True
    return listed


def _splice(kept: _Lists, inserted: _Lists, accepted: Mask, point: Integers, top_k: int) -> _Lists:
    """The kept images before the insertion point, the accepted ones of the inserted, then the other kept ones."""
    rows = np.full((len(point), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    column, point = np.arange(kept.rows.shape[1]), point[:, None]
    moved = np.where(column < point, column, column + np.count_nonzero(accepted, axis=1)[:, None])
    after = point + np.cumsum(accepted, axis=1) - 1
    for lists, mask, target in ((kept, kept.rows != NONE, moved), (inserted, accepted, after)):
        mask = mask & (target < top_k)
        flat = (np.arange(len(point))[:, None] * top_k + target)[mask]
        rows.reshape(-1)[flat] = lists.rows[mask]
        scores.reshape(-1)[flat] = lists.scores[mask]
    return _Lists(rows, scores)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def _check_votes(ranking: Ranking, query_labels: Labels) -> None:
    if query_labels.shape != (len(ranking),):
        raise ValueError(f"labels of shape {query_labels.shape} for {len(ranking)} queries")


def _apply_sort(ranking: Ranking, settings: Settings, top_k: int, votes: LandmarkVotes) -> Ranking:
    return sort_step(ranking, votes.queries.labels, votes.index.labels)


def _apply_insert(ranking: Ranking, settings: InsertSettings, top_k: int, votes: LandmarkVotes) -> Ranking:
    return insert_step(ranking, votes.queries, votes.groups, min_confidence=settings.min_confidence, top_k=top_k)


SORT = Step("sort", "images of the query's predicted landmark first", _apply_sort, always(LandmarkVotes))
INSERT = Step(
    "insert",
    "images of the query's predicted landmark that the search did not find, after its last positive",
    _apply_insert,
    always(LandmarkVotes),
    InsertSettings,
    adds_other_scores=True,
    tunable={"min_confidence": [tenth / 10 for tenth in range(20)]},
)
