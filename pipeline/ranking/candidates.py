"""Candidate pairs of a query and an image that may enter its list, for many queries at once.

A step that adds images does not know how many each query will get: one landmark has three images, another three
thousand. So the candidates of a block of queries stand in flat arrays, one element per pair, and the blocks are cut by
the number of pairs. No answer depends on the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.arrays import NONE, AnyIntegers, Doubles, Floats, Integers, Rows, Vectors, round_similarity
from pipeline.matching.products import pair_products
from pipeline.ranking.ranking import Ranking

BLOCK_PAIRS = 1 << 20  # candidates held at a time: about 100 MB with all that is computed from them
BLOCK_ROWS = 16_384  # index vectors read at a time


class Candidates(NamedTuple):
    """P pairs. queries: (P,) int64, numbers in a block of queries. rows: (P,) int32. scores: (P,) float32."""

    queries: Integers
    rows: Rows
    scores: Floats


class Merged(NamedTuple):
    """Listed and found pairs, each pair once, ordered by query and then row.

    pairs: the U distinct ones; one that is listed and found has its listed score. positions: (U,) int64, the position
    of a listed image among all listed ones of the block, -1 = only found. found: (F,) int64, the index in U of each
    found pair.
    """

    pairs: Candidates
    positions: Integers
    found: Integers


def query_blocks(sizes: Integers) -> Iterator[slice]:
    """Runs of queries with at most BLOCK_PAIRS candidates together, or one query. sizes: (Q,) candidates of each."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK_PAIRS, side="right")))
        yield slice(start, stop)
        start = stop


def merge(rows: Rows, scores: Floats, found: Candidates) -> Merged:
    """The images listed, rows (B, K) and scores (B, K), and those found beside them. O((B K + F) log(B K + F))."""
    queries, positions = np.nonzero(rows != NONE)
    all_queries = np.concatenate([queries, found.queries])
    all_rows = np.concatenate([rows[queries, positions], found.rows])
    stride = int(all_rows.max(initial=0)) + 1
    _, first, where = np.unique(all_queries * stride + all_rows, return_index=True, return_inverse=True)
    all_scores = np.concatenate([scores[queries, positions], found.scores])
    pairs = Candidates(all_queries[first], all_rows[first], all_scores[first])
    return Merged(pairs, np.where(first < len(queries), first, -1), where[len(queries) :])


def fill_similarities(merged: Merged, queries: Floats, index: Vectors) -> Candidates:
    """The pairs of a block, those that were only found with their inner product as score, rounded as searches round.

    queries (B, D): of the block; index (N, D). Products are summed in float64. Memory: one block of index vectors.
    """
    pairs, missing = merged.pairs, merged.positions < 0
    tile, scores = np.ascontiguousarray(queries, dtype=np.float32), pairs.scores.copy()
    block_of_pair = np.where(missing, pairs.rows // BLOCK_ROWS, -1)
    for block in np.unique(block_of_pair[missing]).tolist():
        start, inside = block * BLOCK_ROWS, block_of_pair == block
        vectors = np.ascontiguousarray(index[start : start + BLOCK_ROWS], dtype=np.float32)
        products = pair_products(tile, vectors, pairs.queries[inside], pairs.rows[inside].astype(np.int64) - start)
        scores[inside] = round_similarity(products)
    return pairs._replace(scores=scores)


def best_of_each(pairs: Candidates, values: Doubles, ties: AnyIntegers, count: int, top_k: int) -> tuple[Rows, Floats]:
    """The first `top_k` images of each of `count` queries by descending value, then ascending tie: rows, scores.

    pairs: each once. values, ties: (P,). Positions without an image: NONE, score 0. O(P log P).
    """
    order = np.lexsort((ties, -values, pairs.queries))
    queries = pairs.queries[order]
    position = np.arange(len(order)) - np.searchsorted(queries, np.arange(count))[queries]
    order, queries, position = (array[position < top_k] for array in (order, queries, position))
    rows = np.full((count, top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    rows[queries, position], scores[queries, position] = pairs.rows[order], pairs.scores[order]
    return rows, scores


def check_counts(ranking: Ranking, queries: int, images: int) -> None:
    """ValueError unless the evidence is for as many queries and index images as the ranking has."""
    if queries != len(ranking):
        raise ValueError(f"evidence of {queries} queries for the lists of {len(ranking)}")
    if images <= ranking.rows.max(initial=NONE) or (ranking.count is not None and images != ranking.count):
        known = "more" if ranking.count is None else str(ranking.count)
        raise ValueError(f"evidence of {images} index images for lists of {known}")
