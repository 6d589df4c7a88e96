"""Geometric verification of pairs in batches on a device.

The features of all images of a call stay on the device: each is read and sent once, in its storage format, while the
pairs before it are verified. A batch has as many pairs as its similarities leave memory for. The device is waited for
twice a batch, to learn how many candidates and how many matches there are, and at the end, for the counts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.device_memory import MemoryLimit, count_free_bytes
from pipeline.matching.device_geometry import fit_affine_batch
from pipeline.matching.mutual import match_mutual_batch
from pipeline.matching.resident_features import FeatureRows, PackedFeatures, ResidentFeatures
from pipeline.matching.uploads import upload

if TYPE_CHECKING:
    from pipeline.matching.verification import MatchOptions

MAX_PAIRS = 1_024  # of a batch: more do not make a GPU faster, and fewer batches overlap less with reading
RESIDENT_SHARE = 0.4  # of the free memory: the features of a call
BATCH_SHARE = 0.5  # of what is free beside them: a batch; the rest is for scoring, which works in parts of fixed size
MAX_VALUES = 2**31 - 1  # of one tensor: kernels of torch count in 32 bits


@dataclass(frozen=True)
class PairWork:
    """Pairs to verify: the arguments of `verify_pairs`, checked."""

    queries: FeatureRows
    base: FeatureRows
    pairs: NDArray[np.integer]
    thresholds_px: NDArray[np.floating]
    options: MatchOptions
    device: torch.device
    limit: MemoryLimit = field(default_factory=MemoryLimit)  # of pairs at a time, on a GPU

    def halve(self) -> list[PairWork]:
        """The first and the second half of the pairs."""
        parts = zip(np.array_split(self.pairs, 2), np.array_split(self.thresholds_px, 2), strict=True)
        return [replace(self, pairs=pairs, thresholds_px=thresholds) for pairs, thresholds in parts]


def count_batch_pairs(free_bytes: int, lengths: tuple[int, int], width: int, max_iterations: int) -> int:
    """How many pairs are verified at once, from 1 to MAX_PAIRS, such that they fit into so many free bytes.

    lengths: the keypoints M and N of both sides. width: dimensions of a descriptor. Per pair: similarities and two
    masks, 6 M N; descriptors, their indices and candidates; the maps of RANSAC and what they are computed from, about
    700 bytes an iteration. No tensor of a batch has 2^31 values.
    """
    values = max(1, lengths[0] * lengths[1])
    pair_bytes = 6 * values + (6 * width + 128) * sum(lengths) + 700 * max_iterations
    return max(1, min(MAX_PAIRS, int(BATCH_SHARE * free_bytes) // pair_bytes, MAX_VALUES // values))


def verify_in_batches(work: PairWork) -> NDArray[np.int32]:
    """The matches and the inliers of each pair, (2, P). Pairs whose images do not fit on the device are halved."""
    batches = _Batches(work)
    if batches.device_bytes > RESIDENT_SHARE * count_free_bytes(work.device) and len(work.pairs) > 1:
        return np.concatenate([verify_in_batches(half) for half in work.halve()], axis=1)
    with torch.inference_mode():
        return batches.verify().cpu().numpy()


class _Batches:
    """The images of some pairs, on the device once they are needed, and the counts of the pairs there."""

    def __init__(self, work: PairWork):
        self.work = work
        if work.queries is work.base:  # one store: an image is sent once, whichever side it is on
            both = ResidentFeatures(work.base, work.pairs.ravel())
            self.sides, self.slots = (both, both), both.slots.reshape(-1, 2).T
        else:
            queries, base = work.pairs.T
            self.sides = ResidentFeatures(work.queries, queries), ResidentFeatures(work.base, base)
            self.slots = np.stack([side.slots for side in self.sides])
        self.stores = list(dict.fromkeys(self.sides))

    @property
    def device_bytes(self) -> int:
        """What the features take on the device."""
        return sum(store.device_bytes for store in self.stores)

    def verify(self) -> Tensor:
        """The matches and inliers (2, P) int32, on the device. The images of the next batch are read meanwhile."""
        device, count = self.work.device, len(self.work.pairs)
        for store in self.stores:
            store.allocate(device)
        self.device_slots = upload(self.slots, device)
        self.thresholds = upload(self.work.thresholds_px.astype(np.float64), device)
        self.counts = torch.zeros(2, count, dtype=torch.int32, device=device)
        size = self._count_pairs()
        stops = [min(start + size, count) for start in range(0, count, size)]
        with ThreadPoolExecutor(1) as reader:
            loading = [reader.submit(self._load, stop) for stop in stops[:1]]
            for at, stop in enumerate(stops):
                loaded = loading.pop().result()
                loading += [reader.submit(self._load, following) for following in stops[at + 1 : at + 2]]
                for store, packed in zip(self.stores, loaded, strict=True):
                    store.send(packed)
                self.work.limit.run(partial(self._verify_together, at * size), stop - at * size)
        return self.counts

    def _count_pairs(self) -> int:
        queries, base = self.sides
        free, width = count_free_bytes(self.work.device), max(queries.dimensions, base.dimensions)
        return count_batch_pairs(free, (queries.most, base.most), width, self.work.options.max_iterations)

    def _load(self, stop: int) -> list[PackedFeatures]:
        """What the pairs before `stop` need and earlier ones did not."""
        return [store.load(stop * len(self.sides) // len(self.stores)) for store in self.stores]

    def _verify_together(self, start: int, part: slice) -> None:
        """Count the matches and inliers of some pairs of the batch that begins at `start`."""
        at, options = slice(start + part.start, start + part.stop), self.work.options
        queries, base = (
            side.gather(slots[at], int(side.counts[host[at]].max()))
            for side, slots, host in zip(self.sides, self.device_slots, self.slots, strict=True)
        )
        partners = match_mutual_batch(queries.descriptors, base.descriptors, options.min_similarity, options.max_ratio)
        matched = partners >= 0
        counts = matched.sum(1)
        most = int(counts.max()) if matched.numel() else 0
        first = matched.int().argsort(stable=True, dim=1, descending=True)[:, :most]  # matches first, in their order
        source = _gather_points(queries.points, first)
        target = _gather_points(base.points, partners.gather(1, first).clamp(min=0))
        fitted = fit_affine_batch(
            source, target, matched.gather(1, first), self.thresholds[at], options.max_iterations, options.compiled
        )
        self.counts[0, at], self.counts[1, at] = counts, fitted.inliers.sum(1)


def _gather_points(points: Tensor, rows: Tensor) -> Tensor:
    """(B, k, 2): of the points (B, n, 2) of each pair the given rows (B, k)."""
    return points.gather(1, rows[:, :, None].expand(-1, -1, 2))
