"""Why images that show a query's landmark are not in front: who was misread, what was not found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NO_LABEL, NONE, Floats, Integers, Labels, Rows
from pipeline.competition.metrics import Truth
from pipeline.report.answers import name_landmark
from pipeline.report.measures import JudgedRanking
from pipeline.report.tables import Table

IN_FRONT, UNREADABLE, NOT_IN_TRAIN, QUERY_MISREAD, INDEX_MISREAD, READ_DIFFERENTLY, NOT_FOUND, RANKED_LOW = range(8)
REASONS = {
    IN_FRONT: "in front",
    UNREADABLE: "could not be read: the file was left out",
    NOT_IN_TRAIN: "not in train: no train photograph shows the landmark, so no vote can name it",
    QUERY_MISREAD: "query misread: the votes gave the query another landmark",
    INDEX_MISREAD: "index misread: the query was read rightly, the index photograph was given another landmark",
    READ_DIFFERENTLY: "read differently: query and index photograph were given different landmarks",
    NOT_FOUND: "not found: both have one landmark, but no step listed the photograph",
    RANKED_LOW: "ranked low: both have one landmark, and the photograph is listed further down",
}
BLOCK = 50_000  # pairs looked up at a time
TABLE_TEXT = (
    "Every index photograph that shows the landmark of a scored query, by the recipe's last step. A query with m of "
    "them has them in front when they are among its first m."
)


@dataclass(frozen=True)
class Reading:
    """What the votes made of the images, by row: labels of test and index images, and the train images that voted.

    near: (Q, k) rows of train, nearest first, NONE = none; similarities (Q, k). landmarks (N,) of train. names: of
    landmarks, where they have some. right: the landmarks that each test image shows; None = nobody knows.
    """

    query_labels: Labels
    index_labels: Labels
    near: Rows
    similarities: Floats
    landmarks: Labels
    names: Mapping[int, str]
    right: Truth | None = None


class Relevant(NamedTuple):
    """The M pairs of a query and an index image that shows its landmark, with the reason of each, all (M,).

    positions: in the list of the last step, NONE = not listed.
    """

    queries: Integers
    rows: Integers
    positions: Integers
    reasons: NDArray[np.int8]


def judge_relevant(ranking: JudgedRanking, reading: Reading) -> Relevant:
    """The reason of every relevant pair of the queries that are scored. O(M K) time."""
    truth, last = ranking.truth, ranking.steps[-1]
    queries = np.repeat(np.arange(len(truth)), truth.counts)
    rows = truth.values
    scored = (queries < len(last.rows)) & np.isfinite(
        np.append(last.precisions, np.nan)[queries.clip(max=len(last.rows))]
    )
    queries, rows = queries[scored], rows[scored]
    positions = find_positions(last.rows, queries, rows)
    readable = rows < len(reading.index_labels)
    read = np.where(readable, np.append(reading.index_labels, NO_LABEL)[np.where(readable, rows, -1)], NO_LABEL)
    given = reading.query_labels[queries]
    same = (given == read) & (given != NO_LABEL)
    reasons = np.where(same, np.where(positions == NONE, NOT_FOUND, RANKED_LOW), READ_DIFFERENTLY)
    if reading.right is not None:
        right = reading.right
        known = right.counts[queries] > 0
        query_right = right.holds(queries, given)
        reasons = np.where(known & ~query_right, QUERY_MISREAD, reasons)
        reasons = np.where(known & query_right & ~right.holds(queries, read), INDEX_MISREAD, reasons)
        reasons = np.where(known & ~_is_trained(right, reading.landmarks)[queries], NOT_IN_TRAIN, reasons)
    reasons = np.where(readable, reasons, UNREADABLE)
    in_front = (positions != NONE) & (positions < truth.counts[queries])
    return Relevant(queries, rows, positions, np.where(in_front, IN_FRONT, reasons).astype(np.int8))


def find_positions(lists: Rows, queries: Integers, rows: Integers) -> Integers:
    """The position of each row in its query's list, (M,) int64; NONE where it is not listed."""
    positions = np.full(len(queries), NONE, np.int64)
    for start in range(0, len(queries), BLOCK):
        at = slice(start, start + BLOCK)
        found = lists[queries[at]] == rows[at, None]
        positions[at] = np.where(found.any(axis=1), found.argmax(axis=1), NONE)
    return positions


def describe_query(query: int, relevant: Relevant, reading: Reading) -> list[str]:
    """In sentences, what the query was taken for and what became of the images to find."""
    given = int(reading.query_labels[query])
    taken = "no landmark" if given == NO_LABEL else name_landmark(given, reading.names)
    right = reading.right.of(query).tolist() if reading.right is not None else []
    shows = " and ".join(name_landmark(one, reading.names) for one in right)
    verdict = f"Taken for {taken}" + (f"; it shows {shows}." if right and given not in right else ".")
    own = relevant.reasons[relevant.queries == query]
    sentences = [f"{int((own == IN_FRONT).sum())} of {len(own)} to find are in front."] if len(own) else []
    rows = relevant.rows[relevant.queries == query]
    for reason in range(1, len(REASONS)):
        count = int((own == reason).sum())
        if count:
            others = _name_readings(rows[own == reason], reading) if reason in (INDEX_MISREAD, READ_DIFFERENTLY) else ""
            sentences.append(f"{count} {REASONS[reason]}{others}.")
    return [verdict, *sentences]


def tabulate_reasons(relevant: Relevant) -> Table | None:
    """How many relevant pairs have each reason that occurs; None where there are none."""
    if not len(relevant.reasons):
        return None
    counts = np.bincount(relevant.reasons, minlength=len(REASONS))
    rows = [
        [text, f"{counts[code]:,}", f"{counts[code] / counts.sum():.1%}"]
        for code, text in REASONS.items()
        if counts[code]
    ]
    return Table("What became of the photographs to find", TABLE_TEXT, ["reason", "photographs", "share"], rows)


def _name_readings(rows: Integers, reading: Reading) -> str:
    """The landmarks that index images were taken for, the most frequent first."""
    labels, counts = np.unique(reading.index_labels[rows], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:3]
    named = [
        "no landmark" if label == NO_LABEL else name_landmark(int(label), reading.names) for label in labels[order]
    ]
    return f" ({', '.join(named)}{', …' if len(labels) > 3 else ''})"


def _is_trained(right: Truth, landmarks: Labels) -> NDArray[np.bool_]:
    """Whether any landmark of each query has a train image, (Q,)."""
    known = np.isin(right.values, landmarks)
    sums = np.concatenate([[0], np.cumsum(known)])
    return sums[right.offsets[1:]] > sums[right.offsets[:-1]]
