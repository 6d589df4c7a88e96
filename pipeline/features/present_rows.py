"""The descriptors of the images that have one: an image that could not be read has zeros, which no search may see."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NONE, AnyIntegers, Integers, Rows, Vectors


class PresentRows:
    """The rows of a matrix (N, D) without those that are missing, as a matrix that is never in memory."""

    def __init__(self, vectors: Vectors, missing: AnyIntegers):
        """vectors: in memory or mapped. missing: the rows that are left out."""
        self._vectors = vectors
        self.rows: Integers = np.delete(np.arange(len(vectors)), missing)  # of the whole matrix, by row of this one
        self.shape = (len(self.rows), vectors.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """(n, D) for a slice or an array of row numbers."""
        return self._vectors[self.rows[rows]]

    def restore(self, rows: Rows) -> Rows:
        """Rows of this matrix, of any shape, as rows of the whole one; NONE stays."""
        if not len(self.rows):
            return rows
        return np.where(rows == NONE, NONE, self.rows[rows]).astype(np.int32)

    def locate(self, rows: AnyIntegers) -> Integers:
        """Rows of the whole matrix as rows of this one; NONE for those that it lacks."""
        if not len(self.rows):
            return np.full(len(rows), NONE, np.int64)
        at = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        return np.where(self.rows[at] == rows, at, NONE)
