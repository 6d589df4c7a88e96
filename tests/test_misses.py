"""Why photographs to find are not in front, against a loop over the pairs, and what the page says of a query."""

import numpy as np
import pytest

from pipeline.arrays import NONE
from pipeline.competition.metrics import Truth
from pipeline.report.measures import JudgedRanking, JudgedStep
from pipeline.report.misses import (
    IN_FRONT,
    INDEX_MISREAD,
    NOT_FOUND,
    NOT_IN_TRAIN,
    QUERY_MISREAD,
    RANKED_LOW,
    READ_DIFFERENTLY,
    UNREADABLE,
    Reading,
    describe_query,
    judge_relevant,
    tabulate_reasons,
)


def reading_of(query_labels, index_labels, landmarks, right=None, names=None):
    count = len(query_labels)
    near = np.full((count, 1), NONE, np.int32), np.zeros((count, 1), np.float32)
    truth = None if right is None else Truth.from_lists(right)
    return Reading(np.array(query_labels), np.array(index_labels), *near, np.array(landmarks), names or {}, truth)


def ranking_of(rows, relevant):
    lists = np.array(rows, np.int32)
    return JudgedRanking([JudgedStep("knn", lists, np.zeros(len(lists)))], Truth.from_lists(relevant))


def reason_of(query, row, ranking, reading):
    """As the text of each reason says it."""
    line, own = ranking.steps[-1].rows[query].tolist(), ranking.relevant(query).tolist()
    if row in line and line.index(row) < len(own):
        return IN_FRONT
    if row >= len(reading.index_labels):
        return UNREADABLE
    given, read = int(reading.query_labels[query]), int(reading.index_labels[row])
    right = set() if reading.right is None else set(reading.right.of(query).tolist())
    if right and not right & set(reading.landmarks.tolist()):
        return NOT_IN_TRAIN
    if right and given not in right:
        return QUERY_MISREAD
    if right and read not in right:
        return INDEX_MISREAD
    if given != read or given < 0:
        return READ_DIFFERENTLY
    return RANKED_LOW if row in line else NOT_FOUND


@pytest.mark.parametrize("seed", range(20))
def test_the_reasons_equal_a_loop_over_all_pairs(seed):
    rng = np.random.default_rng(seed)
    queries, images = int(rng.integers(1, 6)), 9
    relevant = [rng.permutation(images + 1)[: rng.integers(0, 6)].tolist() for _ in range(queries)]
    lists = [rng.permutation(images)[:5] for _ in range(queries)]
    right = [rng.permutation(4)[: rng.integers(0, 3)].tolist() for _ in range(queries)] if seed % 3 else None
    labels = rng.integers(-1, 4, queries), rng.integers(-1, 4, images), rng.integers(0, 3, 5)
    ranking, reading = ranking_of(lists, relevant), reading_of(*labels, right)
    judged = judge_relevant(ranking, reading)
    assert len(judged.rows) == sum(map(len, relevant))
    for query, row, reason in zip(judged.queries.tolist(), judged.rows.tolist(), judged.reasons.tolist(), strict=True):
        assert reason == reason_of(query, row, ranking, reading)


def test_queries_that_are_not_scored_have_no_reasons():
    ranking = ranking_of([[0], [0]], [[1], [1], [0]])
    unscored = JudgedStep("knn", ranking.steps[0].rows, np.array([np.nan, 0.5]))
    judged = judge_relevant(JudgedRanking([unscored], ranking.truth), reading_of([1, 1], [1, 1], [1]))
    assert judged.queries.tolist() == [1]  # the first has no precision, the third no list


def test_a_failure_says_in_sentences_who_was_misread():
    reading = reading_of([1, 2], [1, 2, 3, 1, 1], [1, 2, 3], [[1], [1]], {1: "Abbey", 2: "Bridge"})
    judged = judge_relevant(ranking_of([[0, 1, 2], [1, 2, NONE]], [[0, 2, 3], [0, 4]]), reading)
    assert describe_query(0, judged, reading) == [
        "Taken for Abbey.",
        "2 of 3 to find are in front.",
        "1 not found: both have one landmark, but no step listed the photograph.",
    ]
    first, second, third = describe_query(1, judged, reading)
    assert first == "Taken for Bridge; it shows Abbey." and second == "0 of 2 to find are in front."
    assert third.startswith("2 query misread: ")
    rows = tabulate_reasons(judged).rows
    assert sum(int(row[1]) for row in rows) == 5
    assert tabulate_reasons(judge_relevant(ranking_of([[0]], [[]]), reading_of([1], [1], [1]))) is None
