"""Query expansion and database augmentation: a descriptor moves towards its nearest neighbours, then searches again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.ranking import NONE, Ranking
from pipeline.ranking.shortlist import Descriptors, Floats, check_descriptors, gather, rounded

BLOCK_VALUES = 4 << 20  # components of neighbours held at a time
SHORTEST = 1e-6  # a sum shorter than this is what rounding left of vectors that cancel: it has no direction

Labels = NDArray[np.int64]
Rows = NDArray[np.int32]


def expand_queries(queries: Descriptors, index: Descriptors, ranking: Ranking, k: int, alpha: float) -> Floats:
    """The queries moved towards the first k images of their lists, (Q, D) float32 of length 1.

    q' = normalise(q + sum over i <= k of w_i x_i), w_i = max(cos(q, x_i), 0)^alpha (Radenovic et al. 2018, alpha query
    expansion). alpha = 0 makes every w_i 1: average query expansion (Chum et al. 2007), which also adds images whose
    cosine is negative.

    queries (Q, D), index (N, D): vectors of length 1. Cosines are computed anew, rounded to 6 decimals: a list's scores
    need not be cosines. Empty places add nothing; k may exceed the list. A sum of zero has no direction: the query
    stays as it is. O(Q k D) time; memory O(Q D), and of neighbours a block.
    """
    check_descriptors(ranking.rows, queries, index)
    _check_knobs(k, alpha)
    moved = np.empty(queries.shape, np.float32)
    for at in _blocks(len(moved), k, moved.shape[1]):
        moved[at] = _moved(queries[at], index, ranking.rows[at, :k], alpha)
    return moved


def augment_database(
    index: Descriptors, neighbours: Neighbours, k: int, alpha: float, labels: Labels | None = None
) -> Floats:
    """The index rows moved towards their own k nearest, (N, D) float32 of length 1: `expand_queries` for the database.

    Averages over a row's neighbours: Turcot & Lowe 2009, Arandjelovic & Zisserman 2012; the weights are those of
    `expand_queries`. All rows move at once, from the places that they had before.

    index (N, D): vectors of length 1. neighbours: (N, K) of each row among the others, the row itself left out (search
    with `exclude`); places without a neighbour add nothing.
    labels: (N,); with them a row moves only towards rows of its own label (supervised), the first k
    such among its K neighbours. Label -1 is nobody's: such a row stays, and no row moves towards it.
    O(N k D) time; memory O(N D) for the answer, and of neighbours a block.
    """
    check_descriptors(neighbours.rows, index, index)
    _check_knobs(k, alpha)
    if labels is not None and labels.shape != (len(index),):
        raise ValueError(f"labels of shape {labels.shape} for {len(index)} index rows")
    moved = np.empty(index.shape, np.float32)
    for at in _blocks(len(moved), k, moved.shape[1]):
        rows = neighbours.rows[at]
        itself = rows == np.arange(at.start, at.start + len(rows))[:, None]
        if itself.any():
            row = at.start + int(itself.any(axis=1).argmax())
            raise ValueError(f"row {row} is among its own neighbours: search with exclude")
        if labels is not None:
            rows = _agreeing(rows, labels[at], labels)
        moved[at] = _moved(index[at], index, rows[:, :k], alpha)
    return moved


def search_again(queries: Descriptors, index: Descriptors, top_k: int, device: str | None = None) -> Ranking:
    """The `top_k` nearest index images of each query, exactly, as a ranking; see `search_exact` for ties and cost."""
    rows, similarities = search_exact(queries, index, top_k, device=device)
    return Ranking(rows, similarities, len(index))


def _moved(own: NDArray[np.floating], index: Descriptors, rows: Rows, alpha: float) -> Floats:
    """B vectors (B, D) moved towards the index rows (B, k). Sums run in order of place: no block changes a bit."""
    wide = np.ascontiguousarray(own, np.float64)
    neighbours, total = gather(index, rows), wide.copy()
    for place in range(rows.shape[1]):
        vectors = neighbours[:, place].astype(np.float64)
        weights = np.maximum(rounded((wide * vectors).sum(axis=1)), 0.0) ** alpha  # 0^0 = 1
        total += weights[:, None] * vectors  # of an empty place: zeros
    length = np.sqrt((total * total).sum(axis=1, keepdims=True))
    return np.where(length > SHORTEST, total / np.maximum(length, SHORTEST), wide).astype(np.float32)


def _agreeing(rows: Rows, own_labels: Labels, labels: Labels) -> Rows:
    """The neighbours (B, K) of the row's own label, in their order, -1 behind them."""
    if not rows.size:
        return rows
    agree = (rows != NONE) & (labels[rows] == own_labels[:, None]) & (own_labels != NONE)[:, None]
    order = np.argsort(~agree, axis=1, kind="stable")
    return np.take_along_axis(np.where(agree, rows, NONE), order, axis=1).astype(np.int32)


def _blocks(count: int, k: int, width: int) -> Iterator[slice]:
    size = max(1, BLOCK_VALUES // max(1, (k + 1) * width))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _check_knobs(k: int, alpha: float) -> None:
    if k < 0 or not alpha >= 0.0:
        raise ValueError(f"k={k}, alpha={alpha}: neither may be below 0")
