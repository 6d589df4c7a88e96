"""Judged images of a benchmark's queries: positives, and junk, which is taken out of every list before it is scored.

Junk images are neither right nor wrong answers for a query (Radenovic et al. 2018). Where a set of images is searched
in itself, the query is junk in its own list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.arrays import NONE, AnyIntegers, Mask, Rows, close_gaps
from pipeline.competition.metrics import Truth

BLOCK_VALUES = 4 << 20  # list positions looked up at a time


class Judgements(NamedTuple):
    """The ground truth of Q queries as index rows: the positives, and the junk that is removed from each list."""

    positives: Truth
    junk: Truth


def mark_junk(rows: AnyIntegers, junk: Truth) -> Mask:
    """Whether the image at each position of the lists (Q, K) is junk for its query, (Q, K) bool.

    `junk` may cover further queries after those of the lists; ValueError when it covers fewer. O(Q K log M) time; the
    memory beside the answer is bounded by processing blocks of queries.
    """
    if len(rows) > len(junk):
        raise ValueError(f"junk of {len(junk)} queries for {len(rows)} lists")
    marked = np.zeros(rows.shape, dtype=np.bool_)
    width = rows.shape[1]
    block = max(1, BLOCK_VALUES // max(1, width))
    for start in range(0, len(rows), block):
        part = rows[start : start + block].astype(np.int64)
        queries = np.repeat(np.arange(start, start + len(part)), width)
        marked[start : start + block] = junk.holds(queries, part.reshape(-1)).reshape(part.shape)
    return marked


def find_own_rows(queries: Sequence[str], images: Sequence[str]) -> Truth:
    """The row of each query among the images, by its id: the junk of a set that is searched in itself."""
    row_of = {image: row for row, image in enumerate(images)}
    return Truth.from_lists([[row_of[query]] if query in row_of else [] for query in queries])


def remove_junk(rows: AnyIntegers, junk: Truth) -> Rows:
    """The lists (Q, K) without junk: later images move up, and -1 fills the end."""
    return close_gaps(rows, mark_junk(rows, junk), NONE)
