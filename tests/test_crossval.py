"""Comparing recipes over landmarks: means, their errors, and what a choice loses where it was not made."""

import numpy as np
import pytest

from benchmarks.crossval import (
    Judged,
    compare_recipes,
    group_by_truth,
    halve_landmarks,
    mean_by_landmark,
    measure_regrets,
)
from pipeline.competition.metrics import Truth

ANY = np.random.default_rng(0)


def judged(name, precisions, landmarks, recipes=("a", "b", "c"), own=0):
    return Judged(name, list(recipes), np.asarray(precisions, float), np.asarray(landmarks), own)


@pytest.mark.parametrize(("queries", "count"), [(2, 2), (9, 3), (40, 12)])
def test_the_error_is_that_of_leaving_out_one_landmark_at_a_time(queries, count):
    landmarks = np.concatenate([np.arange(count), ANY.integers(0, count, queries - count)])
    values = ANY.random(queries)
    left = [values[landmarks != one].mean() for one in range(count)]
    mean, error = mean_by_landmark(values, landmarks)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(np.sqrt((count - 1) / count * np.sum((np.array(left) - np.mean(left)) ** 2)))


def test_landmarks_of_one_query_each_give_the_error_of_the_mean():
    values = ANY.random(30)
    assert mean_by_landmark(values, np.arange(30))[1] == pytest.approx(values.std(ddof=1) / np.sqrt(30))
    assert np.isnan(mean_by_landmark(values, np.zeros(30, int))[1])


def test_queries_that_look_for_the_same_images_are_of_one_landmark():
    truth = Truth.from_lists([[4, 2], [], [7], [2, 4], [7]])
    assert group_by_truth(truth, np.array([0, 2, 3, 4])).tolist() == [0, 1, 0, 1]


def test_recipes_are_compared_with_the_runs_own_and_ordered_by_their_means():
    rows = compare_recipes(judged("run", [[50, 50], [80, 40], [90, 70]], [0, 1]))
    assert [row["recipe"] for row in rows] == ["c", "b", "a (the run's own)"]
    assert [row["beside the run's own"] for row in rows] == [30, 10, 0]
    assert [(row["queries that gain"], row["that lose"]) for row in rows] == [(2, 0), (1, 1), (0, 0)]


@pytest.mark.parametrize("count", [2, 5, 8])
def test_halves_hold_every_landmark_once(count):
    landmarks = np.concatenate([np.arange(count), ANY.integers(0, count, 20)])
    table = np.eye(len(landmarks))  # a recipe for each query: its mean tells whether the query is in the half
    seen, unseen = halve_landmarks(table, landmarks, 7, seed=1)
    for one, other in zip(seen > 0, unseen > 0, strict=True):
        assert (one != other).all()
        assert len(set(landmarks[one])) == count // 2 and not set(landmarks[one]) & set(landmarks[other])
        assert seen[0][seen[0] > 0] == pytest.approx(1 / (seen[0] > 0).sum())


def test_one_landmark_cannot_be_halved():
    with pytest.raises(ValueError, match="cannot be halved"):
        halve_landmarks(np.ones((1, 3)), np.zeros(3, int), 1, 0)


def test_a_choice_loses_what_the_best_recipe_of_the_unseen_half_has_more():
    first = judged("first", [[60, 60, 60, 60], [50, 50, 50, 50]], [0, 1, 2, 3], ["a", "b"])
    other = judged("other", [[10, 10], [30, 30], [99, 99]], [0, 1], ["a", "b", "elsewhere"], own=1)
    found = {(row["judged on"], row["chosen"]): row["regret"] for row in measure_regrets([first, other], splits=5)}
    assert found == {
        ("first", "the best of its other half"): 0,
        ("first", "the best of other"): 10,
        ("first", "always a"): 0,
        ("first", "always b"): 10,
        ("other", "the best of its other half"): 0,
        ("other", "the best of first"): 20,
        ("other", "always a"): 20,
        ("other", "always b"): 0,
    }
