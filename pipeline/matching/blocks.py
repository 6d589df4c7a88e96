"""What searches and matching on every device share: vectors in parts, error bounds, products in full precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Doubles, Floats, Vectors

CPU = torch.device("cpu")
ROUNDOFF = 2.0**-24  # relative error of one float32 operation


def parts(vectors: Vectors, size: int) -> Iterator[tuple[int, Floats]]:
    """(first row, at most `size` rows as contiguous float32), over all rows."""
    for start in range(0, len(vectors), size):
        part = vectors[start : min(start + size, len(vectors))]
        yield start, np.ascontiguousarray(part, dtype=np.float32)


def check_finite_max_norm(vectors: Floats, start: int, name: str) -> float:
    """The greatest norm of the vectors. ValueError names the first row that is not finite; the first row is `start`."""
    squares = np.einsum("nd,nd->n", vectors, vectors)  # not finite if any component is not: one pass for both
    if not np.isfinite(squares).all():
        row = start + int(np.argmin(np.isfinite(squares)))
        raise ValueError(f"row {row} of the {name} is not finite (NaN, infinite, or too long for float32)")
    return float(np.sqrt(squares.max(initial=0.0)))


def error_bounds(queries: Floats, max_norm: float) -> Doubles:
    """The greatest error of a float32 inner product with each query, whatever the order of summation, (Q,) float64.

    max_norm: the greatest norm of the other vectors x.
    The classical bound (Higham 2002, section 3.1): D u / (1 - D u) |q| |x|, u the unit roundoff.
    """
    width = queries.shape[1]
    return width * ROUNDOFF / (1 - width * ROUNDOFF) * np.linalg.norm(queries.astype(np.float64), axis=1) * max_norm


def tensor_products(left: Tensor, right: Tensor, left_rows: Tensor, right_rows: Tensor) -> Tensor:
    """`pair_products` of tensors on one device; O(P D) memory."""
    return (left[left_rows].double() * right[right_rows].double()).sum(dim=1)


def as_tensor(values: NDArray[Any]) -> Tensor:
    """A tensor that shares the array's memory; a read-only array is copied, since torch warns of it."""
    values = np.ascontiguousarray(values)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Switch TF32 off inside the block: its products are a thousand times coarser than `error_bounds` allows for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
