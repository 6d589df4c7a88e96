"""Exact search by parts of the base, one a process or machine: the lists of the parts merge into those of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import NONE, AnyIntegers, Vectors
from pipeline.distributed import Share
from pipeline.matching.blocks import CPU
from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours, no_neighbours


class RowRange:
    """The rows `start` to `stop` of a matrix as a matrix; nothing is read before it is asked for."""

    def __init__(self, vectors: Vectors, start: int, stop: int):
        self._vectors, self._start = vectors, start
        self.shape = (stop - start, vectors.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """(n, D) for a slice or an array of row numbers."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self._vectors[self._start + start : self._start + stop]
        return self._vectors[self._start + np.asarray(rows)]


def search_part(
    queries: Vectors,
    base: Vectors,
    k: int,
    *,
    share: Share,
    exclude: AnyIntegers | None = None,
    device: torch.device = CPU,
) -> Neighbours:
    """The k nearest rows of one part of the base: `search_exact` of that part, with the rows of the whole base.

    exclude: (Q,) rows of the whole base. Reads only its part. Raises ValueError as search_exact does; a row that is
    not finite is counted from the start of the part.
    """
    start, stop = share.bounds(len(base))
    own = None
    if exclude is not None:
        own = np.where((exclude >= start) & (exclude < stop), np.asarray(exclude) - start, NONE)
    found = search_exact(queries, RowRange(base, start, stop), k, exclude=own, device=device)
    return found._replace(rows=np.where(found.rows == NONE, NONE, found.rows + start).astype(np.int32))


def merge_parts(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """The first k of the joined lists, which are those of `search_exact` on the whole base, to the byte.

    parts: the lists of every part, each with at least min(k, rows of the part) entries, in any order. That is exact
    because similarity and then row order all rows: what is among the first k of the base is so in its part.
    """
    rows, similarities = (np.concatenate(lists, axis=1) for lists in zip(*parts, strict=True))
    order = np.lexsort((rows, -similarities, rows == NONE), axis=1)[:, :k]
    merged = no_neighbours(len(rows), k)
    merged.rows[:, : order.shape[1]] = np.take_along_axis(rows, order, axis=1)
    merged.similarities[:, : order.shape[1]] = np.take_along_axis(similarities, order, axis=1)
    return merged
