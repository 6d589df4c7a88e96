"""One split of the data: its table of images, as stage 01 writes it, and the folder that the paths are relative to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Doubles, Integers
from pipeline.images.photograph_paths import PhotographPaths

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.images.inspection import Tolerance

BOX_COLUMNS = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Split:
    """The N images of train, index or test.

    table: one row per image with id, path, width, height, the box left, top, right, bottom, and in train landmark.
    root: the data folder. tolerance: how many of its files may turn out to be unreadable; None = not one.
    digests: of the photographs, where rows made of unchanged ones are to be found again.
    """

    table: pd.DataFrame
    root: Path
    tolerance: Tolerance | None = None
    digests: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: NDArray[np.integer]) -> Split:
        """The images with these row numbers, in this order."""
        digests = None if self.digests is None else [self.digests[row] for row in rows.tolist()]
        return Split(self.table.iloc[rows], self.root, self.tolerance, digests)

    @property
    def paths(self) -> PhotographPaths:
        """The file of each image."""
        return PhotographPaths.from_names(self.root, self.table["path"])

    @property
    def sizes(self) -> Integers:
        """(N, 2) width and height of each whole image as displayed, in pixels."""
        return self.table[["width", "height"]].to_numpy(np.int64)

    @property
    def longer_sides(self) -> NDArray[Any]:
        """(N,) the longer side of each whole image, in pixels."""
        return self.table[["width", "height"]].max(axis=1).to_numpy()

    @property
    def boxes(self) -> Doubles | None:
        """(N, 4) left, top, right and bottom of each box, in pixels; None where every box is the whole image."""
        boxes = self.table[list(BOX_COLUMNS)].to_numpy(np.float64)
        is_part = (boxes[:, :2] > 0).any(axis=1) | (boxes[:, 2:] < self.sizes).any(axis=1)
        return boxes if is_part.any() else None

    @property
    def box_sizes(self) -> Doubles:
        """(N, 2) width and height of each box, in pixels."""
        return (self.table[["right", "bottom"]].to_numpy() - self.table[["left", "top"]].to_numpy()).astype(np.float64)

    @property
    def aspect_ratios(self) -> Doubles:
        """(N,) height / width of each box."""
        return ((self.table["bottom"] - self.table["top"]) / (self.table["right"] - self.table["left"])).to_numpy()
