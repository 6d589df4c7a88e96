"""Re-ranking by descriptors only: a query and its shortlist are compared, never the whole index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.arrays import DECIMALS, NONE, AnyIntegers, Doubles, Floats, Positions, Rows, Vectors, round_similarity
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.ranking import Ranking

PAIRS = 1_024  # pairs whose products are summed again at a time


def rerank_shortlists(
    ranking: Ranking, descriptors: DescriptorPair, first: int, compare: Callable[[Floats, Floats], Doubles]
) -> Ranking:
    """The first `first` images of each list by `compare`, best first, ties by smaller row; the rest follows unchanged.

    compare: (query (D,), candidates (M, D) in order of row) -> M values, greater is better. As after every step a row
    keeps the score from the step that added it. One query at a time: O(Q K + first D) memory beside that of `compare`.
    """
    queries, index = descriptors.queries, descriptors.index
    check_descriptors(ranking.rows, descriptors)
    if first < 0:
        raise ValueError(f"first={first} images cannot be re-ranked")
    rows, scores = ranking.rows.copy(), ranking.scores.copy()
    for query, count in enumerate(np.minimum(ranking.lengths, first).tolist()):
        by_row = np.argsort(rows[query, :count])
        own = np.asarray(queries[query : query + 1], np.float32)[0]
        values = compare(own, gather(index, rows[query, by_row]))
        order = by_row[np.argsort(-values, kind="stable")]
        rows[query, :count], scores[query, :count] = rows[query, order], scores[query, order]
    return Ranking(rows, scores, ranking.count)


def check_descriptors(rows: Rows, descriptors: DescriptorPair) -> None:
    """ValueError unless lists (Q, K) of index rows fit queries (Q, D) and an index (N, D)."""
    queries, index = descriptors.queries, descriptors.index
    if tuple(queries.shape) != (len(rows), index.shape[1]):
        raise ValueError(f"queries of shape {queries.shape} for {len(rows)} lists and {index.shape[1]} dimensions")
    if rows.max(initial=NONE) >= len(index):
        raise ValueError(f"the lists have row {rows.max()}, the index {len(index)} rows")


def gather(vectors: Vectors, rows: AnyIntegers) -> Floats:
    """The vectors of `rows` (...), as (..., D) float32; zeros where the row is NONE. Read in order of row."""
    found = rows != NONE
    wanted, at = np.unique(rows[found], return_inverse=True)
    gathered = np.zeros((*rows.shape, vectors.shape[1]), np.float32)
    if len(wanted):
        gathered[found] = vectors[wanted][at]
    return gathered


def cosines(vectors: Floats) -> Doubles:
    """The inner products of M vectors with each other, (M, M), rounded as a search rounds: equal pairs, equal numbers.

    The last bits of a matrix product change with the library, the threads and the position of a pair. They matter only
    where they decide the rounding; there the pair is summed again by itself. O(M^2 + D) memory.
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
    return round_similarity(products)


def nearest_others(similarities: Doubles, k: int) -> Positions:
    """For each of M vectors the min(k, M - 1) others most similar to it, best first, ties by smaller position.

    similarities: (M, M) from `cosines`. O(M^2).
    """
    count = len(similarities)
    k = min(k, count - 1)
    if k < 1:
        return np.zeros((count, 0), np.int64)
    ticks = np.rint(similarities * 10.0**DECIMALS).astype(np.int64)
    keys = np.arange(count) - ticks * count  # one number for both, similarity and position: none occurs twice
    np.fill_diagonal(keys, np.iinfo(np.int64).max)
    return np.sort(np.partition(keys, k - 1, axis=1)[:, :k], axis=1) % count
