"""A batch of images as a loading process hands it over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor


class LoadedBatch(NamedTuple):
    """images (B, 3, H, W) uint8 RGB, channels last in memory; rows (B,) int64, their rows in the split's table.

    bad: (row, reason) of the images of the planned batch that cannot be decoded, which the batch lacks.
    """

    images: Tensor
    rows: Tensor
    bad: tuple[tuple[int, str], ...] = ()

    def split(self, most: int) -> Iterator[LoadedBatch]:
        """Batches of at most so many of its images, in their order."""
        return map(LoadedBatch, self.images.split(most), self.rows.split(most))
