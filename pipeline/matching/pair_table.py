"""Inliers of verified pairs as a table: query, split, row, matches, inliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Integers

if TYPE_CHECKING:
    import pandas as pd


class PairTable:
    """The inliers of verified pairs, looked up by query and row."""

    def __init__(self, queries: NDArray[np.integer], rows: NDArray[np.integer], inliers: NDArray[np.integer]):
        """All (P,); a pair at most once."""
        keys = _key(queries, rows)
        order = np.argsort(keys, kind="stable")
        self._keys, self._inliers = keys[order], inliers[order].astype(np.int32)

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> PairTable:
        """The pairs of the columns query, row and inliers, as `write_verified_pairs` writes them."""
        return cls(table["query"].to_numpy(), table["row"].to_numpy(), table["inliers"].to_numpy())

    def __len__(self) -> int:
        return len(self._keys)

    def look_up(self, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """The inliers of the rows (Q, K) in each query's list, (Q, K) int32; 0 for a pair that was not verified."""
        if len(self) == 0:
            return np.zeros(rows.shape, np.int32)
        keys = _key(np.arange(len(rows))[:, None], rows)
        at = np.searchsorted(self._keys, keys).clip(max=len(self) - 1)
        return np.where((self._keys[at] == keys) & (rows >= 0), self._inliers[at], 0)


def _key(queries: NDArray[np.integer], rows: NDArray[np.integer]) -> Integers:
    """One number per pair."""
    return (queries.astype(np.int64) << 32) + rows
