"""Candidates of a search on a device: the greatest products in half precision, with a bound on what they may hide.

The bound holds for the vectors at hand, not only on average. With q', x' the rounded vectors, by Cauchy and Schwarz

    |q·x - q'·x'| <= |q - q'| |x| + |q'| |x - x'|,

whose norms are computed. The products of the rounded components are exact in float32 (11 bits times 11 bits). Their sum
is off by at most D (4 u) |q'| |x'|, u = 2^-24: the classical bound (Higham 2002, section 3.1) with four times the unit
roundoff, since tensor cores add in blocks, without rounding to nearest (Blanchard, Higham, Lopez, Mary and Pranesh
2020, "Mixed precision block fused multiply-add", section 2; Fasi, Higham, Mikaitis and Pranesh 2021). Last, the sum is
rounded to the precision of the output, by less than its machine epsilon.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.matching.blocks import ROUNDOFF, full_float32

PIECE_ROWS = 1 << 16  # rounded at a time
SUM_ROUNDOFF = 4 * ROUNDOFF  # of one addition, on tensor cores too
TINY = torch.finfo(torch.float32).tiny


class Rounded(NamedTuple):
    """Vectors in the precision of proposals, and how far they are from what they stand for.

    vectors (n, D): the original ones times `scales`, which are powers of two, rounded. norms and residuals are upper
    bounds of the norms of the scaled vectors and of what rounding took from them. These three are (n,), float32; or ()
    for all vectors together.
    """

    vectors: Tensor
    scales: Tensor
    norms: Tensor
    residuals: Tensor


class Proposals(NamedTuple):
    """Candidates of T queries: rows (T, F) int64; ceilings (T,) float64, which no other row's inner product exceeds."""

    rows: Tensor
    ceilings: Tensor


def round_vectors(vectors: Tensor, norms: Tensor, dtype: torch.dtype) -> Rounded:
    """The vectors (n, D) float32, rounded. norms: theirs (n,), each then scaled on its own; or (), the greatest of all.

    Scaling to norms below 1 keeps half precision from overflowing, and changes no order: a block has one scale.
    """
    up = 1 + vectors.shape[1] * SUM_ROUNDOFF  # norms are computed in float32
    scales = torch.ones_like(norms) if dtype == torch.float32 else _scale(norms)
    rounded = torch.empty_like(vectors, dtype=dtype)
    residuals = torch.empty_like(vectors[:, 0])
    factors = scales[:, None] if scales.ndim else scales
    for start in range(0, len(vectors), PIECE_ROWS):
        at = slice(start, start + PIECE_ROWS)
        scaled = vectors[at] * (factors[at] if scales.ndim else factors)
        rounded[at] = scaled
        residuals[at] = (scaled - rounded[at].float()).square_().sum(1).sqrt_()
    lost = residuals if norms.ndim else residuals.amax()
    return Rounded(rounded, scales, norms * scales * up, lost * up)


def propose(queries: Rounded, base: Rounded, count: int, columns: int) -> Proposals:
    """The `count` rows of the base with the greatest products with each query, with ceilings for the others.

    columns: of the base that are multiplied at a time. O(T columns) memory. Use inside `exact_accumulation`.
    """
    values = rows = None
    for start in range(0, len(base.vectors), columns):
        product = _multiply(queries.vectors, base.vectors[start : start + columns])
        greatest, at = take_greatest(product, min(count, product.shape[1]))
        if values is None or rows is None:
            values, rows = greatest, at
            continue
        values, at = torch.cat([values, greatest], 1), torch.cat([rows, at + start], 1)
        values, order = values.topk(min(count, values.shape[1]))
        rows = at.gather(1, order)
    assert values is not None and rows is not None, "a block has rows"
    if rows.shape[1] == len(base.vectors):
        return Proposals(rows, torch.full_like(values[:, 0], -torch.inf, dtype=torch.float64))
    return Proposals(rows, _bound_others(values[:, -1].double(), queries, base))


def take_greatest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest values of each row (T, N), descending, and their columns, as `topk` gives them.

    `topk` reads the values several times. One reading finds the maxima of groups of columns: the greatest values lie in
    the `count` groups with the greatest maxima, which are few columns.
    """
    width = values.shape[1]
    size = 1 << round(math.log2(max(1.0, math.sqrt(width / count))))
    groups = width // size
    if size == 1 or groups <= count:
        greatest = values.topk(count)
        return greatest.values, greatest.indices
    steps = torch.arange(0, size * groups, groups, device=values.device)
    maxima = values[:, : size * groups].unflatten(1, (size, groups)).amax(1)  # group g: g, g + groups, …
    members = (maxima.topk(count, sorted=False).indices[:, None, :] + steps[None, :, None]).flatten(1)
    rest = torch.arange(size * groups, width, device=values.device).expand(len(values), -1)
    at = torch.cat([members, rest], 1)
    greatest = values.gather(1, at).topk(count)
    return greatest.values, at.gather(1, greatest.indices)


@contextlib.contextmanager
def exact_accumulation() -> Iterator[None]:
    """Switch TF32 off inside the block, and sums of half-precision products in anything below float32."""
    flags = torch.backends.cuda.matmul
    kinds = ("fp16_reduced_precision_reduction", "bf16_reduced_precision_reduction", "fp16_accumulation")
    names = [f"allow_{kind}" for kind in kinds]
    before = [getattr(flags, name) for name in names]
    try:
        for name in names:
            setattr(flags, name, False)
        with full_float32():
            yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(flags, name, value)


def _bound_others(floors: Tensor, queries: Rounded, base: Rounded) -> Tensor:
    """The greatest true inner product, (T,) float64, of vectors whose computed one is at most the floor (T,)."""
    width, kind = queries.vectors.shape[1], torch.finfo(queries.vectors.dtype)
    norms, lost = queries.norms.double(), queries.residuals.double()
    near = norms + lost  # of the rounded query
    error = lost * base.norms + near * base.residuals
    error += width * SUM_ROUNDOFF * near * (base.norms + base.residuals) + width * TINY
    error += kind.eps * floors.abs() + kind.tiny
    return (floors + error) / (queries.scales.double() * base.scales.double())


def _scale(norms: Tensor) -> Tensor:
    """The powers of two that bring norms (float32) to between 1/2 and 1, from their exponent bits; any for 0."""
    return ((253 - (norms.view(torch.int32) >> 23)).clamp(1, 254) << 23).view(torch.float32)


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """The products (T, N) in the dtype of both, summed in float32 on every device."""
    if left.device.type == "cpu" and left.dtype != torch.float32:  # whose kernels may sum in half precision
        return (left.float() @ right.float().T).to(left.dtype)
    return left @ right.T
