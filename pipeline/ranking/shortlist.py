"""Re-ranking by descriptors only: a query and its shortlist are compared, never the whole index."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import (
    DECIMALS,
    NONE,
    AnyIntegers,
    Doubles,
    Floats,
    Integers,
    Positions,
    Rows,
    Vectors,
    round_similarity,
)
from pipeline.processes import one_thread_each
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.ranking import Ranking

PAIRS = 1_024  # pairs whose products are summed again at a time
BLOCK_VALUES = 1 << 19  # similarities and components that a thread holds at a time: 4 MB, about its cache


def rerank_shortlists(
    ranking: Ranking, descriptors: DescriptorPair, first: int, compare: Callable[[Floats, Floats], Doubles]
) -> Ranking:
    """The first `first` images of each list by `compare`, best first, ties by smaller row; the rest follows unchanged.

    compare: (queries (B, D), candidates (B, M, D) in order of row) -> (B, M) values, greater is better. As after every
    step a row keeps the score from the step that added it. Memory O(Q K), and on every core a block of lists with that
    of `compare`.
    """
    check_descriptors(ranking.rows, descriptors)
    if first < 0:
        raise ValueError(f"first={first} images cannot be re-ranked")
    rows, scores = ranking.rows.copy(), ranking.scores.copy()

    def rerank(one: tuple[Positions, int]) -> None:
        block, count = one
        at = block[:, None], np.argsort(rows[block, :count], axis=1)
        values = compare(np.asarray(descriptors.queries[block], np.float32), gather(descriptors.index, rows[at]))
        order = np.take_along_axis(at[1], np.argsort(-values, axis=1, kind="stable"), axis=1)
        rows[block, :count], scores[block, :count] = rows[at[0], order], scores[at[0], order]

    with one_thread_each() as pool:
        list(pool.map(rerank, _blocks(np.minimum(ranking.lengths, first), descriptors.index.shape[1])))
    return Ranking(rows, scores, ranking.count)


def _blocks(counts: Integers, width: int) -> Iterator[tuple[Positions, int]]:
    """Queries whose lists have equally many images to re-rank, and how many; the answer depends on no block."""
    for count in np.unique(counts[counts > 0]).tolist():
        queries = np.flatnonzero(counts == count)
        size = max(1, BLOCK_VALUES // (count * (count + width)))
        yield from ((queries[start : start + size], count) for start in range(0, len(queries), size))


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
    """The inner products of M vectors with each other, (…, M, D) -> (…, M, M), rounded as a search rounds.

    The last bits of a matrix product change with the library, the threads and the position of a pair. They matter only
    where they decide the rounding; there the pair is summed again by itself, so that equal pairs have equal numbers.
    """
    wide = np.ascontiguousarray(vectors, np.float64)
    products = multiply(wide, wide.swapaxes(-1, -2))
    longest = products.diagonal(axis1=-2, axis2=-1).max(initial=0.0)  # squared
    error = 4 * (wide.shape[-1] + 4) * 2.0**-53 * longest  # of both sums and of the scaling, with some to spare
    scaled = products * 10.0**DECIMALS
    *lists, rows, columns = np.nonzero(np.abs(scaled - np.floor(scaled) - 0.5) <= error * 10.0**DECIMALS)
    for start in range(0, len(rows), PAIRS):
        some = slice(start, start + PAIRS)
        before, row, column = (tuple(each[some] for each in lists), rows[some], columns[some])
        products[*before, row, column] = (wide[*before, row] * wide[*before, column]).sum(axis=1)
    return round_similarity(products)


def multiply(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[Any]:
    """The products of small matrices, (…, A, B) and (…, B, C) -> (…, A, C); inside `one_thread_each` by one thread.

    By torch: NumPy's library would share each among all cores, which beside other processes took ten times as long,
    most of it for waiting.
    """
    import torch

    return (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()


def nearest_others(similarities: Doubles, k: int) -> Positions:
    """For each of M vectors the min(k, M - 1) others most similar to it, best first, ties by smaller position.

    similarities: (…, M, M) from `cosines`. O(M^2).
    """
    count = similarities.shape[-1]
    k = min(k, count - 1)
    if k < 1:
        return np.zeros((*similarities.shape[:-1], 0), np.int64)
    ticks = np.rint(similarities * 10.0**DECIMALS).astype(np.int64)
    keys = np.arange(count) - ticks * count  # one number for both, similarity and position: none occurs twice
    keys[..., np.arange(count), np.arange(count)] = np.iinfo(np.int64).max
    return np.sort(np.partition(keys, k - 1, axis=-1)[..., :k], axis=-1) % count


def take_rows(values: NDArray[Any], places: Positions) -> NDArray[Any]:
    """The rows `places` (…, P) of matrices (…, M, X), as (…, P, X)."""
    *lists, count, width = values.shape
    first = count * np.arange(math.prod(lists)).reshape(*lists, 1)
    return values.reshape(math.prod(lists) * count, width)[places + first]
