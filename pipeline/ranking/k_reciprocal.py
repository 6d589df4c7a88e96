"""Re-ranking by k-reciprocal neighbours: who counts whom among the nearest, and mutually (Zhong et al. 2017)."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import (
    Descriptors,
    Doubles,
    Floats,
    Places,
    cosines,
    nearest_others,
    rerank_shortlists,
    rounded,
)

Sets = NDArray[np.bool_]  # (M, M): whether the set of the row's image holds the column's


def k_reciprocal_step(
    ranking: Ranking,
    queries: Descriptors,
    index: Descriptors,
    first: int = 400,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> Ranking:
    """The first `first` places of each list by `k_reciprocal_distances`, least first, ties by smaller row; the rest as
    it was.

    Neighbours are sought inside the shortlist: the query and its first `first` candidates. The paper seeks them among
    all gallery and query images. What that changes: an image whose true neighbours were not retrieved counts others in
    their place, so towards the end of a shortlist, or in one not much longer than k1, sets are more mutual than in the
    paper, and a distractor may come nearer to the query than it would there; other queries lend no evidence; a pair may
    be at another distance when `first` is another. In exchange nothing is N x N.

    queries (Q, D), index (N, D): vectors of length 1. Scores stay with their rows, as after every step.
    Of each query O(first^2 (D + first)) time and O(first^2 + first D) memory; one query at a time.
    """

    def compare(query: Floats, candidates: Floats) -> Doubles:
        return -distances(query, candidates)

    distances = partial(k_reciprocal_distances, k1=k1, k2=k2, weight=weight)
    return rerank_shortlists(ranking, queries, index, first, compare)


def k_reciprocal_distances(
    query: Floats, candidates: Floats, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> Doubles:
    """The distance of each of M candidates to the query, (M,), rounded to 6 decimals: (1 - weight) d_J + weight d.

    (Zhong et al. 2017, section 3.) d is the squared Euclidean distance, 2 - 2 cos, in [0, 4]. d_J, in [0, 1], is the
    Jaccard distance of two encodings, 1 - sum of minima / sum of maxima. The encoding of x is exp(-d(x, y)) at each y
    in R*(x), else 0, then averaged over the `k2` nearest of x, x the first of them. R* is `reciprocal_sets` with k1.
    The published code also divides d by the greatest distance and each encoding by its sum: here neither is done.

    query (D,), candidates (M, D), of length 1. The set in which neighbours are sought is these M + 1 images. Ties of
    similarity go to the query, then to the smaller place. O(M^2 (D + M)) time, O(M^2 + M D) memory.
    """
    if k1 < 1 or k2 < 1 or not 0.0 <= weight <= 1.0:
        raise ValueError(f"k1={k1}, k2={k2}, weight={weight}: at least 1, 1, and a weight in [0, 1] are needed")
    similarities = cosines(np.concatenate([query[None], candidates]))
    distances = np.maximum(2 - 2 * similarities, 0.0)
    near = nearest_others(similarities, max(k1, k2 - 1))
    near = np.concatenate([np.arange(len(near))[:, None], near], axis=1)  # itself first
    encodings = np.where(reciprocal_sets(near, k1), np.exp(-distances), 0.0)
    jaccard = _jaccard_to_first(_mean_of_rows(encodings, near[:, :k2]))
    return rounded(weight * distances[0, 1:] + (1 - weight) * jaccard[1:])


def reciprocal_sets(near: Places, k: int) -> Sets:
    """R*(x, k) of each of M images x, (M, M) bool (Zhong et al. 2017, section 3).

    near: (M, at least min(k + 1, M)): each image itself, then the others from the nearest on.
    N(x, k) is x and its k nearest others; R(x, k) are the y in N(x, k) with x in N(y, k). R* adds the whole of
    R(y, k / 2) for every y in R(x, k) of which at least two thirds lie in R(x, k) already; odd k: k - 1.
    Counts of members are matrix products of small integers: exact.
    """
    own, half = _mutual(near[:, : k + 1]), _mutual(near[:, : k // 2 + 1])
    counts, half_counts = own.astype(np.float32), half.astype(np.float32)
    shared = counts @ half_counts.T  # (x, y): how many of R(y, k / 2) are in R(x, k)
    joins = own & (3 * shared >= 2 * half_counts.sum(axis=1))
    return own | (joins.astype(np.float32) @ half_counts > 0)


def _mutual(near: Places) -> Sets:
    """(M, M) bool: whether two images are in each other's lists."""
    listed = np.zeros((len(near), len(near)), dtype=np.bool_)
    np.put_along_axis(listed, near, True, axis=1)
    return listed & listed.T


def _mean_of_rows(values: Doubles, rows: Places) -> Doubles:
    """Row x: the mean of the rows `rows[x]` of `values`. Sums run in order of place."""
    total = np.zeros_like(values)
    for place in rows.T:
        total += values[place]
    return total / rows.shape[1]


def _jaccard_to_first(encodings: Doubles) -> Doubles:
    """1 - sum of minima / sum of maxima, of every row with the first, (M,). No row is zero: each image holds itself."""
    minima = np.minimum(encodings, encodings[0]).sum(axis=1)
    return 1 - minima / np.maximum(encodings, encodings[0]).sum(axis=1)
