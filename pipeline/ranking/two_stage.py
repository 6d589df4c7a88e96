"""The two steps of discriminative re-ranking (Yokoo et al. 2020): sort-step and insert-step.

An index image is *positive* for a query when soft voting gave both the same landmark. The sort-step brings the
positives of a list to its front. The insert-step puts the positives that the search did not find right behind them:
they may show the landmark from sides that share nothing with the query, where no similarity leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.ranking import NONE, Ranking
from pipeline.ranking.voting import DECIMALS, NO_LABEL, Labels, Votes, neighbour_labels

BLOCK = 8_192  # queries at a time: about 100 MB of working memory for lists of 100

Places = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class LandmarkGroups:
    """The index images of each predicted landmark, the surest first: one long list and where each landmark's begins.

    labels: (L,) int64 ascending. offsets: (L + 1,) int64: group g is rows[offsets[g] : offsets[g + 1]].
    rows: (M,) int32, in a group by descending confidence, then ascending row. Images without a label are in no group.
    places: (N,) int32, where an index image stands in its own group; -1 = in none.
    votes: the labels and confidences of the N index images.
    """

    labels: Labels
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    places: Places
    votes: Votes


def group_by_landmark(votes: Votes) -> LandmarkGroups:
    """The groups of N index images by their votes. O(N log N), once for all queries."""
    order = np.lexsort((-votes.confidences, votes.labels)).astype(np.int32)  # stable: equals stay in order of row
    order = order[votes.labels[order] != NO_LABEL]
    labels, counts = np.unique(votes.labels[order], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    places = np.full(len(votes.labels), NONE, dtype=np.int32)
    places[order] = np.arange(len(order)) - np.repeat(offsets[:-1], counts)
    return LandmarkGroups(labels, offsets, order, places, votes)


def sort_step(ranking: Ranking, query_labels: Labels, index_labels: Labels) -> Ranking:
    """The lists with the positives first, the order otherwise unchanged (a stable partition); scores follow their rows.

    query_labels (Q,), index_labels (N,): landmarks by soft voting, -1 = none: such a query's list stays as it is, such
    an image is nobody's positive. O(Q K).
    """
    _check_votes(ranking, query_labels)
    rows, scores = ranking.rows.copy(), ranking.scores.copy()
    for at in _blocks(len(rows)):
        order = np.argsort(~_positives(rows[at], query_labels[at], index_labels), axis=1, kind="stable")
        rows[at] = np.take_along_axis(rows[at], order, axis=1)
        scores[at] = np.take_along_axis(scores[at], order, axis=1)
    return Ranking(rows, scores, ranking.count)


def insert_step(
    ranking: Ranking,
    query_votes: Votes,
    groups: LandmarkGroups,
    *,
    min_confidence: float = 0.6,
    top_k: int = 100,
) -> Ranking:
    """The lists with the positives that they lack inserted, the surest first, cut (or filled up) to `top_k` places.

    query_votes: labels and confidences of the Q queries. groups: of the index images.
    An image is inserted only if confidence(query) + confidence(image) > min_confidence (tau; cosines, so 0..2): a query
    whose landmark is not in the training set is unsure, and gets nothing. Equal confidences go in by row.

    Where: directly behind the last positive of the list; after the sort-step that is before its first negative. A list
    without a positive gets them at its top: the vote of a query that passes tau is worth more than similarities among
    which its landmark does not occur (the published code does the same, by accident or not). A query with label -1 gets
    nothing. An inserted image's score is its confidence.

    At most K + top_k images of a landmark are looked at, however many it has: O(Q (K + top_k)).
    """
    _check_votes(ranking, query_votes.labels)
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for at in _blocks(len(ranking)):
        votes = Votes(query_votes.labels[at], query_votes.confidences[at])
        part = ranking.rows[at], ranking.scores[at]
        rows[at], scores[at] = _insert(*part, votes, groups, min_confidence, top_k)
    return Ranking(rows, scores, ranking.count)


def _insert(
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    votes: Votes,
    groups: LandmarkGroups,
    min_confidence: float,
    top_k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The insert-step on one block of B queries: rows (B, top_k), scores (B, top_k)."""
    positive = _positives(rows, votes.labels, groups.votes.labels)
    front = _behind_last(positive)
    # The room behind the front, and as many more as may turn out to be in the list already.
    wanted = np.maximum(top_k - front, 0) + np.count_nonzero(positive, axis=1)
    candidates = _candidates(votes.labels, wanted, groups)
    confidences = groups.votes.confidences[candidates]
    accepted = (candidates != NONE) & ~_listed(rows, positive, groups.places, candidates.shape[1])
    # Rounded again in float64: 0.3 + 0.3 is not above 0.6, though in float32 it is.
    accepted &= (votes.confidences[:, None].astype(np.float64) + confidences).round(DECIMALS) > min_confidence
    return _woven((rows, scores), (candidates, confidences), accepted, front, top_k)


def _positives(rows: NDArray[np.int32], query_labels: Labels, index_labels: Labels) -> Mask:
    """(B, K) bool: whether the image in a place has the query's landmark. Empty places have none."""
    return (neighbour_labels(rows, index_labels) == query_labels[:, None]) & (query_labels != NO_LABEL)[:, None]


def _behind_last(positive: Mask) -> NDArray[np.int64]:
    """(B,) int64: the place behind the last positive, 0 without one."""
    from_the_end = np.argmax(positive[:, ::-1], axis=1) if positive.shape[1] else 0
    return np.where(positive.any(axis=1), positive.shape[1] - from_the_end, 0)


def _candidates(query_labels: Labels, wanted: NDArray[np.int64], groups: LandmarkGroups) -> NDArray[np.int32]:
    """(B, C) int32: the first `wanted` images of each query's group, C the most wanted and there; -1 behind them."""
    known = np.isin(query_labels, groups.labels)  # never -1: images without a label are in no group
    group = np.where(known, np.searchsorted(groups.labels, query_labels), 0)
    bounds = groups.offsets if len(groups.labels) else np.zeros(2, dtype=np.int64)
    count = np.where(known, np.minimum(bounds[group + 1] - bounds[group], wanted), 0)
    column = np.arange(count.max(initial=0))
    inside = column < count[:, None]
    candidates = np.full(inside.shape, NONE, dtype=np.int32)
    candidates[inside] = groups.rows[(bounds[group][:, None] + column)[inside]]
    return candidates


def _listed(rows: NDArray[np.int32], positive: Mask, places: Places, width: int) -> Mask:
    """(B, width) bool: whether the image at that place of the query's group is in its list already.

    A positive is in the query's own group, so its place there says at once which candidate it is: nothing is searched.
    """
    listed = np.zeros((len(rows), width), dtype=np.bool_)
    query, place = np.nonzero(positive)[0], places[rows[positive]]
    near = place < width
    listed[query[near], place[near]] = True
    return listed


def _woven(
    kept: tuple[NDArray[np.int32], NDArray[np.float32]],
    inserted: tuple[NDArray[np.int32], NDArray[np.float32]],
    accepted: Mask,
    front: NDArray[np.int64],
    top_k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first `front` kept images, the accepted ones of the inserted, the other kept ones: `top_k` places in all."""
    rows = np.full((len(front), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    column, front = np.arange(kept[0].shape[1]), front[:, None]
    moved = np.where(column < front, column, column + np.count_nonzero(accepted, axis=1)[:, None])
    behind = front + np.cumsum(accepted, axis=1) - 1
    for (from_rows, from_scores), mask, to in ((kept, kept[0] != NONE, moved), (inserted, accepted, behind)):
        mask = mask & (to < top_k)
        flat = (np.arange(len(front))[:, None] * top_k + to)[mask]
        rows.reshape(-1)[flat] = from_rows[mask]
        scores.reshape(-1)[flat] = from_scores[mask]
    return rows, scores


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def _check_votes(ranking: Ranking, query_labels: Labels) -> None:
    if query_labels.shape != (len(ranking),):
        raise ValueError(f"labels of shape {query_labels.shape} for {len(ranking)} queries")
