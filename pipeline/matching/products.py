"""Exact inner products of selected pairs of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Doubles, Floats

CHUNK_VALUES = 1 << 16  # components of each side that are multiplied at a time: they stay in the cache


def pair_products(
    left: Floats, right: Floats, left_rows: NDArray[np.integer[Any]], right_rows: NDArray[np.integer[Any]]
) -> Doubles:
    """The inner products of P pairs of vectors, summed in float64, (P,).

    left (M, D), right (N, D) float32; left_rows, right_rows (P,): which two vectors are a pair. A product depends only
    on its own two vectors. Memory O(P + CHUNK_VALUES).
    """
    products, size = np.empty(len(right_rows)), max(1, CHUNK_VALUES // max(1, left.shape[1]))
    for start in range(0, len(right_rows), size):
        at = slice(start, start + size)
        pairs = left.take(left_rows[at], axis=0).astype(np.float64)  # twice as fast as left[rows]
        pairs *= right.take(right_rows[at], axis=0)  # exact: 24 bits times 24 bits fit into 53
        products[at] = pairs.sum(axis=1)
    return products
