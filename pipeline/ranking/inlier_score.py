"""Re-ranking by similarity and inliers together: neither decides alone.

An order by inliers alone (verified.py) loses where facades repeat or local features are weak. Here inliers add to the
similarity, and the few that any two images share by chance add nothing.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from pipeline.arrays import DECIMALS, NONE, AnyIntegers
from pipeline.ranking.evidence import VerifiedPairs
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.settings import Count, Positive, Settings


class InlierScoreSettings(Settings):
    """The step inlier_score."""

    weight: Annotated[float, Field(ge=0.0)] = 0.2  # what the most inliers add to a similarity
    min_inliers: Count = 20  # so many are chance: only those beyond count
    max_inliers: Positive = 70  # inliers beyond these from which more make no difference


def inlier_score_step(
    ranking: Ranking, inliers: AnyIntegers, settings: InlierScoreSettings, first: int = 100
) -> Ranking:
    """The first `first` images of each list by
    similarity + weight * min(max(inliers - min_inliers, 0), max_inliers) / max_inliers; the rest follows unchanged.

    ranking: its scores are similarities, and go where their images go. inliers: (Q, K), of each listed image with its
    query; 0 for pairs that were not compared. Sums are compared after rounding to 6 decimals; ties keep their order.
    O(Q K log K).
    """
    if inliers.shape != ranking.rows.shape:
        raise ValueError(f"inliers of shape {inliers.shape} for lists of shape {ranking.rows.shape}")
    beyond = inliers[:, :first].astype(np.int64) - settings.min_inliers
    share = beyond.clip(0, settings.max_inliers) / settings.max_inliers
    values = (ranking.scores[:, :first].astype(np.float64) + settings.weight * share).round(DECIMALS)
    values[ranking.rows[:, :first] == NONE] = -np.inf
    order = np.broadcast_to(np.arange(ranking.rows.shape[1]), ranking.rows.shape).copy()
    order[:, :first] = np.argsort(-values, axis=1, kind="stable")
    rows = np.take_along_axis(ranking.rows, order, axis=1)
    return Ranking(rows, np.take_along_axis(ranking.scores, order, axis=1), ranking.count)


def _apply(ranking: Ranking, settings: InlierScoreSettings, top_k: int, pairs: VerifiedPairs) -> Ranking:
    return inlier_score_step(ranking, pairs.table.look_up(ranking.rows), settings, pairs.first)


STEP = Step(
    "inlier_score",
    "similarity plus inliers beyond those of chance",
    _apply,
    always(VerifiedPairs),
    InlierScoreSettings,
    reads_similarities=True,
    tunable={"weight": (0.05, 0.1, 0.2, 0.4, 0.8), "min_inliers": (0, 10, 20, 30, 40)},
)
