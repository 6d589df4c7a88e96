"""The ranking steps by name: one line per step. Recipes, settings and the documentation are made from this table."""

from __future__ import annotations

from pipeline.ranking import (
    diffusion,
    expansion,
    graph_traversal,
    inlier_score,
    k_reciprocal,
    label_vector,
    propagation,
    soft,
    superglobal,
    two_stage,
    verified,
)
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step
from pipeline.settings import Settings


def keep_neighbours(ranking: Ranking, settings: Settings, top_k: int) -> Ranking:
    """The nearest neighbours as the search found them."""
    return ranking


_STEPS = (
    Step("knn", "the nearest neighbours as searched; every recipe starts with it", keep_neighbours),
    verified.STEP,
    inlier_score.STEP,
    two_stage.SORT,
    two_stage.INSERT,
    soft.STEP,
    label_vector.LABEL_VECTOR,
    label_vector.LABEL_SCORE,
    propagation.STEP,
    expansion.AQE,
    expansion.ALPHA_QE,
    expansion.DBA,
    diffusion.STEP,
    graph_traversal.STEP,
    k_reciprocal.STEP,
    superglobal.STEP,
)
STEPS: dict[str, Step] = {step.name: step for step in _STEPS}
