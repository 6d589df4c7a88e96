"""SuperGlobal re-ranking: candidates refined by each other, the query by the best of them (Shao et al. 2023)."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import (
    Descriptors,
    Doubles,
    Floats,
    cosines,
    nearest_others,
    rerank_shortlists,
    rounded,
)


def superglobal_step(
    ranking: Ranking,
    queries: Descriptors,
    index: Descriptors,
    first: int = 400,
    neighbours: int = 9,
    beta: float = 0.15,
) -> Ranking:
    """The first `first` places of each list in order of `superglobal_scores`, ties by smaller row; the rest as it was.

    queries (Q, D), index (N, D): vectors of length 1. Scores stay with their rows, as after every step.
    Of each query O(first^2 D) time and O(first^2 + first D) memory; one query at a time.
    """
    compare = partial(superglobal_scores, neighbours=neighbours, beta=beta)
    return rerank_shortlists(ranking, queries, index, first, compare)


def superglobal_scores(query: Floats, candidates: Floats, neighbours: int = 9, beta: float = 0.15) -> Doubles:
    """How well each of M candidates answers the query, (M,), rounded to 6 decimals (Shao et al. 2023).

    (1) Every candidate x_i becomes x'_i of `refine_candidates`. (2) s_i = <query, x'_i>. (3) The query becomes
    the elementwise maximum of the `neighbours` + 1 refined candidates of greatest s. (4) The score is the mean of s_i
    and of <that maximum, x'_i>. As published, nothing is scaled to length 1 again on the way.

    query (D,), candidates (M, D), of length 1. Ties in (3) go to the smaller place.
    """
    if not len(candidates):
        return np.zeros(0)
    refined = refine_candidates(candidates, neighbours, beta)
    similarities = (refined * query).sum(axis=1)
    best = np.argsort(-rounded(similarities), kind="stable")[: neighbours + 1]
    expanded = refined[best].max(axis=0)
    return rounded((similarities + (refined * expanded).sum(axis=1)) / 2)


def refine_candidates(candidates: Floats, neighbours: int = 9, beta: float = 0.15) -> Doubles:
    """Each of M vectors as the weighted mean of itself and its nearest among the others, (M, D) float64.

    Itself has weight 1, each of the `neighbours` nearest beta * max(cosine, 0). The published code lets negative
    cosines weigh, so that the sum of the weights can vanish, and takes whatever is nearest for the vector itself, which
    beside a duplicate it need not be. Ties go to the smaller place.
    """
    if neighbours < 0 or not beta >= 0.0:
        raise ValueError(f"neighbours={neighbours}, beta={beta}: neither may be below 0")
    similarities, total = cosines(candidates), candidates.astype(np.float64)
    weights = np.ones(len(candidates))
    wide = total.copy()
    for place in nearest_others(similarities, neighbours).T:  # (M,) the next nearest of every vector
        weight = beta * np.maximum(similarities[np.arange(len(place)), place], 0.0)
        total += weight[:, None] * wide[place]
        weights += weight
    return total / weights[:, None]
