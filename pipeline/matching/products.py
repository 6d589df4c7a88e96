"""Inner products of single pairs of vectors in float64."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import Doubles, Floats, Integers

PAIR_VALUES = 1 << 17  # of each side of the pairs multiplied at a time: they stay in the cache


def pair_products(left: Floats, right: Floats, left_rows: Integers, right_rows: Integers) -> Doubles:
    """The inner products of P pairs (row of left, row of right), summed in float64, (P,)."""
    products, size = np.empty(len(left_rows)), max(1, PAIR_VALUES // max(1, left.shape[1]))
    for start in range(0, len(left_rows), size):
        at = slice(start, start + size)
        pairs = left[left_rows[at]].astype(np.float64)
        pairs *= right[right_rows[at]]  # exact: 24 bits times 24 bits fit into 53
        products[at] = pairs.sum(axis=1)
    return products
