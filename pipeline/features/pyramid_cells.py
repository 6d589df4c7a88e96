"""The cells of an image pyramid: at which sizes an image is seen, where each cell lies, which are kept as features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from pipeline.arrays import Doubles, Floats, Integers
from pipeline.competition.dataset import Box
from pipeline.network.backbones.cells import CellGrid

if TYPE_CHECKING:
    from pipeline.images.decode import Size
    from pipeline.images.split import Split


class ImageRegion(NamedTuple):
    """An image file, its (width, height) as displayed, and the box that features are extracted from; None = all."""

    path: Path
    size: Size
    box: Box | None = None


class Kept(NamedTuple):
    """Which cells of an image become features: the `most` with the greatest attention above `min_attention`."""

    min_attention: float
    most: int


EVERYTHING = Kept(-math.inf, 1 << 40)


@dataclass(frozen=True)
class ImageRegions:
    """The regions of N images: paths, sizes (N, 2), and boxes (N, 4) or None, where all images are used whole."""

    paths: Sequence[Path]
    sizes: Integers
    boxes: Doubles | None = None

    @classmethod
    def from_split(cls, split: Split) -> ImageRegions:
        """The regions of the images of a split."""
        return cls(split.paths, split.sizes, split.boxes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> ImageRegion:
        width, height = self.sizes[row].tolist()
        box = None if self.boxes is None else tuple(self.boxes[row].tolist())
        return ImageRegion(self.paths[row], (width, height), box)


def fit_size(region: ImageRegion, max_side_px: int, grid: CellGrid) -> Size:
    """(width, height) of a region at scale 1: the longer side of the whole image is at most max_side_px."""
    left, top, right, bottom = region.box or (0, 0, *region.size)
    return whole_cells((right - left, bottom - top), min(1.0, max_side_px / max(region.size)), grid)


def whole_cells(size: tuple[float, float], factor: float, grid: CellGrid) -> Size:
    """The size times a factor, rounded to whole cells of the grid, at least its smallest side."""
    stride = grid.stride_px
    width, height = (max(round(side * factor / stride) * stride, grid.min_side_px) for side in size)
    return width, height


def locate_cells(cells: Size, grid: CellGrid, scaled: Size, region: ImageRegion) -> Floats:
    """(rows * columns, 2) x, y of the receptive-field centres of the cells, in pixels of the whole image, row by row.

    cells: (columns, rows) of the map of the region at the size `scaled`.

    Pixels are counted from 0 at the centre of the first one, so that pixel x of an image of width W is at
    (x + 0.5) w / W - 0.5 in an image of width w.
    """
    # A crop consists of all pixels that the box touches.
    box = region.box or (0.0, 0.0, *region.size)
    starts, ends = [math.floor(side) for side in box[:2]], [math.ceil(side) for side in box[2:]]
    x, y = (
        start + (grid.stride_px * np.arange(count) + grid.centre_px + 0.5) * ((end - start) / part) - 0.5
        for count, start, end, part in zip(cells, starts, ends, scaled, strict=True)
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


def select_cells(attention: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
    """The cells of each image that are kept: positions (B, k), by descending attention, and how many count, (B,).

    attention: (B, M), of the cells of all scales. Equal ones go by position. On its device.
    """
    values, positions = attention.sort(dim=1, descending=True, stable=True)
    values = values[:, : kept.most]
    return positions[:, : kept.most], (values > kept.min_attention).sum(dim=1)
