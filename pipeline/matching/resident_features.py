"""The local features of many images on a device: each image is read and sent once, in its storage format."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import AnyIntegers, Floats, Integers
from pipeline.features.descriptor_tensors import decode_tensor
from pipeline.features.local_store import LocalFeatures, LocalStore
from pipeline.matching.mutual import DescriptorBatch


class FeatureRows(Protocol):
    """What verification reads: the local features of a row."""

    def __getitem__(self, row: int, /) -> LocalFeatures: ...


class PackedFeatures(NamedTuple):
    """The keypoints of several images one after another: points (K, 2) float32, descriptors (K, …) as stored."""

    points: Tensor
    descriptors: Tensor


class FeatureBatch(NamedTuple):
    """The features of B images: points (B, n, 2), finite in the padding, and their descriptors."""

    points: Tensor
    descriptors: DescriptorBatch


class ResidentFeatures:
    """Features on a device in the order of their first use: what a batch needs beyond the last one is one slice.

    `load` may run in another thread while the device computes.
    """

    def __init__(self, features: FeatureRows, uses: AnyIntegers):
        """uses: (U,) the rows of the images in the order in which they are used, any number of times each."""
        unique, first, at = np.unique(uses, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.slots: Integers = np.argsort(order)[at]  # (U,) which image each use takes, counted by first use
        self.counts, self._read = _open(features, unique[order].tolist())
        self._ends: Integers = np.concatenate([[0], np.cumsum(self.counts)])
        self._format = next((self._read(slot) for slot in np.flatnonzero(self.counts).tolist()), _NOTHING)
        self._loaded = self._sent = 0  # images, keypoints

    @property
    def device_bytes(self) -> int:
        """What all of them take on a device."""
        return int(self._ends[-1]) * sum(part[:1].nbytes for part in self._format)

    @property
    def most(self) -> int:
        """The greatest number of keypoints of an image."""
        return int(self.counts.max(initial=0))

    @property
    def dimensions(self) -> int:
        """Of a decoded descriptor."""
        stored = self._format[1]
        return stored.shape[1] * (8 if stored.dtype == np.uint8 else 1)

    def allocate(self, device: torch.device) -> None:
        """Make room for all of them; `send` fills it."""
        length = max(1, int(self._ends[-1]))  # padding refers to some keypoint
        self._device = device
        self._packed = PackedFeatures(
            *(torch.zeros((length, *part.shape[1:]), dtype=_TORCH[part.dtype], device=device) for part in self._format)
        )
        self._starts, self._counts = (torch.from_numpy(part).to(device) for part in (self._ends[:-1], self.counts))

    def load(self, uses: int) -> PackedFeatures:
        """The images of the first `uses` uses that were not loaded before, in page-locked memory for a GPU."""
        start, self._loaded = self._loaded, int(self.slots[:uses].max(initial=self._loaded - 1)) + 1
        arrays = [self._read(slot) for slot in range(start, self._loaded) if self.counts[slot]]
        length, is_gpu = int(self._ends[self._loaded] - self._ends[start]), self._device.type == "cuda"
        packed = PackedFeatures(
            *(torch.empty((length, *part.shape[1:]), dtype=part.dtype, pin_memory=is_gpu) for part in self._packed)
        )
        for target, parts in zip(packed, zip(*arrays, strict=True), strict=bool(arrays)):
            np.concatenate(parts, out=target.numpy())
        return packed

    def send(self, loaded: PackedFeatures) -> None:
        """Copy to the device what `load` gave, each in turn; waits for nothing."""
        stop = self._sent + len(loaded.points)
        for target, part in zip(self._packed, loaded, strict=True):
            target[self._sent : stop].copy_(part, non_blocking=True)
        self._sent = stop

    def gather(self, slots: Tensor, length: int) -> FeatureBatch:
        """The features of B images, sent before, each padded to `length` keypoints; descriptors decoded to float32."""
        starts, counts = self._starts[slots], self._counts[slots]
        inside = torch.arange(length, device=self._device).minimum((counts[:, None] - 1).clamp(min=0))
        at = (starts[:, None] + inside).clamp(max=len(self._packed.points) - 1)
        descriptors = decode_tensor(self._packed.descriptors[at])
        return FeatureBatch(self._packed.points[at], DescriptorBatch(descriptors, counts))


_Stored = tuple[Floats, NDArray]  # points and stored descriptors of an image
_NOTHING: _Stored = (np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32))
_TORCH = {np.dtype(kind): getattr(torch, kind) for kind in ("float16", "float32", "int8", "uint8")}


def _open(features: FeatureRows, rows: list[int]) -> tuple[Integers, Callable[[int], _Stored]]:
    """The number of keypoints of each of these images, and a function that reads an image by its place among them."""
    if isinstance(features, LocalStore):
        counts = features.counts[np.array(rows, np.int64)]
        return counts, lambda at: (features.stored_points(rows[at]), features.stored_descriptors(rows[at]))
    images = [features[row] for row in rows]
    counts = np.array([len(image.points) for image in images], np.int64)
    return counts, lambda at: (images[at].points, images[at].descriptors)
