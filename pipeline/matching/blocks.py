"""Blocks of base vectors for a search: top-k inner products by faiss on the CPU or by torch on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Doubles, Floats, Integers, Vectors
from pipeline.matching.products import pair_products

CPU = torch.device("cpu")
TENSOR_PAIRS = 32_768  # pairs multiplied at a time on a GPU
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


class FaissBlock:
    """Base vectors (B, D) on the CPU."""

    def __init__(self, vectors: Floats):
        self.vectors = vectors

    def nearest(self, tile: Floats, count: int) -> tuple[Floats, Integers]:
        """The float32 similarities to `tile` (T, D) and the rows of the `count` nearest vectors, (T, count) each."""
        return faiss.knn(tile, self.vectors, count, metric=faiss.METRIC_INNER_PRODUCT)

    def products(self, tile: Floats, queries: Integers, rows: Integers) -> Doubles:
        """The inner products of P pairs (row of the tile, row of the block), summed in float64, (P,)."""
        return pair_products(tile, self.vectors, queries, rows)


class TorchBlock:
    """The same on a torch device. Use inside `full_float32`."""

    def __init__(self, vectors: Floats, device: torch.device):
        self.device = device
        self.vectors = self._upload(vectors)

    def nearest(self, tile: Floats, count: int) -> tuple[Floats, Integers]:
        """The same as FaissBlock.nearest; O(T B) memory."""
        values, rows = (self._upload(tile) @ self.vectors.T).topk(count)
        return values.cpu().numpy(), rows.cpu().numpy()

    def products(self, tile: Floats, queries: Integers, rows: Integers) -> Doubles:
        """The same as FaissBlock.products, to the last bit or two of float64."""
        left, products = self._upload(tile), np.empty(len(rows))
        for start in range(0, len(rows), TENSOR_PAIRS):
            at = slice(start, start + TENSOR_PAIRS)
            chunk = tensor_products(left, self.vectors, self._upload(queries[at]), self._upload(rows[at]))
            products[at] = chunk.cpu().numpy()
        return products

    def _upload(self, values: NDArray[Any]) -> Tensor:
        return as_tensor(values).to(self.device)


def load_block(vectors: Floats, device: torch.device) -> FaissBlock | TorchBlock:
    """The vectors, ready for products with queries: faiss on a CPU, else torch on the device."""
    return FaissBlock(vectors) if device.type == "cpu" else TorchBlock(vectors, device)


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
