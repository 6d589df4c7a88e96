"""Mutual nearest-neighbour matching of local features.

There are two implementations with the same results: numpy for an image and several others, which is faster on a CPU,
and torch for a batch of pairs, for a GPU. Both find candidates by approximate products and compute those again in
float64, so that every processor, every device and every padding gives the same matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import DECIMALS, Doubles, Floats, Integers, round_similarity
from pipeline.matching.blocks import ROUNDOFF, full_float32, tensor_products
from pipeline.matching.coarse_products import CoarseProducts, CoarseVectors, coarse_vectors, multiply_coarsely
from pipeline.matching.products import pair_products

SETTLED_PAIRS = 1 << 18  # of descriptors that a device multiplies at a time in float64


class Matches(NamedTuple):
    """The matches of an image with P others, by image and then by query keypoint.

    images (m,) int64, from 0 to P - 1; rows (m, 2) int32: query keypoint, base keypoint of its image.
    """

    images: Integers
    rows: NDArray[np.int32]


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
    return match_mutual_images(coarse_vectors(queries), [base], min_similarity, max_ratio).rows


def match_mutual_images(
    queries: CoarseVectors, bases: Sequence[Floats], min_similarity: float, max_ratio: float | None = None
) -> Matches:
    """`match_mutual` of one image with several at once: the larger product takes less time than several small ones."""
    ends = np.cumsum([0, *map(len, bases)])
    if not len(queries.exact) or not ends[-1]:
        return Matches(np.zeros(0, np.int64), np.zeros((0, 2), np.int32))
    base = coarse_vectors(bases[0] if len(bases) == 1 else np.concatenate(bases))
    product = multiply_coarsely(base, queries)
    rows, columns = _find_candidates(product, ends, product.least(min_similarity))
    values = round_similarity(pair_products(base.exact, queries.exact, rows, columns))
    images = np.searchsorted(ends, rows, side="right") - 1
    length, width = product.values.shape
    keypoints = images * width + columns  # of the query, once for each image
    mutual = (_nearest(rows, columns, values, (length, width))[rows] == columns) & (
        _nearest(keypoints, rows, values, (len(bases) * width, length))[keypoints] == rows
    )
    mutual &= values >= min_similarity
    matched = np.flatnonzero(mutual)[np.argsort(keypoints[mutual])]
    if max_ratio is not None:
        entries = images[matched], rows[matched], columns[matched]
        second = _find_second(product, ends, entries, (base.exact, queries.exact))
        matched = matched[_distances(values[matched]) <= max_ratio * _distances(second)]
    images = images[matched]
    return Matches(images, np.stack([columns[matched], rows[matched] - ends[images]], axis=1).astype(np.int32))


def _find_candidates(product: CoarseProducts, ends: Integers, least: float) -> tuple[Integers, Integers]:
    """The entries that may be the greatest of their row, or of their column among the rows of an image.

    They are `least` or more. ends: (P + 1,) where the rows of the images begin.
    """
    values, slack = product.values, product.slack
    greatest = values.max(1)
    rows = np.flatnonzero(greatest >= least)  # elsewhere there is nothing
    if 4 * len(rows) > 3 * len(values):
        rows = np.arange(len(values))
    else:
        values, greatest = values.take(rows, axis=0), greatest[rows]
    near = values >= np.maximum(greatest - slack, least)[:, None]
    bounds = np.searchsorted(rows, ends)
    for part in (slice(*pair) for pair in pairwise(bounds.tolist()) if pair[0] < pair[1]):
        near[part] |= values[part] >= np.maximum(values[part].max(0) - slack, least)
    at, columns = np.divmod(np.flatnonzero(near), values.shape[1])
    return rows[at], columns


def _find_second(
    product: CoarseProducts,
    ends: Integers,
    matches: tuple[Integers, Integers, Integers],
    vectors: tuple[Floats, Floats],
) -> Doubles:
    """The similarity of each matched query keypoint to its second nearest base keypoint, (m,); -inf if there is none.

    matches: their images, rows and columns in the product; vectors: those of its rows and of its columns.
    """
    images, rows, columns = matches
    second = np.full(len(rows), -np.inf)
    lowest = 2 * product.least(-1.0)
    for image in np.unique(images).tolist():
        start, stop = ends[image : image + 2].tolist()
        own = np.flatnonzero(images == image)
        others = product.values[start:stop].take(columns[own], axis=1)
        others[rows[own] - start, np.arange(len(own))] = lowest
        near, at = np.nonzero(others >= np.maximum(others.max(0) - product.slack, lowest + 1))
        values = round_similarity(pair_products(*vectors, start + near, columns[own[at]]))
        np.maximum.at(second, own[at], values)
    return second


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
