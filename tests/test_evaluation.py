"""Scores by solutions: rejected photographs count, halves are scored separately, ties are broken officially."""

import numpy as np
import pytest

from pipeline.competition.evaluation import (
    read_recognition_parts,
    read_retrieval_parts,
    score_queries,
    score_recognition,
    score_retrieval,
)
from pipeline.errors import PipelineError

INDEX = ["i0", "i1", "i2", "i3"]
TEST = ["q2", "q0", "q1"]  # not in the order of ids


@pytest.fixture
def retrieval(tmp_path):
    path = tmp_path / "retrieval_solution.csv"
    path.write_text("id,images,Usage\nq0,i1 gone,Public\nq1,i0,Private\nq2,None,Ignored\nbad,i3,Private\n")
    return path


def rows(*lists):
    return np.array([[*items, *[-1] * (3 - len(items))] for items in lists], dtype=np.int32)


def test_scores_are_over_all_queries_and_by_half(retrieval):
    parts = read_retrieval_parts(retrieval, TEST, ["bad"], INDEX)
    scores = score_retrieval(rows([0], [1, 2], [2, 0]), parts)
    # q0: one of two found (the other was rejected from index) at rank 1 -> 1/2. q1: at rank 2 -> 1/2. bad: no answer.
    assert scores["map_at_100_public"] == pytest.approx(0.5)
    assert scores["map_at_100_private"] == pytest.approx(0.25)
    assert scores["map_at_100"] == pytest.approx(1 / 3)
    assert scores["mean_precision"]["1"] == pytest.approx(1 / 3)
    assert (scores["median_position"], scores["queries"]) == (2.0, 3)
    assert score_queries(rows([0], [1, 2], [2, 0]), parts["all"], 3).tolist() == pytest.approx(
        [np.nan, 0.5, 0.5], nan_ok=True
    )


def test_without_a_file_or_without_scored_queries_there_are_no_parts(retrieval):
    assert read_retrieval_parts(retrieval.with_name("nowhere.csv"), TEST, [], INDEX) == {}
    retrieval.write_text("id,images,Usage\nq0,None,Ignored\n")
    assert read_retrieval_parts(retrieval, TEST, [], INDEX) == {}


def test_a_solution_with_only_one_half_has_only_the_part_all(retrieval):
    retrieval.write_text("id,images,Usage\nq0,i1,Private\n")
    assert list(read_retrieval_parts(retrieval, TEST, [], INDEX)) == ["all"]


def test_no_test_photographs_at_all_score_zero(retrieval):
    retrieval.write_text("id,images,Usage\nbad,i1,Private\n")
    parts = read_retrieval_parts(retrieval, [], ["bad"], INDEX)
    assert score_retrieval(np.zeros((0, 3), np.int32), parts)["map_at_100"] == 0.0


def test_a_query_that_nobody_knows_is_an_error_that_names_the_file(retrieval):
    with pytest.raises(PipelineError, match=r"1 queries .* \(bad\)[\s\S]*retrieval_solution\.csv"):
        read_retrieval_parts(retrieval, TEST, [], INDEX)


def test_recognition_is_scored_with_the_organisers_order_of_ties(tmp_path):
    path = tmp_path / "recognition_solution.csv"
    path.write_text("id,landmarks,Usage\nq0,7,Private\nq1,,Private\nq2,9 8,Private\nbad,7,Private\n")
    parts = read_recognition_parts(path, TEST, ["bad"])
    labels, scores = np.array([8, 5, 7]), np.full(3, 0.5, np.float32)  # q2 right, q0 wrong, q1 a distractor
    result = score_recognition(labels, scores, parts)
    assert result["gap"] == pytest.approx((1 / 3) / 3)  # in the order q0, q1, q2: a hit at rank 3, of three to find
    assert result["gap_landmarks_only"] == pytest.approx((1 / 2) / 3)
    assert result["top1"] == pytest.approx(1 / 3)


def test_a_recognition_solution_without_landmarks_has_no_scores(tmp_path):
    path = tmp_path / "recognition_solution.csv"
    path.write_text("id,landmarks,Usage\nq0,,Private\n")
    parts = read_recognition_parts(path, TEST, [])
    assert score_recognition(np.array([1, 2, 3]), np.zeros(3, np.float32), parts) == {}
