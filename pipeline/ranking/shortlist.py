"""Re-ranking by descriptors alone: a query and its shortlist compared among each other, never the whole index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS
from pipeline.ranking.ranking import NONE, Ranking

PAIRS = 1_024  # whose products are summed again at a time

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]


class Descriptors(Protocol):
    """N vectors, by slices or by row numbers: an array, an np.memmap, or vectors joined as they are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


def rerank_shortlists(
    ranking: Ranking,
    queries: Descriptors,
    index: Descriptors,
    first: int,
    compare: Callable[[Floats, Floats], Doubles],
) -> Ranking:
    """The first `first` places of each list by `compare`, best first, ties by smaller row; the rest follows as it was.

    queries (Q, D), index (N, D). compare: (query (D,), candidates (M, D) in order of row) -> M values, the greatest
    best. As after every step a row keeps the score that brought it into the list. One query at a time: O(Q K + first D)
    memory beside that of `compare`.
    """
    check_descriptors(ranking.rows, queries, index)
    if first < 0:
        raise ValueError(f"first={first} places cannot be re-ranked")
    rows, scores = ranking.rows.copy(), ranking.scores.copy()
    for query, count in enumerate(np.minimum(ranking.lengths, first).tolist()):
        by_row = np.argsort(rows[query, :count])
        own = np.asarray(queries[query : query + 1], np.float32)[0]
        values = compare(own, gather(index, rows[query, by_row]))
        order = by_row[np.argsort(-values, kind="stable")]
        rows[query, :count], scores[query, :count] = rows[query, order], scores[query, order]
    return Ranking(rows, scores, ranking.count)


def check_descriptors(rows: NDArray[np.int32], queries: Descriptors, index: Descriptors) -> None:
    """ValueError unless lists (Q, K) of index rows belong to queries (Q, D) and an index (N, D)."""
    if tuple(queries.shape) != (len(rows), index.shape[1]):
        raise ValueError(f"queries of shape {queries.shape} for {len(rows)} lists and {index.shape[1]} dimensions")
    if rows.max(initial=NONE) >= len(index):
        raise ValueError(f"the lists have row {rows.max()}, the index {len(index)} rows")


def gather(vectors: Descriptors, rows: NDArray[np.integer]) -> Floats:
    """The vectors of `rows` (...), as (..., D) float32; zeros where the row is -1. Read in order of row."""
    found = rows >= 0
    wanted, at = np.unique(rows[found], return_inverse=True)
    gathered = np.zeros((*rows.shape, vectors.shape[1]), np.float32)
    if len(wanted):
        gathered[found] = vectors[wanted][at]
    return gathered


def cosines(vectors: Floats) -> Doubles:
    """The inner products of M vectors with each other, (M, M), rounded as a search rounds: equal pairs, equal numbers.

    A matrix product's last bits change with the library, the threads and the place of a pair. They matter only where
    they decide the rounding; there the pair is summed again by itself. O(M^2 + D) memory.
    """
    wide = np.ascontiguousarray(vectors, np.float64)
    products = wide @ wide.T
    longest = np.sqrt((wide * wide).sum(axis=1).max(initial=0.0))
    error = 4 * (wide.shape[1] + 4) * 2.0**-53 * longest**2  # of both sums and of the scaling, with some to spare
    scaled = products * 10.0**DECIMALS
    rows, columns = np.nonzero(np.abs(scaled - np.floor(scaled) - 0.5) <= error * 10.0**DECIMALS)
    for start in range(0, len(rows), PAIRS):
        at = slice(start, start + PAIRS)
        products[rows[at], columns[at]] = (wide[rows[at]] * wide[columns[at]]).sum(axis=1)
    return rounded(products)


def rounded(values: Doubles) -> Doubles:
    """Rounded to 6 decimals: what agrees to so many is a tie. Never -0."""
    return values.round(DECIMALS) + 0.0


def nearest_others(similarities: Doubles, k: int) -> Places:
    """For each of M vectors the min(k, M - 1) others most similar to it, best first, ties by smaller place.

    similarities: (M, M) from `cosines`. O(M^2).
    """
    count = len(similarities)
    k = min(k, count - 1)
    if k < 1:
        return np.zeros((count, 0), np.int64)
    ticks = np.rint(similarities * 10.0**DECIMALS).astype(np.int64)
    keys = np.arange(count) - ticks * count  # one number for both, similarity and place: none occurs twice
    np.fill_diagonal(keys, np.iinfo(np.int64).max)
    return np.sort(np.partition(keys, k - 1, axis=1)[:, :k], axis=1) % count
