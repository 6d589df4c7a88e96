"""What a Ranking refuses."""

import numpy as np
import pytest

from pipeline.ranking import ranking
from pipeline.ranking.ranking import Ranking


def make(rows, scores=None, count=None):
    rows = np.array(rows, np.int32)
    return Ranking(rows, (rows >= 0).astype(np.float32) if scores is None else np.array(scores, np.float32), count)


def test_a_ranking_knows_its_lengths_and_its_first_places():
    lists = make([[3, 1, -1], [-1, -1, -1], [0, 2, 1]], count=4)
    assert len(lists) == 3
    assert lists.lengths.tolist() == [2, 0, 3]
    assert lists.top(1).rows.tolist() == [[3], [-1], [0]]
    assert lists.top(9).rows.shape == (3, 3)


def test_places_without_some_move_up_with_their_scores():
    lists = make([[3, 1, 0], [2, 4, -1]], [[0.9, 0.5, 0.2], [0.7, 0.3, 0]], count=5)
    left = lists.without(np.array([[True, False, True], [False, False, False]]))
    assert left.rows.tolist() == [[1, -1, -1], [2, 4, -1]] and left.count == 5
    np.testing.assert_array_equal(left.scores, np.array([[0.5, 0, 0], [0.7, 0.3, 0]], np.float32))
    assert lists.without(np.zeros((2, 3), bool)) is lists


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        ([[0, 1], [2, 2]], None, "query 1 has the same row twice"),
        ([[0, 1], [-1, 2]], None, "query 1 has a gap"),
        ([[0, 1], [2, -2]], None, "query 1 has a row below -1"),
        ([[0, 9], [2, 1]], None, "query 0 has a row beyond the 9 index images"),
        ([[0, 1], [2, 1]], [[1, 1], [np.nan, 1]], "query 1 has a score that is not finite"),
        ([[0, 1], [2, -1]], [[1, 1], [1, 1]], "query 1 has a score where it has no row"),
    ],
)
def test_a_broken_list_is_refused_with_its_query(rows, scores, message):
    with pytest.raises(ValueError, match=message):
        make(rows, scores, count=9)


def test_wrong_shapes_and_types_are_refused():
    rows, scores = np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32)
    for wrong in (
        (rows, scores[:1]),
        (rows[0], scores[0]),
        (rows.astype(np.int64), scores),
        (rows, scores.astype(float)),
    ):
        with pytest.raises(ValueError, match="a ranking needs"):
            Ranking(*wrong)


def test_empty_rankings_are_rankings():
    for shape in ((0, 5), (3, 0), (0, 0)):
        assert len(Ranking(np.zeros(shape, np.int32), np.zeros(shape, np.float32), 0)) == shape[0]


def test_every_list_is_checked_for_repeats(monkeypatch):
    monkeypatch.setattr(ranking, "CHECK_BLOCK", 7)
    rows = np.tile(np.arange(5, dtype=np.int32), (50, 1))
    make(rows)
    rows[49, 0] = 4
    with pytest.raises(ValueError, match="query 49"):
        make(rows)


def test_a_ranking_cannot_be_changed_and_leaves_the_arrays_given_alone():
    rows = np.array([[1, 0]], np.int32)
    lists = Ranking(rows, np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="read-only"):
        lists.rows[0, 0] = 5
    with pytest.raises(AttributeError):
        lists.rows = rows
    assert rows.flags.writeable
