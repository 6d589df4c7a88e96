"""Pairs of a query and an image that may enter its list, for many queries at once, and the lists that they make.

A step that adds images does not know how many each query will get: one landmark has three images, another three
thousand. So the candidates of a block of queries stand in flat arrays, one element a pair, and the blocks are cut by
the number of pairs. No answer depends on the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.matching.blocks import FaissBlock, Rows
from pipeline.ranking.ranking import NONE, Ranking
from pipeline.ranking.voting import DECIMALS, Floats

BLOCK_PAIRS = 1 << 20  # candidates held at a time: about 100 MB with all that is computed of them
BLOCK_ROWS = 16_384  # index vectors read at a time

Integers = NDArray[np.int64]


class Candidates(NamedTuple):
    """P pairs. queries: (P,) int64, numbers in a block of queries. rows: (P,) int32. scores: (P,) float32."""

    queries: Integers
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


class Merged(NamedTuple):
    """Listed and found pairs, each pair once, by query and then row.

    pairs: the U distinct ones; one that is listed and found has its listed score. places: (U,) int64, where a listed
    image stands among all listed ones of the block, -1 = only found. found: (F,) int64, where each found pair is in U.
    """

    pairs: Candidates
    places: Integers
    found: Integers


def query_blocks(sizes: Integers) -> Iterator[slice]:
    """Runs of queries with at most BLOCK_PAIRS candidates together, or of one query. sizes: (Q,) candidates of each."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK_PAIRS, side="right")))
        yield slice(start, stop)
        start = stop


def merge(rows: NDArray[np.int32], scores: NDArray[np.float32], found: Candidates) -> Merged:
    """The images listed, rows (B, K) and scores (B, K), and those found beside them. O((B K + F) log(B K + F))."""
    queries, places = np.nonzero(rows != NONE)
    all_queries = np.concatenate([queries, found.queries])
    all_rows = np.concatenate([rows[queries, places], found.rows])
    stride = int(all_rows.max(initial=0)) + 1
    _, first, where = np.unique(all_queries * stride + all_rows, return_index=True, return_inverse=True)
    all_scores = np.concatenate([scores[queries, places], found.scores])
    pairs = Candidates(all_queries[first], all_rows[first], all_scores[first])
    return Merged(pairs, np.where(first < len(queries), first, -1), where[len(queries) :])


def fill_similarities(merged: Merged, queries: Floats, index: Rows) -> Candidates:
    """The pairs of a block, those that were only found with their inner product as score, rounded as searches round.

    queries (B, D): of the block; index (N, D). Products are summed in float64. Memory: one block of index vectors.
    """
    pairs, missing = merged.pairs, merged.places < 0
    tile, scores = np.ascontiguousarray(queries, dtype=np.float32), pairs.scores.copy()
    block_of_pair = np.where(missing, pairs.rows // BLOCK_ROWS, -1)
    for block in np.unique(block_of_pair[missing]).tolist():
        start, inside = block * BLOCK_ROWS, block_of_pair == block
        vectors = np.ascontiguousarray(index[start : start + BLOCK_ROWS], dtype=np.float32)
        products = FaissBlock(vectors).products(
            tile, pairs.queries[inside], pairs.rows[inside].astype(np.int64) - start
        )
        scores[inside] = products.round(DECIMALS) + 0.0
    return pairs._replace(scores=scores)


def best_of_each(
    pairs: Candidates, values: NDArray[np.float64], ties: NDArray[np.integer], count: int, top_k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first `top_k` images of each of `count` queries by descending value, then ascending tie: rows, scores.

    pairs: each once. values, ties: (P,). Places without an image: row -1, score 0. O(P log P).
    """
    order = np.lexsort((ties, -values, pairs.queries))
    queries = pairs.queries[order]
    place = np.arange(len(order)) - np.searchsorted(queries, np.arange(count))[queries]
    order, queries, place = (array[place < top_k] for array in (order, queries, place))
    rows = np.full((count, top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    rows[queries, place], scores[queries, place] = pairs.rows[order], pairs.scores[order]
    return rows, scores


def check_counts(ranking: Ranking, queries: int, images: int) -> None:
    """ValueError unless the evidence is for as many queries and index images as the ranking has."""
    if queries != len(ranking):
        raise ValueError(f"evidence of {queries} queries for the lists of {len(ranking)}")
    if images <= ranking.rows.max(initial=NONE) or (ranking.count is not None and images != ranking.count):
        known = "more" if ranking.count is None else str(ranking.count)
        raise ValueError(f"evidence of {images} index images for lists of {known}")
