"""All inner products of two sets of vectors, with a bound on their error: they propose candidates for exact ones.

On a processor with VNNI instructions vectors are rounded to 8-bit integers, whose products are exact and four times as
fast as those of float32; elsewhere the products are float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import DECIMALS, Floats
from pipeline.matching.blocks import ROUNDOFF, as_tensor

GREATEST = 127  # of a component as an integer
MOST = 2**29  # more than any product


class CoarseVectors(NamedTuple):
    """The vectors `exact` (N, D) float32 as multiples of `unit`: (N, D) int8; or themselves, and a unit of 1.

    norm: the greatest length of a vector; error: the greatest length of what rounding took from one.
    """

    exact: Floats
    multiples: Tensor
    unit: float
    norm: float
    error: float


class CoarseProducts(NamedTuple):
    """The products (N, M) of two sets of vectors as multiples of `unit`, int32 or float32.

    slack: the greatest difference, in units, of two of them whose exact values agree to 6 decimals.
    """

    values: NDArray[Any]
    unit: float
    slack: float

    def least(self, similarity: float) -> float:
        """The least of the values whose exact product may be as much as `similarity`, rounded."""
        if self.values.dtype == np.float32:
            return similarity - self.slack
        return _whole(similarity / self.unit) - self.slack


def coarse_vectors(vectors: Floats) -> CoarseVectors:
    """The vectors (N, D), all finite, in the format that this processor multiplies fastest."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    norm = _greatest_norm(vectors)
    if not multiplies_bytes() or vectors.shape[1] == 1:  # a single component: torch leaves the product as it was
        return CoarseVectors(vectors, as_tensor(vectors), 1.0, norm, 0.0)
    unit = float(max(vectors.max(initial=0.0), -vectors.min(initial=0.0))) / GREATEST or 1.0
    values = vectors * np.float32(1 / unit)
    multiples = np.rint(values, out=values).astype(np.int8)
    values *= np.float32(unit)
    values -= vectors
    return CoarseVectors(vectors, torch.from_numpy(multiples), unit, norm, _greatest_norm(values))


def multiply_coarsely(left: CoarseVectors, right: CoarseVectors) -> CoarseProducts:
    """The products of N and M vectors; O(N M) memory. Runs on torch.get_num_threads() threads.

    With a = u A + e and b = v B + f, |a b - u v A B| <= |a| |f| + |e| |v B| (Cauchy and Schwarz); it counts twice,
    since two products are compared.
    """
    unit, width = left.unit * right.unit, left.multiples.shape[1]
    error = left.norm * right.error + left.error * (right.norm + right.error)
    slack = 2 * error + 2 * width * ROUNDOFF * max(1.0, left.norm * right.norm) + 4 * 10.0**-DECIMALS
    if left.multiples.dtype == torch.int8:
        products = torch._int_mm(left.multiples, right.multiples.T)
        return CoarseProducts(products.numpy(), unit, _whole(slack / unit) + 1)
    return CoarseProducts(torch.mm(left.multiples, right.multiples.T).numpy(), unit, slack)


@cache
def multiplies_bytes() -> bool:
    """Whether this processor has fast and exact products of 8-bit integers."""
    known = torch.cpu.get_capabilities()
    if not (known.get("avx512_vnni") or known.get("avx_vnni")):
        return False
    extremes = torch.full((16, 64), GREATEST, dtype=torch.int8)  # older instructions saturate
    return bool((torch._int_mm(extremes, -extremes.T) == -64 * GREATEST**2).all())


def _greatest_norm(vectors: Floats) -> float:
    return float(np.sqrt(np.vecdot(vectors, vectors).max(initial=0.0)))


def _whole(units: float) -> int:
    """The units rounded down, such that two of them still fit into int32 with any product."""
    return int(np.clip(np.floor(units), -MOST, MOST))
