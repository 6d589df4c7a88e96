"""The official metrics of Google Landmarks v2 (Weyand et al. 2020): retrieval by mAP@100, recognition by GAP.

The metrics take arrays of row numbers; `encode_retrieval` and `encode_recognition` make them from the ids of a file of
answers. Every mean is over all queries of the solution, answered or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NO_LABEL, NONE, AnyIntegers, Doubles, Integers, Labels, Mask, Rows
from pipeline.catalogue import LIST_LENGTH

BLOCK = 16_384  # queries looked up at a time
OVERFLOW = 1 << 63  # what an int64 cannot hold


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The ground truth of Q queries: for each the relevant rows, or the landmarks that it shows.

    offsets: (Q + 1,) int64; values: (M,) int64, not negative. Query q has values[offsets[q] : offsets[q + 1]],
    ascending, without repeats.
    """

    offsets: Integers
    values: Integers

    @classmethod
    def from_pairs(cls, queries: AnyIntegers, values: AnyIntegers, count: int) -> Truth:
        """The ground truth of `count` queries from (query, value) pairs in any order; a repeated pair counts once."""
        order = np.lexsort((values, queries))
        queries, values = np.asarray(queries, np.int64)[order], np.asarray(values, np.int64)[order]
        if len(queries) and (queries[0] < 0 or queries[-1] >= count or values.min() < 0):
            raise ValueError(f"the ground truth of {count} queries has a pair with a query or a value out of range")
        new = np.ones(len(queries), dtype=np.bool_)
        new[1:] = (queries[1:] != queries[:-1]) | (values[1:] != values[:-1])
        return cls(np.searchsorted(queries[new], np.arange(count + 1)), values[new])

    @classmethod
    def from_lists(cls, lists: Sequence[Iterable[int]]) -> Truth:
        """The ground truth of one query per list."""
        given = [tuple(values) for values in lists]
        queries = np.repeat(np.arange(len(given)), [len(values) for values in given])
        values = np.fromiter(chain.from_iterable(given), np.int64, len(queries))
        return cls.from_pairs(queries, values, len(given))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Integers:
        """How many values each query has, (Q,) int64."""
        return np.diff(self.offsets)

    def of(self, query: int) -> Integers:
        """The values of one query, ascending (a view)."""
        return self.values[self.offsets[query] : self.offsets[query + 1]]

    def holds(self, queries: Integers, values: Integers) -> Mask:
        """Whether each (query, value) pair is in the ground truth, (P,) bool; the value -1 never is. O(P log M)."""
        if not len(self.values):
            return np.zeros(len(queries), dtype=np.bool_)
        stride = max(int(self.values.max()), int(values.max(initial=0))) + 1
        if stride * max(len(self), int(queries.max(initial=0)) + 1) >= OVERFLOW:  # landmarks may have 18 digits
            return self._numbered().holds(queries, np.where(np.isin(values, self.values), self._number(values), NONE))
        keys = np.repeat(np.arange(len(self)), self.counts) * stride + self.values  # ascending, as the pairs are
        sought = queries * stride + values
        found = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
        return (keys[found] == sought) & (values >= 0)

    def _number(self, values: Integers) -> Integers:
        """The place of each value among the different values of the ground truth, in ascending order."""
        return np.searchsorted(np.unique(self.values), values)

    def _numbered(self) -> Truth:
        """The same ground truth with small numbers for its values."""
        return Truth(self.offsets, self._number(self.values))


# ---- Retrieval ------------------------------------------------------------------------------------------------------


def find_hits(rows: AnyIntegers, truth: Truth) -> Mask:
    """Whether each position holds a relevant row that no earlier position of its list holds, (Q, K) bool.

    rows: (Q, K), best first, -1 = none; list q answers query q of the ground truth. A repeated row is no second hit,
    but later rows keep their ranks. O(Q K log M) time.
    """
    if rows.ndim != 2 or len(rows) != len(truth):
        raise ValueError(f"rows of shape {rows.shape} cannot answer {len(truth)} queries")
    hits = np.zeros(rows.shape, dtype=np.bool_)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK].astype(np.int64)
        query, position = np.divmod(np.arange(part.size), max(1, part.shape[1]))
        relevant = np.flatnonzero(truth.holds(start + query, part.reshape(-1)))
        query, position = query[relevant], position[relevant]
        pairs = query * (part.max(initial=0) + 1) + part[query, position]
        first = np.unique(pairs, return_index=True)[1]
        hits[start + query[first], position[first]] = True
    return hits


def average_precisions(hits: Mask, relevant: Integers, k: int = LIST_LENGTH) -> Doubles:
    """AP@k of each query, (Q,) in [0, 1]: (1 / min(relevant, k)) * sum of (hits so far) / i over the hit ranks i <= k.

    hits: (Q, K) from `find_hits`. relevant: (Q,) the number of relevant images (`truth.counts`). Raises ValueError for
    a query without a relevant image, because its AP is not defined: leave such queries out beforehand.
    """
    if relevant.min(initial=1) < 1:
        raise ValueError(f"query {int(relevant.argmin())} has no relevant image: leave it out of the solution")
    hits = hits[:, :k]
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precisions * hits).sum(axis=1) / np.minimum(relevant, k)


def mean_average_precision(hits: Mask, relevant: Integers, k: int = LIST_LENGTH) -> float:
    """mAP@k, in [0, 1]: the mean of `average_precisions`. Raises ValueError without queries."""
    _check_queries(hits)
    return float(average_precisions(hits, relevant, k).mean())


def mean_precisions(hits: Mask, k: int = LIST_LENGTH) -> Doubles:
    """Precision at 1 … k, each averaged over the queries, (k,) float64. Short lists are padded with misses."""
    _check_queries(hits)
    return np.cumsum(_columns(hits, k).mean(axis=0)) / np.arange(1, k + 1)


def hit_rates(hits: Mask, k: int = LIST_LENGTH) -> Doubles:
    """The share of queries with a hit at one of the ranks 1 … n, for n = 1 … k, (k,) float64.

    That is the recall@n of place recognition, where one right image among the first n is enough.
    """
    _check_queries(hits)
    return np.maximum.accumulate(_columns(hits, k), axis=1).mean(axis=0)


def first_positions(hits: Mask, k: int = LIST_LENGTH) -> Integers:
    """The rank (from 1) of each query's first hit among the first k, k + 1 when there is none, (Q,) int64."""
    hits = _columns(hits, k)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, k + 1)


def mean_and_median_position(hits: Mask, k: int = LIST_LENGTH) -> tuple[float, float]:
    """The mean and the median of `first_positions`."""
    _check_queries(hits)
    positions = first_positions(hits, k)
    return float(np.mean(positions)), float(np.median(positions))


def _columns(hits: Mask, k: int) -> Mask:
    return np.pad(hits[:, :k], ((0, 0), (0, max(0, k - hits.shape[1]))))


def _check_queries(hits: Mask) -> None:
    if not len(hits):
        raise ValueError("a mean over no queries is not defined")


# ---- Recognition ----------------------------------------------------------------------------------------------------


def global_average_precision(
    labels: Labels,
    scores: NDArray[np.floating],
    truth: Truth,
    *,
    order: AnyIntegers | None = None,
    landmarks_only: bool = False,
) -> float:
    """GAP (micro-AP), in [0, 1]: the average precision of one list of all predictions, in descending order of score.

    labels: (T,) predicted landmark, -1 = none. scores: (T,) confidences. truth: the ground-truth landmarks of the T
    test images (may be empty). order: (T,) integers by which equal scores are sorted, ascending, officially the ids;
    None = order of the rows. landmarks_only: leave out the predictions for images without a landmark, which otherwise
    only lower the precision.

    The sum of the precisions at the correct predictions is divided by the number of images that show a landmark,
    predicted or not. Raises ValueError when there are none.
    """
    has_landmark = _has_landmark(labels, truth)
    ranked = np.lexsort((np.arange(len(labels)) if order is None else order, -np.asarray(scores)))
    ranked = ranked[(labels[ranked] != NO_LABEL) & (has_landmark[ranked] if landmarks_only else True)]
    correct = truth.holds(ranked, labels[ranked])
    precisions = np.cumsum(correct) / np.arange(1, len(ranked) + 1)
    return float(precisions[correct].sum() / np.count_nonzero(has_landmark))


def top1_accuracy(labels: Labels, truth: Truth) -> float:
    """The share of the images with a landmark whose label is correct, in [0, 1]; no label counts as wrong."""
    has_landmark = _has_landmark(labels, truth)
    return float(truth.holds(np.arange(len(labels)), labels)[has_landmark].mean())


def _has_landmark(labels: Labels, truth: Truth) -> Mask:
    if labels.shape != (len(truth),):
        raise ValueError(f"labels of shape {labels.shape} cannot answer {len(truth)} images")
    if not len(truth.values):
        raise ValueError("no image of the solution shows a landmark")
    return truth.counts > 0


# ---- From ids to arrays ---------------------------------------------------------------------------------------------


class Recognitions(NamedTuple):
    """labels, scores, order (T,) and truth: what `global_average_precision` takes."""

    labels: Labels
    scores: Doubles
    order: Integers
    truth: Truth


def encode_retrieval(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Collection[str]], ignored: Collection[str] = ()
) -> tuple[Rows, Truth]:
    """Rows (Q, K) int32 and ground truth for `find_hits`, queries in the solution's order, missing ones with no image.

    Relevant ids get numbers; all others, which cannot be hits, are -1 at their position. Predictions for `ignored`
    queries are left out; any other query that the solution does not have raises ValueError.
    """
    _refuse_unknown(predictions, solution, ignored)
    relevant_ids = dict.fromkeys(chain.from_iterable(solution.values()))
    numbers = {name: number for number, name in enumerate(relevant_ids)}
    width = max((len(predictions.get(query, ())) for query in solution), default=0)
    rows = np.full((len(solution), width), NONE, dtype=np.int32)
    for row, query in zip(rows, solution, strict=True):
        names = predictions.get(query, ())
        row[: len(names)] = [numbers.get(name, NONE) for name in names]
    return rows, Truth.from_lists([[numbers[name] for name in relevant] for relevant in solution.values()])


def encode_recognition(
    predictions: Mapping[str, tuple[int, float]], solution: Mapping[str, Collection[int]], ignored: Collection[str] = ()
) -> Recognitions:
    """The arrays for the recognition metrics, images in the solution's order; unknown ones as in `encode_retrieval`."""
    _refuse_unknown(predictions, solution, ignored)
    answers = [predictions.get(image, (NO_LABEL, 0.0)) for image in solution]
    order = np.empty(len(solution), dtype=np.int64)
    order[np.argsort(np.array(list(solution), dtype=np.str_))] = np.arange(len(solution))
    return Recognitions(
        np.array([label for label, _ in answers], dtype=np.int64),
        np.array([score for _, score in answers], dtype=np.float64),
        order,
        Truth.from_lists(list(solution.values())),
    )


def _refuse_unknown(predicted: Iterable[str], solution: Collection[str], ignored: Collection[str]) -> None:
    known = {*solution, *ignored}
    unknown = [name for name in predicted if name not in known]
    if unknown:
        raise ValueError(f"{len(unknown)} predictions for images that the solution does not have: {unknown[:5]}")
