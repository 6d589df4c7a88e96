"""Nearest neighbours as a value: the lists that a search gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.arrays import NONE, Floats, Rows


class Neighbours(NamedTuple):
    """The nearest base rows of each of Q queries, best first.

    rows: (Q, k) int32. Where the base has fewer than k, the list ends with NONE and similarity 0.
    similarities: (Q, k) float32, inner products rounded to 6 decimals, descending; equal ones by ascending row.
    """

    rows: Rows
    similarities: Floats


def no_neighbours(count: int, k: int) -> Neighbours:
    """Empty lists of k positions for `count` queries."""
    return Neighbours(np.full((count, k), NONE, np.int32), np.zeros((count, k), np.float32))
