"""Searching where some images have no descriptor: they find nothing and are found by nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline.arrays import AnyIntegers, Integers, Vectors
from pipeline.features.present_rows import PresentRows
from pipeline.matching.neighbours import Neighbours, no_neighbours

Find = Callable[..., Neighbours]  # (queries, base, k, exclude=rows): search_exact, or search with its options
NO_ROWS: Integers = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Gaps:
    """The rows of the images without a descriptor, ascending, on both sides of a search."""

    queries: AnyIntegers = field(default_factory=lambda: NO_ROWS)
    base: AnyIntegers = field(default_factory=lambda: NO_ROWS)

    def within(self, start: int, stop: int) -> Gaps:
        """The gaps for the queries from `start` to `stop`."""
        inside = (self.queries >= start) & (self.queries < stop)
        return Gaps(self.queries[inside] - start, self.base)

    def search(
        self, find: Find, queries: Vectors, base: Vectors, k: int, exclude: AnyIntegers | None = None
    ) -> Neighbours:
        """What `find` finds among the images that have a descriptor; empty lists for queries that have none.

        Rows are those of the whole base. Without gaps the result is that of `find`.
        """
        if not len(self.queries) and not len(self.base):
            return find(queries, base, k, exclude=exclude)
        asking, known = PresentRows(queries, self.queries), PresentRows(base, self.base)
        own = None if exclude is None else known.locate(np.asarray(exclude)[asking.rows])
        found = find(asking, known, k, exclude=own)
        result = no_neighbours(len(queries), k)
        result.rows[asking.rows] = known.restore(found.rows)
        result.similarities[asking.rows] = found.similarities
        return result
