"""Re-ranking by geometric verification: images with the most inliers first (DELG, section 3.5)."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import NONE, AnyIntegers
from pipeline.ranking.evidence import VerifiedPairs
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.settings import Count, Settings


class VerifiedOrderSettings(Settings):
    """The step verify."""

    min_inliers: Count = 0  # fewer inliers than this count as none


def verify_step(ranking: Ranking, inliers: AnyIntegers, first: int = 100, min_inliers: int = 0) -> Ranking:
    """The first `first` images of each list by descending inliers; the rest follows unchanged.

    inliers: (Q, K), of each listed image with its query; 0 for pairs that were not compared. Fewer than `min_inliers`
    count as none: two images that share nothing have some inliers by chance, and their order would be noise.
    Equal counts keep their order: after the nearest neighbours that is "by inliers, then similarity". O(Q K log K).
    """
    if inliers.shape != ranking.rows.shape:
        raise ValueError(f"inliers of shape {inliers.shape} for lists of shape {ranking.rows.shape}")
    counted = np.where(inliers >= min_inliers, inliers, 0)[:, :first].astype(np.int64)
    counted[ranking.rows[:, :first] == NONE] = -1  # positions without an image stay at the end
    order = np.broadcast_to(np.arange(ranking.rows.shape[1]), ranking.rows.shape).copy()
    order[:, :first] = np.argsort(-counted, axis=1, kind="stable")
    rows = np.take_along_axis(ranking.rows, order, axis=1)
    return Ranking(rows, np.take_along_axis(ranking.scores, order, axis=1), ranking.count)


def _apply(ranking: Ranking, settings: VerifiedOrderSettings, top_k: int, pairs: VerifiedPairs) -> Ranking:
    return verify_step(ranking, pairs.table.look_up(ranking.rows), pairs.first, settings.min_inliers)


STEP = Step(
    "verify",
    "images with the most inliers first",
    _apply,
    always(VerifiedPairs),
    VerifiedOrderSettings,
    tunable={"min_inliers": (0, 10, 15, 20, 25, 30, 40, 60)},
)
