"""Which pairs of images are compared: queries with their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Integers
from pipeline.competition.benchmark_metrics import remove_junk
from pipeline.competition.metrics import Truth


def list_neighbours(rows: NDArray[np.integer]) -> Integers:
    """The pairs (P, 2) of query and neighbour of the lists rows (Q, k), -1 = none, in their order."""
    queries, positions = np.nonzero(rows >= 0)
    return np.stack([queries, rows[queries, positions]], axis=1).astype(np.int64)


def list_first_neighbours(rows: NDArray[np.integer], first: int, setups: Sequence[Truth] = ()) -> Integers:
    """The pairs (P, 2) of query and each of its `first` nearest neighbours in the lists rows (Q, k), in their order.

    setups: the junk images of each setup of a benchmark. If given, the pairs are those of the `first` nearest of every
    setup's lists without junk, so that each setup can verify as many; ordered by query and row, each pair once.
    """
    if not setups:
        return list_neighbours(rows[:, :first])
    pairs = [list_neighbours(remove_junk(rows, junk)[:, :first]) for junk in setups]
    return np.unique(np.concatenate(pairs), axis=0)
