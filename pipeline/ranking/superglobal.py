"""SuperGlobal re-ranking: candidates refined by each other, the query by the best of them (Shao et al. 2023)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from pipeline.arrays import Doubles, Floats, Positions, round_similarity
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import cosines, nearest_others, rerank_shortlists, take_rows
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
    Per query O(first^2 D) time and O(first^2 + first D) memory; blocks of queries, one on each core.
    """
    compare = partial(superglobal_scores, neighbours=settings.neighbours, beta=settings.beta)
    return rerank_shortlists(ranking, descriptors, settings.first, compare)


def superglobal_scores(query: Floats, candidates: Floats, neighbours: int = 9, beta: float = 0.15) -> Doubles:
    """How well each of M candidates answers the query, rounded to 6 decimals (Shao et al. 2023).

    (1) Every candidate x_i becomes x'_i of `refine_candidates`. (2) s_i = <query, x'_i>. (3) The query becomes
    the elementwise maximum of the `neighbours` + 1 refined candidates of greatest s. (4) The score is the mean of s_i
    and of <that maximum, x'_i>. As published, nothing is L2-normalised again on the way.

    query (…, D), candidates (…, M, D), L2-normalised -> (…, M). Ties in (3) go to the smaller position.
    """
    if not candidates.shape[-2]:
        return np.zeros(candidates.shape[:-1])
    wide, (near, weights) = candidates.astype(np.float64), _weigh_neighbours(candidates, neighbours, beta)

    def refined_similarities(vector: Floats | Doubles) -> Doubles:
        """Inner products with the refined candidates: means of those with the candidates, so none need be refined."""
        products = (wide * vector[..., None, :]).sum(axis=-1, keepdims=True)
        return _average(products, np.arange(wide.shape[-2]), near, weights)[..., 0]

    similarities = refined_similarities(query)
    best = np.argsort(-round_similarity(similarities), axis=-1, kind="stable")[..., : neighbours + 1]
    expanded = _average(wide, best, take_rows(near, best), take_rows(weights, best)).max(axis=-2)
    return round_similarity((similarities + refined_similarities(expanded)) / 2)


def refine_candidates(candidates: Floats, neighbours: int = 9, beta: float = 0.15) -> Doubles:
    """Each of M vectors as the weighted mean of itself and its nearest among the others, (M, D) float64.

    Itself has weight 1, each of the `neighbours` nearest beta * max(cosine, 0). The published code lets negative
    cosines weigh, so that the sum of the weights can vanish, and takes whatever is nearest for the vector itself, which
    beside a duplicate it need not be. Ties go to the smaller position.
    """
    near, weights = _weigh_neighbours(candidates, neighbours, beta)
    return _average(candidates.astype(np.float64), np.arange(len(candidates)), near, weights)


def _weigh_neighbours(candidates: Floats, neighbours: int, beta: float) -> tuple[Positions, Doubles]:
    """The nearest others of each of M candidates, and what they weigh beside itself: (…, M, n) both."""
    if neighbours < 0 or not beta >= 0.0:
        raise ValueError(f"neighbours={neighbours}, beta={beta}: neither may be below 0")
    similarities = cosines(candidates)
    near = nearest_others(similarities, neighbours)
    return near, beta * np.maximum(np.take_along_axis(similarities, near, axis=-1), 0.0)


def _average(values: Doubles, own: Positions, near: Positions, weights: Doubles) -> Doubles:
    """Weighted means of rows of values (…, M, X), (…, P, X): rows `own` (…, P) weigh 1, `near` (…, P, n) `weights`."""
    total, mass = take_rows(values, own), np.ones(near.shape[:-1])
    for position in range(near.shape[-1]):
        total += weights[..., position, None] * take_rows(values, near[..., position])
        mass += weights[..., position]
    return total / mass[..., None]


def _apply(ranking: Ranking, settings: SuperGlobalSettings, top_k: int, descriptors: DescriptorPair) -> Ranking:
    return superglobal_step(ranking, descriptors, settings)


STEP = Step(
    "superglobal",
    "candidates refined by each other, the query by the best of them, inside a shortlist",
    _apply,
    always(DescriptorPair),
    SuperGlobalSettings,
)
