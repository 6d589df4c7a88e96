"""The cells of a feature map in pixels of the image."""

from __future__ import annotations

from typing import NamedTuple


class CellGrid(NamedTuple):
    """Cell i of a feature map is centred at pixel stride_px i + centre_px, counted from 0.

    min_side_px: of an image that has such a map.
    """

    stride_px: int
    centre_px: int | float
    min_side_px: int
