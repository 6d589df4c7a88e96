"""The value that every step of a recipe takes and returns: for each query, index rows from best to worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NONE, Floats, Integers, Mask, Rows, close_gaps

CHECK_BLOCK = 16_384  # lists sorted at a time when looking for repeated rows: bounds the copy, not the answer


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Q lists of K positions, best first.

    rows: (Q, K) int32, row numbers of index images; NONE only at the end of a list; no row twice in a list.
    scores: (Q, K) float32, the score from the step that added the image: its similarity if the search found it,
    whatever order later steps gave, and its own confidence if the insert-step added it. So not always descending.
    Finite; 0 where there is no row.
    count: the number of index images, to check the rows against; None = unknown.

    Raises ValueError naming the first query that breaks a rule. The arrays held are read-only views: steps return new
    rankings.
    """

    rows: Rows
    scores: Floats
    count: int | None = None

    def __post_init__(self) -> None:
        _check_shapes(self.rows, self.scores)
        _refuse((self.rows < NONE).any(axis=1), "has a row below -1")
        if self.count is not None:
            _refuse((self.rows >= self.count).any(axis=1), f"has a row beyond the {self.count} index images")
        _refuse(((self.rows[:, :-1] == NONE) & (self.rows[:, 1:] != NONE)).any(axis=1), "has a gap before its end")
        _refuse(~np.isfinite(self.scores).all(axis=1), "has a score that is not finite")
        _refuse(((self.rows == NONE) & (self.scores != 0)).any(axis=1), "has a score where it has no row")
        _refuse(_has_repeats(self.rows), "has the same row twice")
        object.__setattr__(self, "rows", _read_only(self.rows))
        object.__setattr__(self, "scores", _read_only(self.scores))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Integers:
        """The number of images in each list, (Q,) int64."""
        return np.count_nonzero(self.rows != NONE, axis=1)

    def top(self, k: int) -> Ranking:
        """The same lists cut after their first `k` images (a view)."""
        return Ranking(self.rows[:, :k], self.scores[:, :k], self.count)

    def without(self, gone: Mask) -> Ranking:
        """The same lists without the positions `gone` (Q, K): later images move up, the ends stay empty."""
        if not gone.any():
            return self
        rows = close_gaps(self.rows, gone, NONE)
        return Ranking(rows, close_gaps(self.scores, gone, 0.0), self.count)


def _check_shapes(rows: Rows, scores: Floats) -> None:
    if rows.ndim != 2 or rows.shape != scores.shape:
        raise ValueError(f"a ranking needs rows and scores of one shape (Q, K), not {rows.shape} and {scores.shape}")
    if rows.dtype != np.int32 or scores.dtype != np.float32:
        raise ValueError(f"a ranking needs int32 rows and float32 scores, not {rows.dtype} and {scores.dtype}")


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    view = values.view()
    view.flags.writeable = False
    return view


def _refuse(broken: Any, what: str) -> None:
    """Raise ValueError unless `broken` (Q,) bool is all False."""
    if broken.any():
        raise ValueError(f"the list of query {int(broken.argmax())} {what} ({int(broken.sum())} lists in all)")


def _has_repeats(rows: Rows) -> Mask:
    """(Q,) bool: whether a list holds a row twice. Sorting brings repeats side by side: O(Q K log K)."""
    repeats = np.zeros(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), CHECK_BLOCK):
        lists = np.sort(rows[start : start + CHECK_BLOCK], axis=1)
        same = (lists[:, 1:] == lists[:, :-1]) & (lists[:, 1:] != NONE)
        repeats[start : start + CHECK_BLOCK] = same.any(axis=1)
    return repeats
