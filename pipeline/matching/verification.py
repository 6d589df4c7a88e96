"""Geometric verification of many pairs of images: how many local features of each pair agree on one affine map.

`mutual` and `geometry` hold the steps for one pair and for one batch. On a CPU, one thread per core works on its own
pairs, with every library single-threaded; on a GPU, pairs are verified in batches. The features come from any store
that gives those of a row; a query's features are read once for its run of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Positions
from pipeline.features.local_store import LocalFeatures
from pipeline.matching.blocks import CPU, full_float32
from pipeline.matching.geometry import Affine, fit_affine, fit_affine_batch
from pipeline.matching.mutual import DescriptorBatch, match_mutual, match_mutual_batch
from pipeline.processes import one_thread_each
from pipeline.settings import VerifySettings

BLOCK_PAIRS = 8  # pairs that a thread takes at a time: few, so that a short list keeps many cores busy
BATCH_PAIRS = 32  # pairs at once on a GPU: 4 MiB of similarities each at 1,000 features, and a few times that besides


class FeatureRows(Protocol):
    """What verification reads: the local features of a row."""

    def __getitem__(self, row: int, /) -> LocalFeatures: ...


@dataclass(frozen=True)
class MatchOptions:
    """min_similarity, max_ratio: of matches, as in match_mutual. max_iterations: of RANSAC, as in fit_affine."""

    min_similarity: float
    max_ratio: float | None = None
    max_iterations: int = 1000

    @classmethod
    def from_settings(cls, settings: VerifySettings) -> MatchOptions:
        """The options that the configuration asks for; there a max_ratio of 1 means no ratio test."""
        max_ratio = settings.max_ratio if settings.max_ratio < 1.0 else None
        return cls(settings.min_similarity, max_ratio, settings.max_iterations)


class Verified(NamedTuple):
    """For each pair its number of mutual matches and how many of them are inliers of one map: (P,) int32 each."""

    matches: NDArray[np.int32]
    inliers: NDArray[np.int32]


def verify_pairs(
    queries: FeatureRows,
    base: FeatureRows,
    pairs: NDArray[np.integer],
    thresholds_px: NDArray[np.floating],
    options: MatchOptions,
    device: torch.device = CPU,
    threads: int | None = None,
) -> Verified:
    """The matches and inliers of each pair.

    pairs: (P, 2) rows of `queries` and of `base`; give a query's pairs together. thresholds_px: (P,) greatest residual
    of an inlier, in pixels of the base image. An image without features has 0 matches and 0 inliers.
    device: a CPU means threads, `threads` of them or one per core; a GPU means batches of pairs, with other RANSAC
    samples: see fit_affine_batch.
    Each pair's result depends only on its features: not on the threads, nor on which pairs are verified together.
    O(threads M N) memory, or O(BATCH_PAIRS M N) on a GPU.
    Raises ValueError for shapes that do not fit and for a threshold that is not above 0.
    """
    _check(pairs, thresholds_px)
    verified = Verified(np.zeros(len(pairs), np.int32), np.zeros(len(pairs), np.int32))
    work = _Work(queries, base, pairs, thresholds_px, options, device, verified)
    if not _uses_threads(device):
        for block in work.cut(BATCH_PAIRS):
            work.verify_batch(block)
        return verified
    with full_float32(), one_thread_each(threads) as pool:
        list(pool.map(work.verify_one_by_one, work.cut(BLOCK_PAIRS)))
    return verified


def verify_pair(
    query: LocalFeatures, base: LocalFeatures, threshold_px: float, options: MatchOptions
) -> tuple[NDArray[np.int32], Affine]:
    """One pair in detail: its matches (m, 2) as rows of both images' features, and the map with its inliers.

    The counts are those of verify_pairs on a CPU.
    """
    with full_float32():
        return _verify(query, base, threshold_px, options)


def _verify(
    query: LocalFeatures, base: LocalFeatures, threshold_px: float, options: MatchOptions
) -> tuple[NDArray[np.int32], Affine]:
    matches = match_mutual(query.descriptors, base.descriptors, options.min_similarity, options.max_ratio)
    source, target = query.points[matches[:, 0]], base.points[matches[:, 1]]
    return matches, fit_affine(source, target, threshold_px, options.max_iterations)


def _uses_threads(device: torch.device) -> bool:
    return device.type == "cpu"


@dataclass(frozen=True)
class _Work:
    """A call of verify_pairs, its arguments checked; the blocks write their results into `verified`."""

    queries: FeatureRows
    base: FeatureRows
    pairs: NDArray[np.integer]
    thresholds_px: NDArray[np.floating]
    options: MatchOptions
    device: torch.device
    verified: Verified

    def cut(self, size: int) -> list[slice]:
        """The pairs in blocks of at most `size`."""
        return [slice(start, min(start + size, len(self.pairs))) for start in range(0, len(self.pairs), size)]

    def verify_one_by_one(self, block: slice) -> None:
        """The pairs of a block on the current thread."""
        latest, query = -1, None
        for at in range(*block.indices(len(self.pairs))):
            row, base_row = (int(row) for row in self.pairs[at])
            if query is None or row != latest:
                latest, query = row, self.queries[row]
            matches, affine = _verify(query, self.base[base_row], float(self.thresholds_px[at]), self.options)
            self.verified.matches[at] = len(matches)
            self.verified.inliers[at] = affine.inliers.sum()

    def verify_batch(self, block: slice) -> None:
        """All pairs of a block at once on the device; in halves if they do not fit into its memory."""
        try:
            return self.verify_together(block)
        except torch.OutOfMemoryError:
            if block.stop - block.start == 1:
                raise
        torch.cuda.empty_cache()
        middle = (block.start + block.stop) // 2
        for half in (slice(block.start, middle), slice(middle, block.stop)):
            self.verify_batch(half)

    def verify_together(self, block: slice) -> None:
        """All pairs of a block at once on the device."""
        rows, positions = np.unique(self.pairs[block, 0], return_inverse=True)
        queries = _upload([self.queries[int(row)] for row in rows], self.device).take(positions)
        base = _upload([self.base[int(row)] for row in self.pairs[block, 1]], self.device)
        partners = match_mutual_batch(
            queries.descriptors, base.descriptors, self.options.min_similarity, self.options.max_ratio
        )
        matched = partners >= 0
        most = int(matched.sum(1).max()) if matched.numel() else 0
        first = matched.int().argsort(stable=True, dim=1, descending=True)[:, :most]  # matches first, in their order
        source = _gather_points(queries.points, first)
        target = _gather_points(base.points, partners.gather(1, first).clamp(min=0))
        thresholds = torch.from_numpy(self.thresholds_px[block].astype(np.float64)).to(self.device)
        fitted = fit_affine_batch(source, target, matched.gather(1, first), thresholds, self.options.max_iterations)
        self.verified.matches[block] = matched.sum(1).cpu().numpy()
        self.verified.inliers[block] = fitted.inliers.sum(1).cpu().numpy()


def _check(pairs: NDArray[np.integer], thresholds_px: NDArray[np.floating]) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs has shape {pairs.shape}; (P, 2) is needed: query row, base row")
    if thresholds_px.shape != (len(pairs),):
        raise ValueError(f"thresholds_px has shape {thresholds_px.shape}; one for each of {len(pairs)} pairs is needed")
    bad = np.flatnonzero(~(np.isfinite(thresholds_px) & (thresholds_px > 0)))
    if len(bad):
        raise ValueError(f"thresholds_px of pair {bad[0]} is {thresholds_px[bad[0]]}; it must be above 0 pixels")


class _FeatureBatch(NamedTuple):
    """The features of B images on a device: points (B, n, 2), zeros in the padding, and their descriptors."""

    points: Tensor
    descriptors: DescriptorBatch

    def take(self, positions: Positions) -> _FeatureBatch:
        """The batch of the images at these positions, which may repeat."""
        at = torch.from_numpy(positions).to(self.points.device)
        return _FeatureBatch(self.points[at], DescriptorBatch(*(part[at] for part in self.descriptors)))


def _upload(features: list[LocalFeatures], device: torch.device) -> _FeatureBatch:
    counts = np.array([len(each.points) for each in features], np.int64)
    width = max((each.descriptors.shape[1] for each in features), default=0)
    points = np.zeros((len(features), counts.max(initial=0), 2), np.float32)
    descriptors = np.zeros((*points.shape[:2], width), np.float32)
    for at, each in enumerate(features):
        points[at, : counts[at]], descriptors[at, : counts[at]] = each.points, each.descriptors
    uploaded = [torch.from_numpy(part).to(device) for part in (points, descriptors, counts)]
    return _FeatureBatch(uploaded[0], DescriptorBatch(*uploaded[1:]))


def _gather_points(points: Tensor, rows: Tensor) -> Tensor:
    """(B, k, 2): of the points (B, n, 2) of each pair the given rows (B, k)."""
    return points.gather(1, rows[:, :, None].expand(-1, -1, 2))
