"""Array types, and the operations on arrays that several rooms share.

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


def close_gaps(lists: NDArray[Any], removed: Mask, fill: float) -> NDArray[Any]:
    """The lists (Q, K) without the values where `removed` (Q, K) holds: later ones move up, `fill` pads the end."""
    order = np.argsort(removed, axis=1, kind="stable")
    return np.take_along_axis(np.where(removed, np.asarray(fill, lists.dtype), lists), order, axis=1)


def round_similarity(values: NDArray[np.floating]) -> Doubles:
    """The values as float64, rounded to 6 decimals and never -0: what agrees to so many decimals is a tie."""
    return np.asarray(values, np.float64).round(DECIMALS) + 0.0
