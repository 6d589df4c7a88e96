"""Re-ranking by k-reciprocal neighbours: images that are mutually among each other's nearest (Zhong et al. 2017)."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.arrays import Doubles, Floats, Mask, Positions, round_similarity
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import cosines, multiply, nearest_others, rerank_shortlists, take_rows
from pipeline.ranking.step import Step, always
from pipeline.settings import Fraction, Positive, Settings


class KReciprocalSettings(Settings):
    """The step k_reciprocal."""

    first: Positive = 100  # images of a list that are re-ranked
    k1: Positive = 20  # neighbours that have to be mutual
    k2: Positive = 6  # neighbours over which an encoding is averaged
    weight: Fraction = 0.3  # of the original distance


def k_reciprocal_step(
    ranking: Ranking, descriptors: DescriptorPair, settings: KReciprocalSettings = KReciprocalSettings()
) -> Ranking:
    """The first `first` images of each list by ascending `k_reciprocal_distances`, ties by smaller row; then the rest.

    Neighbours are sought inside the shortlist: the query and its first `first` candidates. The paper seeks them among
    all database and query images. What that changes: an image whose true neighbours were not retrieved counts others
    instead, so towards the end of a shortlist, or in one not much longer than k1, sets are more mutual than in the
    paper, and a distractor may come nearer to the query than it would there; other queries give no evidence; the
    distance of a pair may change with `first`. In exchange nothing is N x N.

    Scores stay with their rows, as after every step.
    Per query O(first^2 (D + first)) time and O(first^2 + first D) memory; blocks of queries, one on each core.
    """

    def compare(query: Floats, candidates: Floats) -> Doubles:
        return -distances(query, candidates)

    distances = partial(k_reciprocal_distances, k1=settings.k1, k2=settings.k2, weight=settings.weight)
    return rerank_shortlists(ranking, descriptors, settings.first, compare)


def k_reciprocal_distances(
    query: Floats, candidates: Floats, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> Doubles:
    """The distance of each of M candidates to the query, rounded to 6 decimals: (1 - weight) d_J + weight d.

    (Zhong et al. 2017, section 3.) d is the squared Euclidean distance, 2 - 2 cos, in [0, 4]. d_J, in [0, 1], is the
    Jaccard distance of two encodings, 1 - sum of minima / sum of maxima. The encoding of x is exp(-d(x, y)) at each y
    in R*(x), else 0, then averaged over the `k2` nearest of x, x the first of them. R* is `reciprocal_sets` with k1.
    The published code also divides d by the greatest distance and each encoding by its sum: here neither is done.

    query (…, D), candidates (…, M, D), L2-normalised -> (…, M). The set in which neighbours are sought is these M + 1
    images. Ties of similarity go to the query, then to the smaller position. O(M^2 (D + M)) time, O(M^2 + M D) memory.
    """
    if k1 < 1 or k2 < 1 or not 0.0 <= weight <= 1.0:
        raise ValueError(f"k1={k1}, k2={k2}, weight={weight}: at least 1, 1, and a weight in [0, 1] are needed")
    similarities = cosines(np.concatenate([query[..., None, :], candidates], axis=-2))
    distances = np.maximum(2 - 2 * similarities, 0.0)
    near = nearest_others(similarities, max(k1, k2 - 1))
    itself = np.broadcast_to(np.arange(near.shape[-2])[:, None], (*near.shape[:-1], 1))
    near = np.concatenate([itself, near], axis=-1)
    encodings = np.where(reciprocal_sets(near, k1), np.exp(-distances), 0.0)
    jaccard = _jaccard_to_first(_mean_of_rows(encodings, near[..., :k2]))
    return round_similarity(weight * distances[..., 0, 1:] + (1 - weight) * jaccard[..., 1:])


def reciprocal_sets(near: Positions, k: int) -> Mask:
    """R*(x, k) of each of M images x, (…, M, M) bool: row x marks the members (Zhong et al. 2017, section 3).

    near: (…, M, at least min(k + 1, M)): each image itself, then the others from the nearest on.
    N(x, k) is x and its k nearest others; R(x, k) are the y in N(x, k) with x in N(y, k). R* adds the whole of
    R(y, k / 2) for every y in R(x, k) of which at least two thirds lie in R(x, k) already; odd k: k - 1.
    Counts of members are matrix products of small integers: exact.
    """
    own, half = _mutual(near[..., : k + 1]), _mutual(near[..., : k // 2 + 1])
    counts, half_counts = own.astype(np.float32), half.astype(np.float32)
    shared = multiply(counts, half_counts)  # (x, y): how many of R(y, k / 2), which is symmetric, are in R(x, k)
    joins = own & (3 * shared >= 2 * half_counts.sum(axis=-1)[..., None, :])
    return own | (multiply(joins.astype(np.float32), half_counts) > 0)


def _mutual(near: Positions) -> Mask:
    """(…, M, M) bool: whether two images are in each other's lists."""
    listed = np.zeros((*near.shape[:-1], near.shape[-2]), dtype=np.bool_)
    np.put_along_axis(listed, near, True, axis=-1)
    return listed & listed.swapaxes(-1, -2)


def _mean_of_rows(values: Doubles, rows: Positions) -> Doubles:
    """Row x: the mean of the rows `rows[x]` of `values`. Sums run in list order."""
    total = np.zeros_like(values)
    for column in range(rows.shape[-1]):
        total += take_rows(values, rows[..., column])
    return total / rows.shape[-1]


def _jaccard_to_first(encodings: Doubles) -> Doubles:
    """1 - sum of minima / sum of maxima, of every row with the first: (…, M). No row is zero: each holds itself."""
    first = encodings[..., :1, :]
    return 1 - np.minimum(encodings, first).sum(axis=-1) / np.maximum(encodings, first).sum(axis=-1)


def _apply(ranking: Ranking, settings: KReciprocalSettings, top_k: int, descriptors: DescriptorPair) -> Ranking:
    return k_reciprocal_step(ranking, descriptors, settings)


STEP = Step(
    "k_reciprocal", "k-reciprocal neighbours inside a shortlist", _apply, always(DescriptorPair), KReciprocalSettings
)
