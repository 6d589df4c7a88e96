"""The batches of a shard, and of the one that is probably next, so that loading does not stop between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.arrays import Integers
from pipeline.images.batches import PlannedBatch

PlanRows = Callable[[Integers], Sequence[PlannedBatch]]


class PlanAhead:
    """Plans shards of some images, and guesses the shard after one that itself came after the one before.

    A process that is alone makes all shards in turn, so the guess is right. Among ranks, and where rows are taken over
    from an artifact, shards come as they come: after the first wrong guess there is no other.
    """

    def __init__(self, plan: PlanRows, rows: Integers, shard_rows: int):
        """rows: (n,) ascending, those that are asked for in all. shard_rows: how many numbers of rows a shard spans."""
        self._plan, self._rows, self._shard_rows = plan, rows, shard_rows
        self._guess: tuple[Integers, Sequence[PlannedBatch]] | None = None
        self._stop = -1  # the number of the first row after the last shard
        self._guesses = True

    def plan(self, rows: Integers) -> tuple[Sequence[PlannedBatch], Sequence[PlannedBatch] | None]:
        """The batches of these rows, and those of the rows that are likely the next; None where nothing is."""
        guess, self._guess = self._guess, None
        if guess is not None and not np.array_equal(guess[0], rows):
            guess, self._guesses = None, False
        batches = self._plan(rows) if guess is None else guess[1]
        if len(rows):
            start = int(rows[0]) // self._shard_rows * self._shard_rows
            follows, self._stop = start == self._stop, start + self._shard_rows
            first, last = np.searchsorted(self._rows, [self._stop, self._stop + self._shard_rows])
            if follows and self._guesses and first < last:
                self._guess = self._rows[first:last], self._plan(self._rows[first:last])
        return batches, self._guess and self._guess[1]
