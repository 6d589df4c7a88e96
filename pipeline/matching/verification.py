"""Geometric verification of many pairs of images: how many local features of each pair agree on one affine map.

`mutual` and `geometry` hold the steps for one pair and for one batch. On a CPU, one thread per core works on its own
pairs, with every library single-threaded; on a GPU, `pair_batches` verifies many at once. The features come from any
store that gives those of a row; on a CPU a query's features are read once for its run of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import Floats
from pipeline.features.local_store import LocalFeatures
from pipeline.matching.blocks import CPU, full_float32
from pipeline.matching.coarse_products import CoarseVectors, coarse_vectors
from pipeline.matching.geometry import Affine, fit_affine, fit_affines
from pipeline.matching.mutual import Matches, match_mutual_images
from pipeline.matching.pair_batches import PairWork, verify_in_batches
from pipeline.matching.resident_features import FeatureRows
from pipeline.processes import available_cores, one_thread_each

if TYPE_CHECKING:
    from pipeline.settings import VerifySettings

BLOCK_PAIRS = 32  # pairs that a thread takes at most at a time; fewer of a short list, which shall keep many cores busy
PRODUCTS = 3 << 18  # of descriptors that are computed at a time, and an image more: they stay in the cache


@dataclass(frozen=True)
class MatchOptions:
    """min_similarity, max_ratio: of matches, as in match_mutual. max_iterations: of RANSAC, as in fit_affine.

    compiled: on a GPU, score RANSAC's maps by torch.compile; see fit_affine_batch.
    """

    min_similarity: float
    max_ratio: float | None = None
    max_iterations: int = 1000
    compiled: bool = False

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
    O(threads M N) memory; on a GPU the features of all images, and as many pairs as there is memory for.
    Raises ValueError for shapes that do not fit and for a threshold that is not above 0.
    """
    _check(pairs, thresholds_px)
    work = PairWork(queries, base, pairs, thresholds_px, options, device)
    if not _uses_threads(device):
        return Verified(*verify_in_batches(work))
    verified = Verified(np.zeros(len(pairs), np.int32), np.zeros(len(pairs), np.int32))
    threads = threads or available_cores()
    size = max(1, min(BLOCK_PAIRS, len(pairs) // (2 * threads)))
    blocks = [slice(start, min(start + size, len(pairs))) for start in range(0, len(pairs), size)]
    with full_float32(), one_thread_each(threads) as pool:
        list(pool.map(partial(_verify_block, work, verified), blocks))
    return verified


def verify_pair(
    query: LocalFeatures, base: LocalFeatures, threshold_px: float, options: MatchOptions
) -> tuple[NDArray[np.int32], Affine]:
    """One pair in detail: its matches (m, 2) as rows of both images' features, and the map with its inliers.

    The counts are those of verify_pairs on a CPU.
    """
    with full_float32():
        matches, located = _match(_Query.of(query), [base], options)
    return matches.rows, fit_affine(*located, threshold_px, options.max_iterations)


def _uses_threads(device: torch.device) -> bool:
    return device.type == "cpu"


def _verify_block(work: PairWork, verified: Verified, block: slice) -> None:
    """Write the results of the pairs of a block, on the current thread."""
    sides: list[tuple[Floats, Floats]] = []
    for row, pairs in groupby(range(*block.indices(len(work.pairs))), lambda at: int(work.pairs[at, 0])):
        query = _Query.of(work.queries[row])
        for at, bases in _read_together(work, list(pairs), len(query.points)):
            matches, located = _match(query, bases, work.options)
            verified.matches[at] = np.bincount(matches.images, minlength=len(bases))
            sides.append(located)
    counts = verified.matches[block].astype(np.int64)
    source, target = (np.concatenate(points) for points in zip(*sides, strict=True))
    fitted = fit_affines(source, target, counts, work.thresholds_px[block], work.options.max_iterations)
    verified.inliers[block] = np.bincount(
        np.repeat(np.arange(len(counts)), counts)[fitted.inliers], minlength=len(counts)
    )


class _Query(NamedTuple):
    """Keypoints that are compared with those of many images."""

    points: Floats
    descriptors: CoarseVectors

    @classmethod
    def of(cls, features: LocalFeatures) -> _Query:
        return cls(features.points, coarse_vectors(features.descriptors))


def _match(
    query: _Query, bases: Sequence[LocalFeatures], options: MatchOptions
) -> tuple[Matches, tuple[Floats, Floats]]:
    """The matches of a query with each of P base images, and where they are in both, (m, 2) each."""
    descriptors = [base.descriptors for base in bases]
    matches = match_mutual_images(query.descriptors, descriptors, options.min_similarity, options.max_ratio)
    starts = np.cumsum([0, *(len(base.points) for base in bases)])
    points = np.concatenate([base.points for base in bases])
    return matches, (query.points[matches.rows[:, 0]], points[starts[matches.images] + matches.rows[:, 1]])


def _read_together(work: PairWork, pairs: list[int], keypoints: int) -> Iterator[tuple[slice, list[LocalFeatures]]]:
    """Consecutive pairs of a query with so many keypoints, and their base images: a few of small images at a time."""
    start, bases, length = pairs[0], [], 0
    for at in pairs:
        bases.append(work.base[int(work.pairs[at, 1])])
        length += len(bases[-1].points)
        if length * keypoints >= PRODUCTS or at == pairs[-1]:
            yield slice(start, at + 1), bases
            start, bases, length = at + 1, [], 0


def _check(pairs: NDArray[np.integer], thresholds_px: NDArray[np.floating]) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs has shape {pairs.shape}; (P, 2) is needed: query row, base row")
    if thresholds_px.shape != (len(pairs),):
        raise ValueError(f"thresholds_px has shape {thresholds_px.shape}; one for each of {len(pairs)} pairs is needed")
    bad = np.flatnonzero(~(np.isfinite(thresholds_px) & (thresholds_px > 0)))
    if len(bad):
        raise ValueError(f"thresholds_px of pair {bad[0]} is {thresholds_px[bad[0]]}; it must be above 0 pixels")
