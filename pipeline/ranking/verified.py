"""Verified order: what shares a surface with the query comes first (DELG, section 3.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.ranking.ranking import Ranking


def verify_step(ranking: Ranking, inliers: NDArray[np.integer], first: int = 100, min_inliers: int = 0) -> Ranking:
    """The first `first` places of each list by inliers, most first; the rest follows as it was.

    inliers: (Q, K), of each listed image with its query; 0 for pairs that were not compared. Fewer than `min_inliers`
    count as none: between photographs that share nothing there are some by chance, and their order would be noise.
    Equal ones keep their order: behind the nearest neighbours that is "by inliers, then similarity". O(Q K log K).
    """
    if inliers.shape != ranking.rows.shape:
        raise ValueError(f"inliers of shape {inliers.shape} for lists of shape {ranking.rows.shape}")
    counted = np.where(inliers >= min_inliers, inliers, 0)[:, :first].astype(np.int64)
    counted[ranking.rows[:, :first] < 0] = -1  # places without an image stay at the end
    order = np.broadcast_to(np.arange(ranking.rows.shape[1]), ranking.rows.shape).copy()
    order[:, :first] = np.argsort(-counted, axis=1, kind="stable")
    rows = np.take_along_axis(ranking.rows, order, axis=1)
    return Ranking(rows, np.take_along_axis(ranking.scores, order, axis=1), ranking.count)
