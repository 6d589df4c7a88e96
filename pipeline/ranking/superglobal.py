"""SuperGlobal re-ranking: candidates refined by each other, the query by the best of them (Shao et al. 2023)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from pipeline.arrays import Doubles, Floats, round_similarity
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import cosines, nearest_others, rerank_shortlists
from pipeline.ranking.step import Step, always
from pipeline.settings import Positive, Settings


class SuperGlobalSettings(Settings):
    """The step superglobal."""

    first: Positive = 100  # images of a list that are re-ranked
    neighbours: Positive = 9  # candidates that refine a candidate, and the query
    beta: Annotated[float, Field(ge=0.0)] = 0.15  # weight of a neighbour's cosine


def superglobal_step(
    ranking: Ranking, descriptors: DescriptorPair, settings: SuperGlobalSettings = SuperGlobalSettings()
) -> Ranking:
    """The first `first` images of each list by `superglobal_scores`, ties by smaller row; the rest follows unchanged.

    Scores stay with their rows, as after every step.
    Per query O(first^2 D) time and O(first^2 + first D) memory; one query at a time.
    """
    compare = partial(superglobal_scores, neighbours=settings.neighbours, beta=settings.beta)
    return rerank_shortlists(ranking, descriptors, settings.first, compare)


def superglobal_scores(query: Floats, candidates: Floats, neighbours: int = 9, beta: float = 0.15) -> Doubles:
    """How well each of M candidates answers the query, (M,), rounded to 6 decimals (Shao et al. 2023).

    (1) Every candidate x_i becomes x'_i of `refine_candidates`. (2) s_i = <query, x'_i>. (3) The query becomes
    the elementwise maximum of the `neighbours` + 1 refined candidates of greatest s. (4) The score is the mean of s_i
    and of <that maximum, x'_i>. As published, nothing is L2-normalised again on the way.

    query (D,), candidates (M, D), L2-normalised. Ties in (3) go to the smaller position.
    """
    if not len(candidates):
        return np.zeros(0)
    refined = refine_candidates(candidates, neighbours, beta)
    similarities = (refined * query).sum(axis=1)
    best = np.argsort(-round_similarity(similarities), kind="stable")[: neighbours + 1]
    expanded = refined[best].max(axis=0)
    return round_similarity((similarities + (refined * expanded).sum(axis=1)) / 2)


def refine_candidates(candidates: Floats, neighbours: int = 9, beta: float = 0.15) -> Doubles:
    """Each of M vectors as the weighted mean of itself and its nearest among the others, (M, D) float64.

    Itself has weight 1, each of the `neighbours` nearest beta * max(cosine, 0). The published code lets negative
    cosines weigh, so that the sum of the weights can vanish, and takes whatever is nearest for the vector itself, which
    beside a duplicate it need not be. Ties go to the smaller position.
    """
    if neighbours < 0 or not beta >= 0.0:
        raise ValueError(f"neighbours={neighbours}, beta={beta}: neither may be below 0")
    similarities, total = cosines(candidates), candidates.astype(np.float64)
    weights = np.ones(len(candidates))
    wide = total.copy()
    for nearest in nearest_others(similarities, neighbours).T:  # (M,) the next nearest of every vector
        weight = beta * np.maximum(similarities[np.arange(len(nearest)), nearest], 0.0)
        total += weight[:, None] * wide[nearest]
        weights += weight
    return total / weights[:, None]


def _apply(ranking: Ranking, settings: SuperGlobalSettings, top_k: int, descriptors: DescriptorPair) -> Ranking:
    return superglobal_step(ranking, descriptors, settings)


STEP = Step(
    "superglobal",
    "candidates refined by each other, the query by the best of them, inside a shortlist",
    _apply,
    always(DescriptorPair),
    SuperGlobalSettings,
)
