"""Inner products of a tile of queries with a block of base vectors, by faiss on the CPU or by torch on any device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

PAIR_VALUES = 1 << 17  # of each side of the pairs multiplied at a time on the CPU: they stay in the cache
TORCH_PAIRS = 32_768
ROUNDOFF = 2.0**-24  # relative error of one float32 operation


class Rows(Protocol):
    """What a search reads: N vectors, by slices of rows. An array, an np.memmap, or vectors joined as they are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


def parts(vectors: Rows, size: int) -> Iterator[tuple[int, Floats]]:
    """(first row, at most `size` rows as contiguous float32), over all rows."""
    for start in range(0, len(vectors), size):
        part = vectors[start : min(start + size, len(vectors))]
        yield start, np.ascontiguousarray(part, dtype=np.float32)


def greatest_norm(vectors: Floats, start: int, name: str) -> float:
    """The norm of the longest vector; ValueError names the first that is not finite (the first of all is `start`)."""
    squares = np.einsum("nd,nd->n", vectors, vectors)  # not finite if any component is not: one pass for both
    if not np.isfinite(squares).all():
        row = start + int(np.argmin(np.isfinite(squares)))
        raise ValueError(f"row {row} of the {name} is not finite (NaN, infinite, or too long for float32)")
    return float(np.sqrt(squares.max(initial=0.0)))


def float32_error(queries: Floats, longest: float) -> Doubles:
    """How far a float32 inner product with each query can be from the true one, whatever the order of summation, (Q,).

    longest: the greatest norm among the other vectors x.
    The classical bound (Higham 2002, section 3.1): D u / (1 - D u) |q| |x|, u the roundoff.
    """
    width = queries.shape[1]
    return width * ROUNDOFF / (1 - width * ROUNDOFF) * np.linalg.norm(queries.astype(np.float64), axis=1) * longest


class FaissBlock:
    """Some base vectors (B, D) on the CPU."""

    def __init__(self, vectors: Floats):
        self.vectors = vectors

    def nearest(self, tile: Floats, count: int) -> tuple[Floats, Integers]:
        """The float32 similarities to `tile` (T, D) and the rows of the `count` nearest, (T, count) each."""
        return faiss.knn(tile, self.vectors, count, metric=faiss.METRIC_INNER_PRODUCT)

    def products(self, tile: Floats, queries: Integers, rows: Integers) -> Doubles:
        """The inner products of P pairs (row of the tile, row of the block), summed in float64, (P,)."""
        products, size = np.empty(len(rows)), max(1, PAIR_VALUES // max(1, tile.shape[1]))
        for start in range(0, len(rows), size):
            at = slice(start, start + size)
            pairs = tile[queries[at]].astype(np.float64)
            pairs *= self.vectors[rows[at]]  # exact: 24 bits times 24 bits fit into 53
            products[at] = pairs.sum(axis=1)
        return products


class TorchBlock:
    """The same on a torch device. Call inside `full_float32`."""

    def __init__(self, vectors: Floats, device: str):
        self.device = device
        self.vectors = self._here(vectors)

    def nearest(self, tile: Floats, count: int) -> tuple[Floats, Integers]:
        """The same as FaissBlock.nearest; O(T B) memory."""
        values, rows = (self._here(tile) @ self.vectors.T).topk(count)
        return values.cpu().numpy(), rows.cpu().numpy()

    def products(self, tile: Floats, queries: Integers, rows: Integers) -> Doubles:
        """The same as FaissBlock.products, to the last bit or two of float64."""
        resident, products = self._here(tile), np.empty(len(rows))
        for start in range(0, len(rows), TORCH_PAIRS):
            at = slice(start, start + TORCH_PAIRS)
            left, right = resident[self._here(queries[at])], self.vectors[self._here(rows[at])]
            products[at] = (left.double() * right.double()).sum(dim=1).cpu().numpy()
        return products

    def _here(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.require(values, requirements="W")).to(self.device)  # torch warns of read-only arrays


def load(vectors: Floats, device: str | None) -> FaissBlock | TorchBlock:
    """The vectors ready for products: None = faiss on the CPU, else the torch device of that name."""
    return FaissBlock(vectors) if device is None else TorchBlock(vectors, device)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """TF32 off for a while: its products are a thousand times coarser than `float32_error` allows for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
