"""The descriptors of several models as one, concatenated when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.arrays import Floats, Vectors


class JoinedDescriptors:
    """Row i is [w1 * a_i, w2 * b_i, …], L2-normalised: an (N, D1 + D2 + …) float32 matrix that is never in memory.

    The weights multiply the vectors (Yokoo et al. 2020), so that they count squared in the cosine: with weights 1 and
    0.5 the models contribute 4/5 and 1/5 of it. The rows of a single model are returned unchanged, whatever its weight.
    A row that is zero in one model, because that could not read the image, is zero.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, models: Sequence[Vectors], weights: Sequence[float] | None = None):
        """models: (N, Di) arrays of L2-normalised rows, in memory or mapped. Raises ValueError if their N differ."""
        self._models = list(models)
        self._weights = [1.0] * len(self._models) if weights is None else [float(weight) for weight in weights]
        counts = [len(model) for model in self._models]
        if not counts:
            raise ValueError("no descriptors to join")
        if len(set(counts)) > 1:
            raise ValueError(f"descriptors of {' and '.join(map(str, counts))} photographs cannot be joined")
        if len(self._weights) != len(counts) or min(self._weights) <= 0.0:
            raise ValueError(f"weights {self._weights} for {len(counts)} models: each model needs one above 0")
        self.shape = (counts[0], sum(model.shape[1] for model in self._models))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> Floats:
        """(n, D) float32 for a slice or an array of row numbers. Memory: O(n * D)."""
        if len(self._models) == 1:
            return np.asarray(self._models[0][rows], np.float32)
        parts = [np.asarray(model[rows], np.float32) for model in self._models]
        joined = np.concatenate([weight * part for weight, part in zip(self._weights, parts, strict=True)], axis=1)
        joined[~np.all([part.any(axis=1) for part in parts], axis=0)] = 0.0
        lengths = np.linalg.norm(joined, axis=1, keepdims=True)
        lengths[lengths == 0.0] = 1.0
        return joined / lengths
