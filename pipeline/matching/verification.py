"""Geometric verification of many pairs of photographs: for each, how many local features agree on one surface.

The steps for one pair are in `geometry`. Here is what makes them many: on a CPU one thread a core, each with its own
pairs and every library at one thread; on a GPU batches of pairs. Features come from any store that gives those of a
row: they are read where they lie, a query's once for its run of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.local_store import LocalFeatures
from pipeline.matching.blocks import full_float32
from pipeline.matching.geometry import Affine, fit_affine, fit_affine_batch
from pipeline.matching.mutual import match_mutual, match_mutual_batch
from pipeline.processes import one_thread_each

BLOCK_PAIRS = 8  # pairs that a thread takes at a time: few, so that a short list keeps many cores busy
BATCH_PAIRS = 32  # pairs at once on a device: 4 MiB of similarities each at 1,000 features, and a few times that beside


class FeatureRows(Protocol):
    """What verification reads: the features of a row."""

    def __getitem__(self, row: int, /) -> LocalFeatures: ...


class Verified(NamedTuple):
    """For each pair the number of its mutual matches and how many of them obey one map: (P,) int32 each."""

    matches: NDArray[np.int32]
    inliers: NDArray[np.int32]


def verify_pairs(
    queries: FeatureRows,
    base: FeatureRows,
    pairs: NDArray[np.integer],
    inlier_threshold: NDArray[np.floating],
    *,
    min_similarity: float,
    max_ratio: float | None = None,
    max_iterations: int = 1000,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> Verified:
    """The matches and inliers of each pair.

    pairs: (P, 2) rows of `queries` and of `base`; give a query's pairs together. inlier_threshold: (P,) pixels of the base
    photograph. min_similarity, max_ratio: as in match_mutual; max_iterations: as in fit_affine. A photograph without features
    has 0 matches and 0 inliers.
    device: None = threads on the CPU, one a core unless `threads` is given; a torch device = batches of pairs there,
    whose max_iterations are others: see fit_affine_batch.
    Each pair's answer depends on its features alone: not on threads, nor on which pairs are asked for together.
    O(threads M N) memory, or O(BATCH_PAIRS M N) on a device.
    Raises ValueError for shapes that do not fit and for a inlier_threshold that is not above 0.
    """
    _check(pairs, inlier_threshold)
    verified = Verified(np.zeros(len(pairs), np.int32), np.zeros(len(pairs), np.int32))
    task = _Task(queries, base, pairs, inlier_threshold, min_similarity, max_ratio, max_iterations, device, verified)
    size = BLOCK_PAIRS if device is None else BATCH_PAIRS
    blocks = [slice(start, min(start + size, len(pairs))) for start in range(0, len(pairs), size)]
    if device is not None:
        for block in blocks:
            task.verify_on_device(block)
        return verified
    with full_float32(), one_thread_each(threads) as pool:
        list(pool.map(task.verify_in_turn, blocks))
    return verified


def verify_pair(
    query: LocalFeatures,
    base: LocalFeatures,
    inlier_threshold: float,
    *,
    min_similarity: float,
    max_ratio: float | None = None,
    max_iterations: int = 1000,
) -> tuple[NDArray[np.int32], Affine]:
    """One pair in detail: its matches (m, 2) as rows of the two photographs' features, and the map they obey.

    The counts are those of verify_pairs on a CPU.
    """
    with full_float32():
        return _verify(query, base, inlier_threshold, min_similarity, max_ratio, max_iterations)


def _verify(
    query: LocalFeatures,
    base: LocalFeatures,
    inlier_threshold: float,
    min_similarity: float,
    max_ratio: float | None,
    max_iterations: int,
) -> tuple[NDArray[np.int32], Affine]:
    matches = match_mutual(query.descriptors, base.descriptors, min_similarity, max_ratio)
    return matches, fit_affine(
        query.points[matches[:, 0]], base.points[matches[:, 1]], inlier_threshold, max_iterations
    )


@dataclass(frozen=True)
class _Task:
    """A call of verify_pairs, its arguments checked; the blocks write their answers into `verified`."""

    queries: FeatureRows
    base: FeatureRows
    pairs: NDArray[np.integer]
    inlier_threshold: NDArray[np.floating]
    min_similarity: float
    max_ratio: float | None
    max_iterations: int
    device: torch.device | str | None
    verified: Verified

    def verify_in_turn(self, block: slice) -> None:
        """One pair after the other, on this thread."""
        latest, query = -1, None
        for at in range(*block.indices(len(self.pairs))):
            row, base_row = (int(row) for row in self.pairs[at])
            if query is None or row != latest:
                latest, query = row, self.queries[row]
            limit = float(self.inlier_threshold[at])
            matches, affine = _verify(
                query, self.base[base_row], limit, self.min_similarity, self.max_ratio, self.max_iterations
            )
            self.verified.matches[at] = len(matches)
            self.verified.inliers[at] = affine.inliers.sum()

    def verify_on_device(self, block: slice) -> None:
        """All pairs at once; those that the device has no memory for in halves."""
        try:
            return self.verify_together(block)
        except torch.OutOfMemoryError:
            if block.stop - block.start == 1:
                raise
        torch.cuda.empty_cache()
        middle = (block.start + block.stop) // 2
        for half in (slice(block.start, middle), slice(middle, block.stop)):
            self.verify_on_device(half)

    def verify_together(self, block: slice) -> None:
        """All pairs at once, on the device."""
        rows, places = np.unique(self.pairs[block, 0], return_inverse=True)
        here = torch.from_numpy(places).to(self.device)
        query_points, query_descriptors, query_counts = (
            part[here] for part in _padded([self.queries[int(row)] for row in rows], self.device)
        )
        base_points, base_descriptors, base_counts = _padded(
            [self.base[int(row)] for row in self.pairs[block, 1]], self.device
        )
        partners = match_mutual_batch(
            query_descriptors, base_descriptors, query_counts, base_counts, self.min_similarity, self.max_ratio
        )
        matched = partners >= 0
        most = int(matched.sum(1).max()) if matched.numel() else 0
        first = matched.int().argsort(stable=True, dim=1, descending=True)[:, :most]  # matches first, in their order
        target = _taken(base_points, partners.gather(1, first).clamp(min=0))
        limits = torch.from_numpy(self.inlier_threshold[block].astype(np.float64)).to(self.device)
        fitted = fit_affine_batch(
            _taken(query_points, first), target, matched.gather(1, first), limits, self.max_iterations
        )
        self.verified.matches[block] = matched.sum(1).cpu().numpy()
        self.verified.inliers[block] = fitted.inliers.sum(1).cpu().numpy()


def _check(pairs: NDArray[np.integer], inlier_threshold: NDArray[np.floating]) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs has shape {pairs.shape}; (P, 2) is needed: query row, base row")
    if inlier_threshold.shape != (len(pairs),):
        raise ValueError(
            f"inlier_threshold has shape {inlier_threshold.shape}; one for each of {len(pairs)} pairs is needed"
        )
    bad = np.flatnonzero(~(np.isfinite(inlier_threshold) & (inlier_threshold > 0)))
    if len(bad):
        raise ValueError(f"inlier_threshold of pair {bad[0]} is {inlier_threshold[bad[0]]}; it must be above 0 pixels")


def _padded(features: list[LocalFeatures], device: torch.device | str | None) -> tuple[Tensor, Tensor, Tensor]:
    """points (B, n, 2), descriptors (B, n, D), counts (B,): the features of photographs, zeros after the last."""
    counts = np.array([len(each.points) for each in features], np.int64)
    width = max((each.descriptors.shape[1] for each in features), default=0)
    points = np.zeros((len(features), counts.max(initial=0), 2), np.float32)
    descriptors = np.zeros((*points.shape[:2], width), np.float32)
    for at, each in enumerate(features):
        points[at, : counts[at]], descriptors[at, : counts[at]] = each.points, each.descriptors
    points_here, descriptors_here, counts_here = (
        torch.from_numpy(part).to(device) for part in (points, descriptors, counts)
    )
    return points_here, descriptors_here, counts_here


def _taken(points: Tensor, rows: Tensor) -> Tensor:
    """(B, k, 2): of the points (B, n, 2) of each pair the given rows (B, k)."""
    return points.gather(1, rows[:, :, None].expand(-1, -1, 2))
