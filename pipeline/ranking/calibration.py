"""Scores of the recognition as probabilities that the answer is right.

Platt 1999, as in Lin, Lin & Weng 2007: p = 1 / (1 + exp(-(slope * score + intercept))), fitted by maximum likelihood to
scores of answers that are known to be right or wrong. Probabilities rise with the scores, so that no order changes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS, Doubles, Mask

FEWEST = 10  # answers of either kind that are enough for a fit
MOST_STEPS = 100  # of Newton's method


class Calibration(NamedTuple):
    """slope, intercept: of the logistic curve; slope None = too few answers of either kind. answers: how many."""

    slope: float | None
    intercept: float = 0.0
    answers: int = 0


def fit_calibration(scores: NDArray[np.floating], right: Mask) -> Calibration:
    """The curve for answers with these scores (A,), of which `right` (A,) are right.

    Its targets are (n + 1) / (n + 2) of n right answers and 1 / (m + 2) of m wrong ones: two kinds that a threshold
    separates still give a finite slope. Numbers are rounded to 6 decimals. A slope below 0 counts as none.
    """
    known, unknown = int(right.sum()), int((~right).sum())
    if min(known, unknown) < FEWEST:
        return Calibration(None, answers=len(scores))
    targets = np.where(right, (known + 1) / (known + 2), 1 / (unknown + 2))
    columns = np.stack([scores.astype(np.float64), np.ones(len(scores))], axis=1)
    curve = np.zeros(2)
    for _ in range(MOST_STEPS):
        chances = _logistic(columns @ curve)
        slope_of_loss = columns.T @ (targets - chances)
        curvature = (columns * (chances * (1 - chances))[:, None]).T @ columns + 1e-9 * np.eye(2)
        change = np.linalg.solve(curvature, slope_of_loss)
        curve += change / max(1.0, float(np.abs(change).max()))  # at most 1: Newton's steps overshoot far out
        if np.abs(change).max() < 1e-9:
            break
    slope, intercept = curve.round(DECIMALS).tolist()
    return Calibration(slope if slope > 0 else None, intercept, len(scores))


def to_probabilities(scores: NDArray[np.floating], calibration: Calibration) -> Doubles:
    """The probability of each score; NaN where there is no curve."""
    if calibration.slope is None:
        return np.full(len(scores), np.nan)
    return _logistic(calibration.slope * scores.astype(np.float64) + calibration.intercept).round(DECIMALS)


def _logistic(values: Doubles) -> Doubles:
    return 1.0 / (1.0 + np.exp(-values.clip(-500, 500)))
