"""The difference of two means over the same queries, with an interval by the paired bootstrap (Efron 1979)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
BLOCK_VALUES = 4 << 20  # values drawn at a time


class Interval(NamedTuple):
    """A mean difference and its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_difference(
    first: NDArray[np.floating], second: NDArray[np.floating], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of second - first over Q queries, and the interval in which it lies with this confidence.

    first, second: (Q,), the score of each query by two systems. Queries are drawn with replacement, a query with both
    of its scores, DRAWS times; the interval lies between two quantiles of the means. Raises ValueError for other
    shapes, for no query, and for values that are not finite.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"scores of shapes {first.shape} and {second.shape} are no pairs")
    differences = np.asarray(second, np.float64) - first
    if not np.isfinite(differences).all():
        raise ValueError("a score is not finite")
    random, means = np.random.default_rng(seed), np.empty(DRAWS)
    size = max(1, BLOCK_VALUES // len(differences))
    for start in range(0, DRAWS, size):
        count = min(size, DRAWS - start)
        means[start : start + count] = differences[
            random.integers(0, len(differences), (count, len(differences)))
        ].mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(differences.mean()), float(low), float(high))
