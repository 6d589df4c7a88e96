"""The metrics of Revisited Oxford and Paris (Radenovic et al. 2018), of the older Oxford and Paris, and of Holidays.

Lists are rows (Q, K) of index images, best first, -1 = none. They rank the whole index where the official numbers are
wanted: a positive that is in no list counts as never found.
"""

from __future__ import annotations

import numpy as np

from pipeline.arrays import NONE, Doubles, Rows
from pipeline.competition.junk import Judgements, remove_junk
from pipeline.competition.metrics import Truth, find_hits

PRECISION_RANKS = (1, 5, 10)


def trapezoid_average_precisions(rows: Rows, positives: Truth) -> Doubles:
    """AP of each query, (Q,) in [0, 1]: the area under the precision-recall curve by trapezoids; NaN without positives.

    rows: without junk. With r_j the rank (from 0) of the j-th positive found, AP is the sum over j of
    (p0 + p1) / 2 / positives, where p0 = j / r_j (1 for r_j = 0) and p1 = (j + 1) / (r_j + 1). The AP of GLDv2 sums
    rectangles instead.
    """
    hits = find_hits(rows, positives)
    query, rank = np.nonzero(hits)
    nth = np.cumsum(hits, axis=1)[query, rank] - 1
    before = np.divide(nth, rank, out=np.ones(len(rank)), where=rank > 0)
    areas = (before + (nth + 1) / (rank + 1)) / 2
    sums, counts = np.bincount(query, areas, minlength=len(rows)), positives.counts
    return np.divide(sums, counts, out=np.full(len(rows), np.nan), where=counts > 0)


def precisions_at(rows: Rows, positives: Truth, k: int) -> Doubles:
    """Precision at k of each query, (Q,); NaN without positives. rows: without junk.

    A query whose last positive is at a rank before k is scored at that rank, because it could not have k hits
    (Radenovic et al. 2018). A query with positives that are not in its list is scored at k.
    """
    if k < 1:
        raise ValueError(f"k={k}; at least 1 is needed")
    hits = find_hits(rows, positives)
    width = hits.shape[1]
    last = width - np.argmax(hits[:, ::-1], axis=1) if width else np.zeros(len(rows), np.int64)
    all_found = hits.any(axis=1) & (hits.sum(axis=1) == positives.counts)
    cutoff = np.where(all_found, np.minimum(last, k), k)
    found = (hits & (np.arange(width) < cutoff[:, None])).sum(axis=1)
    return np.where(positives.counts > 0, found / cutoff, np.nan)


def score_lists(rows: Rows, judged: Judgements) -> dict[str, float | int]:
    """map, mp_at_1, mp_at_5 and mp_at_10, in [0, 1], and over how many queries (those with positives) they are means.

    rows: (Q, K), with or without junk. unlisted: how many positives are in no list; 0 when the whole index is ranked.
    Judged queries after the first Q (photographs that could not be read) have no list and have found nothing. Raises
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
