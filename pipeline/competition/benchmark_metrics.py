"""The metrics of Revisited Oxford and Paris (Radenovic et al. 2018), of the older Oxford and Paris, and of Holidays.

A query has *positives*, which are to be found, and *junk*, which is neither right nor wrong: it is taken out of every
list before anything is counted. Lists are rows (Q, K) of index images, best first, -1 = none, and rank the whole index
where the official numbers are wanted: a positive that no place holds counts as never found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.competition.metrics import NONE, Hits, Truth, find_hits

PRECISION_RANKS = (1, 5, 10)
BLOCK_VALUES = 4 << 20  # places looked up at a time

Rows = NDArray[np.int32]


class Judgements(NamedTuple):
    """What is right for each of Q queries, and what is left out of its list, both as index rows."""

    positives: Truth
    junk: Truth


def mark_junk(rows: NDArray[np.integer], junk: Truth) -> Hits:
    """Whether a place holds junk of its query, (Q, K) bool. `junk` may know further queries behind those of the lists.

    Raises ValueError when it knows fewer. O(Q K log M) time; memory a block of queries beside the answer.
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


def close_gaps(values: NDArray, gone: Hits, fill: float) -> NDArray:
    """The values (Q, K) without the places `gone` (Q, K), the rest moved up in order, `fill` at the end."""
    order = np.argsort(gone, axis=1, kind="stable")
    return np.take_along_axis(np.where(gone, np.asarray(fill, values.dtype), values), order, axis=1)


def remove_junk(rows: NDArray[np.integer], junk: Truth) -> Rows:
    """The lists (Q, K) without junk: what was behind it moves up, and -1 fills the end."""
    return close_gaps(rows, mark_junk(rows, junk), NONE)


def trapezoid_average_precisions(rows: Rows, positives: Truth) -> NDArray[np.float64]:
    """AP of each query, (Q,) in [0, 1]: the area under precision over recall, by trapezoids; NaN without positives.

    rows: junk-free. With r_j the 0-based rank of the j-th positive found: sum over j of (p0 + p1) / 2 / positives,
    p0 = j / r_j (1 for r_j = 0), p1 = (j + 1) / (r_j + 1). Not the rectangles of GLDv2's AP.
    """
    hits = find_hits(rows, positives)
    query, rank = np.nonzero(hits)
    nth = np.cumsum(hits, axis=1)[query, rank] - 1
    before = np.divide(nth, rank, out=np.ones(len(rank)), where=rank > 0)
    areas = (before + (nth + 1) / (rank + 1)) / 2
    sums, counts = np.bincount(query, areas, minlength=len(rows)), positives.counts
    return np.divide(sums, counts, out=np.full(len(rows), np.nan), where=counts > 0)


def precisions_at(rows: Rows, positives: Truth, k: int) -> NDArray[np.float64]:
    """Precision among the first k places of each query, (Q,); NaN without positives. rows: junk-free.

    A query whose last positive comes before place k is judged at that place: it could not have k hits (Radenovic et
    al. 2018). One of whose positives no place holds is judged at k.
    """
    if k < 1:
        raise ValueError(f"k={k}; at least 1 is needed")
    hits = find_hits(rows, positives)
    width = hits.shape[1]
    last = width - np.argmax(hits[:, ::-1], axis=1) if width else np.zeros(len(rows), np.int64)
    all_found = hits.any(axis=1) & (hits.sum(axis=1) == positives.counts)
    judged_at = np.where(all_found, np.minimum(last, k), k)
    found = (hits & (np.arange(width) < judged_at[:, None])).sum(axis=1)
    return np.where(positives.counts > 0, found / judged_at, np.nan)


def score_lists(rows: Rows, judged: Judgements) -> dict[str, float | int]:
    """map, mp_at_1, mp_at_5, mp_at_10, in [0, 1], and what they are means of: queries with positives.

    rows: (Q, K), with or without junk. unlisted: the positives that no place holds; 0 for a ranking of everything.
    Queries behind Q that are judged too (photographs that could not be read) have no list: nothing found. Raises
    ValueError when no query has a positive.
    """
    positives = judged.positives
    if not len(positives.values):
        raise ValueError("no query has a positive")
    lists = np.pad(remove_junk(rows, judged.junk), ((0, len(positives) - len(rows)), (0, 0)), constant_values=NONE)
    scores: dict[str, float | int] = {"map": float(np.nanmean(trapezoid_average_precisions(lists, positives)))}
    for k in PRECISION_RANKS:
        scores[f"mp_at_{k}"] = float(np.nanmean(precisions_at(lists, positives, k)))
    listed = int(find_hits(lists, positives).sum())
    return scores | {"queries": int((positives.counts > 0).sum()), "unlisted": len(positives.values) - listed}
