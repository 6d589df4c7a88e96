"""Sort-step and insert-step: by hand, and against lists handled one query at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ranking import two_stage
from pipeline.ranking.landmark_groups import group_by_landmark
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.two_stage import insert_step, sort_step
from pipeline.ranking.voting import Votes

INDEX = Votes(np.array([7, 8, 7, 7, -1, 7, 8]), np.float32([0.5, 0.9, 0.7, 0.2, 0.0, 0.7, 0.1]))


def make(*lists):
    rows = np.array(lists, np.int32)
    return Ranking(rows, np.where(rows >= 0, 1 - rows / 100, 0).astype(np.float32), len(INDEX.labels))


def votes(labels, confidences):
    return Votes(np.array(labels, np.int64), np.array(confidences, np.float32))


def insert(ranking, labels, confidences, top_k, min_confidence=0.6):
    groups = group_by_landmark(INDEX)
    return insert_step(ranking, votes(labels, confidences), groups, min_confidence=min_confidence, top_k=top_k)


def test_groups_hold_the_surest_images_first_and_equals_by_row():
    groups = group_by_landmark(INDEX)
    assert groups.labels.tolist() == [7, 8]
    assert groups.offsets.tolist() == [0, 4, 6]
    assert groups.rows.tolist() == [2, 5, 0, 3, 1, 6]
    assert groups.positions.tolist() == [2, 0, 0, 3, -1, 1, 1]


def test_positives_move_to_the_front_and_keep_their_order():
    ranking = make([1, 3, 4, 0, 6])
    after = sort_step(ranking, np.array([7]), INDEX.labels)
    assert after.rows.tolist() == [[3, 0, 1, 4, 6]]
    assert after.scores.tolist() == ranking.scores[:, [1, 3, 0, 2, 4]].tolist()


def test_a_query_without_a_landmark_or_without_positives_keeps_its_list():
    ranking = make([1, 3, 4, 0, 6], [4, 1, 3, -1, -1])
    assert sort_step(ranking, np.array([-1, 99]), INDEX.labels).rows.tolist() == ranking.rows.tolist()


def test_empty_places_stay_at_the_end():
    assert sort_step(make([1, 3, -1, -1]), np.array([7]), INDEX.labels).rows.tolist() == [[3, 1, -1, -1]]


def test_missing_positives_go_behind_the_positives_the_surest_first_and_the_end_falls_off():
    after = insert(make([3, 1, 4, 6]), [7], [0.3], top_k=4)
    assert after.rows.tolist() == [[3, 2, 5, 0]]  # 3 was there; 2 and 5 are as sure; 1, 4 and 6 fell off
    assert after.scores[0] == pytest.approx([0.97, 0.7, 0.7, 0.5])


def test_short_lists_are_filled_up():
    assert insert(make([3, 1, -1]), [7], [0.3], top_k=6).rows.tolist() == [[3, 2, 5, 0, 1, -1]]
    assert insert(make([-1, -1, -1]), [7], [1.0], top_k=2).rows.tolist() == [[2, 5]]


def test_only_sums_above_the_threshold_are_inserted():
    assert insert(make([1, 4]), [7], [0.11], top_k=4, min_confidence=0.8).rows.tolist() == [[2, 5, 1, 4]]
    assert insert(make([1, 4]), [7], [0.09], top_k=4, min_confidence=0.8).rows.tolist() == [[1, 4, -1, -1]]


def test_a_sum_equal_to_the_threshold_is_not_above_it():
    index = votes([7, 8], [0.3, 0.9])
    ranking = Ranking(np.int32([[1]]), np.float32([[0.5]]), 2)
    for confidence, expected in ((0.3, [[1, -1]]), (0.300001, [[0, 1]])):
        after = insert_step(ranking, votes([7], [confidence]), group_by_landmark(index), min_confidence=0.6, top_k=2)
        assert after.rows.tolist() == expected


def test_without_a_positive_in_the_list_the_inserted_images_take_its_top():
    assert insert(make([1, 4, 6]), [7], [0.5], top_k=4).rows.tolist() == [[2, 5, 0, 3]]
    assert insert(make([1, 4, 6]), [7], [0.11], top_k=4).rows.tolist() == [[2, 5, 0, 1]]


def test_without_the_sort_step_they_go_behind_the_last_positive():
    assert insert(make([1, 0, 4, 3, 6]), [7], [0.5], top_k=6).rows.tolist() == [[1, 0, 4, 3, 2, 5]]


def test_a_query_without_a_landmark_gets_nothing():
    assert insert(make([1, 0, 4]), [-1], [2.0], top_k=4, min_confidence=-1).rows.tolist() == [[1, 0, 4, -1]]
    assert insert(make([1, 0, 4]), [99], [2.0], top_k=2, min_confidence=-1).rows.tolist() == [[1, 0]]


def both_steps(ranking, queries, index, top_k):
    groups = group_by_landmark(index)
    return insert_step(sort_step(ranking, queries.labels, index.labels), queries, groups, top_k=top_k)


def test_no_queries_no_index_and_no_labels_are_no_errors():
    nobody = votes([], [])
    empty = Ranking(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32))
    assert both_steps(empty, nobody, INDEX, top_k=100).rows.shape == (0, 100)
    unfilled = Ranking(np.full((2, 3), -1, np.int32), np.zeros((2, 3), np.float32), 0)
    for index in (nobody, votes([-1, -1], [0, 0])):
        assert both_steps(unfilled, votes([1, -1], [1, 1]), index, top_k=4).rows.tolist() == [[-1] * 4] * 2


def test_labels_for_other_queries_are_refused():
    with pytest.raises(ValueError, match="for 1 queries"):
        sort_step(make([0]), np.array([7, 7]), INDEX.labels)
    with pytest.raises(ValueError, match="for 1 queries"):
        insert(make([0]), [7, 7], [1, 1], top_k=1)


def naive_sort(rows, label, index):
    positives = [row for row in rows if label != -1 and index.labels[row] == label]
    return positives + [row for row in rows if row not in positives]


def naive_insert(rows, label, confidence, index, min_confidence, top_k):
    positive = [label != -1 and index.labels[row] == label for row in rows]
    behind = max((place + 1 for place, yes in enumerate(positive) if yes), default=0)
    missing = [
        row
        for row in range(len(index.labels))
        if label != -1
        and index.labels[row] == label
        and row not in rows
        and round(float(confidence) + float(index.confidences[row]), 6) > min_confidence
    ]
    missing.sort(key=lambda row: (-index.confidences[row], row))
    return (rows[:behind] + missing + rows[behind:])[:top_k]


@st.composite
def rerank_cases(draw):
    images, count, width = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(0, 8))
    sure = st.integers(-2, 10).map(lambda value: value / 10)

    def drawn_votes(size):
        labels = draw(st.lists(st.integers(-1, 2), min_size=size, max_size=size))
        return votes(labels, draw(st.lists(sure, min_size=size, max_size=size)))

    lists = [draw(st.permutations(range(images)))[: draw(st.integers(0, width))] for _ in range(count)]
    return lists, width, drawn_votes(images), drawn_votes(count), draw(sure) * 2, draw(st.integers(1, 10))


@settings(deadline=None, max_examples=300)
@given(rerank_cases())
def test_both_steps_equal_lists_handled_one_query_at_a_time(case):
    lists, width, index, queries, min_confidence, top_k = case
    rows = np.array([row + [-1] * (width - len(row)) for row in lists], np.int32).reshape(len(lists), width)
    ranking = Ranking(rows, np.zeros(rows.shape, np.float32), len(index.labels))
    groups = group_by_landmark(index)
    after = sort_step(ranking, queries.labels, index.labels)
    assert [[x for x in row if x >= 0] for row in after.rows.tolist()] == [
        naive_sort(row, label, index) for row, label in zip(lists, queries.labels, strict=True)
    ]
    for before in (ranking, after):
        found = insert_step(before, queries, groups, min_confidence=min_confidence, top_k=top_k)
        assert found.rows.shape == (len(lists), top_k)
        expected = [
            naive_insert([x for x in row if x >= 0], label, confidence, index, min_confidence, top_k)
            for row, label, confidence in zip(before.rows.tolist(), *queries, strict=True)
        ]
        assert [[x for x in row if x >= 0] for row in found.rows.tolist()] == expected


def test_answers_do_not_depend_on_the_block(monkeypatch):
    rng = np.random.default_rng(1)
    index = votes(rng.integers(-1, 9, 200), rng.random(200).round(1))
    queries = votes(rng.integers(-1, 9, 60), rng.random(60).round(1))
    rows = np.stack([rng.permutation(200)[:20] for _ in range(60)]).astype(np.int32)
    ranking = Ranking(rows, np.zeros(rows.shape, np.float32), 200)
    whole = both_steps(ranking, queries, index, top_k=30)
    monkeypatch.setattr(two_stage, "BLOCK", 7)
    cut = both_steps(ranking, queries, index, top_k=30)
    np.testing.assert_array_equal(cut.rows, whole.rows)
    np.testing.assert_array_equal(cut.scores, whole.scores)
    assert (whole.rows >= 0).any() and whole.rows.dtype == np.int32 and whole.scores.dtype == np.float32
