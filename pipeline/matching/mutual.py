"""Mutual nearest-neighbour matching of local features.

There are two implementations with the same results: numpy for one pair of images, which is 1.5 to 2 times as fast on a
CPU, and torch for a batch of pairs, for a GPU. Both generate candidates by one float32 matrix product per pair and
re-score them in float64, so every device and every padding gives the same matches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import DECIMALS, Doubles, Floats, Integers, round_similarity
from pipeline.matching.blocks import ROUNDOFF, as_tensor, full_float32, tensor_products
from pipeline.matching.products import pair_products

SETTLED_PAIRS = 1 << 18  # of descriptors that a device multiplies at a time in float64


def match_mutual(
    queries: Floats, base: Floats, min_similarity: float, max_ratio: float | None = None
) -> NDArray[np.int32]:
    """The pairs (query keypoint, base keypoint) that are each other's nearest neighbours, (m, 2), by query keypoint.

    queries (M, D), base (N, D): finite, L2-normalised. Similarities are inner products in float64, rounded to 6
    decimals; ties go to the smaller row on both sides. A match needs at least `min_similarity`; with `max_ratio` also
    d1 <= max_ratio * d2, the Euclidean distances of the query keypoint to its nearest and second nearest (Lowe 2004).
    With a single base keypoint there is no second, and the ratio test passes.

    The product is torch's: it runs on torch.get_num_threads() threads. Time O(M N D), memory O(M N).
    """
    if not len(queries) or not len(base):
        return np.zeros((0, 2), np.int32)
    queries, base = (np.asarray(vectors, np.float32) for vectors in (queries, base))
    product = torch.mm(as_tensor(queries), as_tensor(base).T).numpy()
    slack = _slack(queries.shape[1])
    near = product >= (np.maximum(product.max(1), min_similarity) - slack).astype(np.float32)[:, None]
    near |= product >= (np.maximum(product.max(0), min_similarity) - slack).astype(np.float32)
    rows, columns = np.divmod(np.flatnonzero(near), len(base))
    values = round_similarity(pair_products(queries, base, rows, columns))
    mutual = (_nearest(rows, columns, values, product.shape)[rows] == columns) & (
        _nearest(columns, rows, values, product.shape[::-1])[columns] == rows
    )
    mutual &= values >= min_similarity
    rows, columns, values = rows[mutual], columns[mutual], values[mutual]
    if max_ratio is not None and len(base) > 1:
        others = product[rows]
        others[np.arange(len(rows)), columns] = -np.inf
        second = round_similarity(pair_products(queries, base, rows, others.argmax(1)))
        distinct = _distances(values) <= max_ratio * _distances(second)
        rows, columns = rows[distinct], columns[distinct]
    return np.stack([rows, columns], axis=1).astype(np.int32)


class DescriptorBatch(NamedTuple):
    """The descriptors of B images: vectors (B, M, D) float32, of which the first counts[b] are image b's.

    counts: (B,) int64 on the same device. The vectors after them are finite padding.
    """

    vectors: Tensor
    counts: Tensor


def match_mutual_batch(
    queries: DescriptorBatch, base: DescriptorBatch, min_similarity: float, max_ratio: float | None = None
) -> Tensor:
    """For each query keypoint of B pairs the base keypoint that `match_mutual` matches it with, else -1: (B, M) int64.

    queries (B, M, D) and base (B, N, D) are on one device. Waits for it once, for the number of candidates.
    O(B M N) memory; B M N must be below 2^31.
    """
    (pairs, height, width), length = queries.vectors.shape, base.vectors.shape[1]
    partners = queries.counts.new_full((pairs, height), -1)
    if not partners.numel() or not length:
        return partners
    product = _masked_product(queries, base)
    slack = _slack(width)
    near = product >= product.amax(2, keepdim=True).clamp(min=min_similarity) - slack
    near |= product >= product.amax(1, keepdim=True).clamp(min=min_similarity) - slack
    at = near.view(-1).nonzero().view(-1)
    left, right = queries.vectors.reshape(-1, width), base.vectors.reshape(-1, width)
    rows, columns = at // length, at // (height * length) * length + at % length  # of the flattened keypoints
    values = _settle(left, right, rows, columns)
    mutual = (_nearest_batch(rows, columns, values, (len(left), len(right)))[rows] == columns) & (
        _nearest_batch(columns, rows, values, (len(right), len(left)))[columns] == rows
    )
    mutual &= values >= min_similarity
    partners.view(-1).scatter_reduce_(0, rows, torch.where(mutual, columns % length, -1), "amax")
    return partners if max_ratio is None else _test_ratios(partners, product, (left, right), max_ratio)


def _test_ratios(partners: Tensor, product: Tensor, vectors: tuple[Tensor, Tensor], max_ratio: float) -> Tensor:
    """The partners (B, M), -1 for those that fail the ratio test. Overwrites the product (B, M, N)."""
    pairs, height, length = product.shape
    nearest = partners.clamp(min=0)
    value, second = product.scatter_(2, nearest[:, :, None], -torch.inf).max(2)
    rows = torch.arange(pairs * height, device=product.device)
    first = rows // height * length  # of the base keypoints of each query keypoint's pair
    distances = [
        _distances(_settle(*vectors, rows, first + chosen.view(-1))).view(pairs, height) for chosen in (nearest, second)
    ]
    is_distinct = (distances[0] <= max_ratio * distances[1]) | (value == -torch.inf)  # or there is no second
    return partners.where(is_distinct, -1)


def _settle(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The exact similarities of P pairs of keypoints, rounded, (P,) float64; O(P + SETTLED_PAIRS D) memory."""
    parts = zip(rows.split(SETTLED_PAIRS), columns.split(SETTLED_PAIRS), strict=True)
    return torch.cat([tensor_products(left, right, *part).round(decimals=DECIMALS) for part in parts])


def _masked_product(queries: DescriptorBatch, base: DescriptorBatch) -> Tensor:
    """The inner products (B, M, N) float32, -inf in the padding."""
    with full_float32():
        product = queries.vectors @ base.vectors.transpose(1, 2)
    product.masked_fill_(_padding(queries)[:, :, None], -torch.inf)
    return product.masked_fill_(_padding(base)[:, None, :], -torch.inf)


def _padding(batch: DescriptorBatch) -> Tensor:
    return torch.arange(batch.vectors.shape[1], device=batch.counts.device) >= batch.counts[:, None]


def _slack(width: int) -> float:
    """The greatest difference of two float32 inner products that are equal once rounded, with some to spare."""
    return 2 * width * ROUNDOFF + 4 * 10.0**-DECIMALS


def _distances(similarities: Any) -> Any:
    return (2 - 2 * similarities).clip(0) ** 0.5


def _nearest(rows: Integers, columns: Integers, values: Doubles, shape: tuple[int, ...]) -> Integers:
    """The column of the greatest value in each row of a (rows, columns) matrix, ties by smaller column.

    rows, columns, values: (P,) the entries that are known. In rows without any the answer is the number of columns.
    """
    greatest, nearest = np.full(shape[0], -np.inf), np.full(shape[0], shape[1])
    np.maximum.at(greatest, rows, values)
    best = values == greatest[rows]
    np.minimum.at(nearest, rows[best], columns[best])
    return nearest


def _nearest_batch(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same of tensors. Maxima and minima: no order of the parallel updates can change them."""
    greatest = values.new_full((shape[0],), -torch.inf).scatter_reduce_(0, rows, values, "amax")
    nearest = rows.new_full((shape[0],), shape[1])
    return nearest.scatter_reduce_(0, rows, columns.where(values == greatest[rows], shape[1]), "amin")
