"""One split of the data: its table of images, as stage 01 writes it, and the folder that the paths are relative to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import Doubles
from pipeline.competition.dataset import Box
from pipeline.images.decode import Size
from pipeline.images.inspection import Tolerance
from pipeline.images.split_table import list_boxes


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
    def paths(self) -> list[Path]:
        """The file of each image."""
        return [self.root / path for path in self.table["path"]]

    @property
    def sizes(self) -> list[Size]:
        """(width, height) of each whole image as displayed, in pixels."""
        return list(zip(self.table["width"].tolist(), self.table["height"].tolist(), strict=True))

    @property
    def longer_sides(self) -> NDArray[Any]:
        """(N,) the longer side of each whole image, in pixels."""
        return self.table[["width", "height"]].max(axis=1).to_numpy()

    @property
    def boxes(self) -> list[Box] | None:
        """The box of each image, in pixels; None where every box is the whole image."""
        return list_boxes(self.table)

    @property
    def box_sizes(self) -> list[tuple[float, float]]:
        """(width, height) of each box, in pixels."""
        width, height = (self.table[end] - self.table[start] for start, end in (("left", "right"), ("top", "bottom")))
        return list(zip(width.tolist(), height.tolist(), strict=True))

    @property
    def aspect_ratios(self) -> Doubles:
        """(N,) height / width of each box."""
        return ((self.table["bottom"] - self.table["top"]) / (self.table["right"] - self.table["left"])).to_numpy()
