"""Several matrices of descriptors, one after the other, as one that is never in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Vectors


class StackedVectors:
    """The rows of matrices (N_i, D) in their order, as a matrix (sum of N_i, D)."""

    def __init__(self, parts: Sequence[Vectors]):
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """(n, D) for a slice or an array of row numbers."""
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        which = np.searchsorted(self._ends, wanted, side="right")
        found = np.zeros((len(wanted), self.shape[1]), self._parts[0][:0].dtype)
        for number, part in enumerate(self._parts):
            inside = which == number
            if inside.any():
                found[inside] = part[wanted[inside] - (self._ends[number] - len(part))]
        return found
