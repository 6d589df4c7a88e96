"""Which local features of two photographs belong together: each other's nearest neighbours.

There are two forms with one meaning: one pair of photographs at a time, the faster on a CPU, and a batch of pairs in
torch, for a GPU. Matches are proposed by one float32 matrix product a pair and settled in float64, so that both forms,
every device and every padding give the same matches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.matching.blocks import ROUNDOFF, full_float32

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DECIMALS = 6  # similarities that agree to this many decimals are ties


def match_mutual(
    queries: Floats, base: Floats, min_similarity: float, max_ratio: float | None = None
) -> NDArray[np.int32]:
    """The pairs (query keypoint, base keypoint) that are each other's nearest neighbour, (m, 2), by query keypoint.

    queries (M, D), base (N, D): finite vectors of length 1. Similarities are inner products in float64, rounded to 6
    decimals; ties go to the smaller row on both sides. A pair needs at least `min_similarity`; with `max_ratio` also
    d1 <= max_ratio * d2, the Euclidean distances of the query keypoint to its nearest and second nearest (Lowe 2004).
    A base of one keypoint has no second and passes.

    The product is torch's: it runs on torch.get_num_threads() threads. Time O(M N D), memory O(M N).
    """
    if not len(queries) or not len(base):
        return np.zeros((0, 2), np.int32)
    product = torch.mm(_tensor(queries), _tensor(base).T).numpy()
    slack = _slack(queries.shape[1])
    near = product >= (np.maximum(product.max(1), min_similarity) - slack).astype(np.float32)[:, None]
    near |= product >= (np.maximum(product.max(0), min_similarity) - slack).astype(np.float32)
    rows, columns = np.divmod(np.flatnonzero(near), len(base))
    values = _products(queries, base, rows, columns)
    mutual = (_nearest(rows, columns, values, len(queries), len(base))[rows] == columns) & (
        _nearest(columns, rows, values, len(base), len(queries))[columns] == rows
    )
    mutual &= values >= min_similarity
    rows, columns, values = rows[mutual], columns[mutual], values[mutual]
    if max_ratio is not None and len(base) > 1:
        others = product[rows]
        others[np.arange(len(rows)), columns] = -np.inf
        second = _products(queries, base, rows, others.argmax(1))
        distinct = _distances(values) <= max_ratio * _distances(second)
        rows, columns = rows[distinct], columns[distinct]
    return np.stack([rows, columns], axis=1).astype(np.int32)


def match_mutual_batch(
    queries: Tensor,
    base: Tensor,
    query_counts: Tensor,
    base_counts: Tensor,
    min_similarity: float,
    max_ratio: float | None = None,
) -> Tensor:
    """For each query keypoint of B pairs the base keypoint that `match_mutual` pairs it with, else -1: (B, M) int64.

    queries (B, M, D), base (B, N, D) float32 on one device, of which the first query_counts[b] and base_counts[b] rows
    are keypoints and the rest finite padding. O(B M N) memory.
    """
    (pairs, height, width), length = queries.shape, base.shape[1]
    partners = torch.full((pairs, height), -1, dtype=torch.int64, device=queries.device)
    if not partners.numel() or not length:
        return partners
    with full_float32():
        product = queries @ base.transpose(1, 2)
    product.masked_fill_(_beyond(query_counts, height)[:, :, None], -torch.inf)
    product.masked_fill_(_beyond(base_counts, length)[:, None, :], -torch.inf)
    slack = _slack(width)
    near = product >= product.amax(2, keepdim=True).clamp(min=min_similarity) - slack
    near |= product >= product.amax(1, keepdim=True).clamp(min=min_similarity) - slack
    at = near.view(-1).nonzero().view(-1)
    flat_queries, flat_base = queries.reshape(-1, width), base.reshape(-1, width)
    rows, columns = at // length, at // (height * length) * length + at % length  # of the flattened keypoints
    values = _products_batch(flat_queries, flat_base, rows, columns)
    mutual = (_nearest_batch(rows, columns, values, len(flat_queries), len(flat_base))[rows] == columns) & (
        _nearest_batch(columns, rows, values, len(flat_base), len(flat_queries))[columns] == rows
    )
    mutual &= values >= min_similarity
    rows, columns, values = rows[mutual], columns[mutual], values[mutual]
    if max_ratio is not None:
        others = product.view(-1, length)[rows]
        others.scatter_(1, (columns % length)[:, None], -torch.inf)
        value, at_second = others.max(1)
        second = _products_batch(flat_queries, flat_base, rows, columns // length * length + at_second)
        distinct = _distances(values) <= max_ratio * _distances(second)
        distinct |= value == -torch.inf  # there is no second
        rows, columns = rows[distinct], columns[distinct]
    partners.view(-1)[rows] = columns % length
    return partners


def _slack(width: int) -> float:
    """What two float32 inner products of unit vectors, equal once rounded, may be apart at most, with some to spare."""
    return 2 * width * ROUNDOFF + 4 * 10.0**-DECIMALS


def _tensor(values: Floats) -> Tensor:
    """Shares memory where it can; read-only arrays, such as memmaps, are copied, since torch warns of them."""
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"]))


def _beyond(counts: Tensor, length: int) -> Tensor:
    return torch.arange(length, device=counts.device) >= counts[:, None]


def _distances(similarities: Any) -> Any:
    return (2 - 2 * similarities).clip(0) ** 0.5


def _products(queries: Floats, base: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Doubles:
    return np.einsum("pd,pd->p", queries[rows].astype(np.float64), base[columns].astype(np.float64)).round(DECIMALS)


def _products_batch(queries: Tensor, base: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return (queries[rows].double() * base[columns].double()).sum(1).round(decimals=DECIMALS)


def _nearest(
    rows: NDArray[np.int64], columns: NDArray[np.int64], values: Doubles, height: int, width: int
) -> NDArray[np.int64]:
    """The column of the greatest value in each row, ties by smaller column; `width` in rows without values."""
    greatest, nearest = np.full(height, -np.inf), np.full(height, width)
    np.maximum.at(greatest, rows, values)
    best = values == greatest[rows]
    np.minimum.at(nearest, rows[best], columns[best])
    return nearest


def _nearest_batch(rows: Tensor, columns: Tensor, values: Tensor, height: int, width: int) -> Tensor:
    """The same of tensors. Maxima and minima: no order of the parallel sums can change them."""
    greatest = values.new_full((height,), -torch.inf).scatter_reduce_(0, rows, values, "amax")
    best = values == greatest[rows]
    return rows.new_full((height,), width).scatter_reduce_(0, rows[best], columns[best], "amin")
