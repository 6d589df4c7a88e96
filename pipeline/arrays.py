"""Array types and the rounding that all rooms share.

A *row* is the number of an image in its split's table, from 0; a *position* is a place in a list, from 0.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = NDArray[np.int32]  # row numbers of images; NONE where a list has no image
Labels = NDArray[np.int64]  # landmark ids; NO_LABEL where there is none
Positions = NDArray[np.int64]  # positions in a list
Mask = NDArray[np.bool_]
AnyIntegers = NDArray[np.integer]  # integers of any width

NONE = -1  # the row at positions that no image fills
NO_LABEL = -1  # the landmark of an image that has none
DECIMALS = 6  # similarities, votes and scores that agree to this many decimals are ties


class Vectors(Protocol):
    """N vectors, read by slices or by arrays of row numbers: an array, a memory map, or vectors joined when read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


def round_similarity(values: NDArray[np.floating]) -> Doubles:
    """The values as float64, rounded to 6 decimals and never -0: what agrees to so many decimals is a tie."""
    return np.asarray(values, np.float64).round(DECIMALS) + 0.0


def close_gaps(values: NDArray[Any], gone: Mask, fill: float) -> NDArray[Any]:
    """The values (Q, K) without the positions `gone` (Q, K); later values move up, `fill` stands at the end."""
    order = np.argsort(gone, axis=1, kind="stable")
    return np.take_along_axis(np.where(gone, np.asarray(fill, values.dtype), values), order, axis=1)
