"""Scores as probabilities: the curve against scikit-learn's, what train photographs are answered, and the report."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from command import run
from runs import arguments_for, share_finished
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from pipeline.competition.evaluation import Part
from pipeline.competition.metrics import Truth
from pipeline.ranking.calibration import FEWEST, Calibration, fit_calibration, to_probabilities
from pipeline.ranking.propagation import lower_labels, propagate_labels, receive_labels, returned_strengths
from pipeline.report.confidence import draw_reliability, judge_answers, tabulate_reliability


def test_the_curve_is_that_of_logistic_regression():
    rng = np.random.default_rng(3)
    for count, noise in ((60, 0.3), (400, 1.0), (400, 0.05)):
        scores = rng.random(count) * 2
        right = scores + noise * rng.normal(size=count) > 1
        found = fit_calibration(scores.astype(np.float32), right)
        known, unknown = right.sum(), (~right).sum()
        targets = np.where(right, (known + 1) / (known + 2), 1 / (unknown + 2))
        twice = np.concatenate([scores, scores])[:, None].astype(np.float32)  # each as both kinds, weighted
        kinds = np.concatenate([np.ones(count), np.zeros(count)])
        exact = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
        exact.fit(twice, kinds, sample_weight=np.concatenate([targets, 1 - targets]))
        assert found.answers == count
        assert found.slope == pytest.approx(exact.coef_[0, 0], rel=1e-3)
        assert found.intercept == pytest.approx(exact.intercept_[0], rel=1e-3)
        chances = to_probabilities(scores, found)
        assert (np.diff(chances[np.argsort(scores)]) >= 0).all() and 0 <= chances.min() <= chances.max() <= 1


def test_answers_that_a_threshold_separates_give_a_finite_curve():
    scores = np.concatenate([np.full(50, 2.0), np.full(50, 1.0)])
    found = fit_calibration(scores, scores > 1.5)
    assert to_probabilities(np.array([2.0, 1.0]), found).tolist() == pytest.approx([51 / 52, 1 / 52], abs=1e-5)


def test_too_few_answers_of_a_kind_and_scores_that_say_the_contrary_give_none():
    scores = np.linspace(0, 1, 40)
    for right in (np.arange(40) < FEWEST - 1, scores < 0.5):
        found = fit_calibration(scores, right)
        assert found.slope is None and np.isnan(to_probabilities(scores, found)).all()


def test_what_comes_back_over_neighbours_is_what_an_image_receives_of_its_own_label_in_a_chain_of_two():
    """Two images that see only each other: of the series of ways back, the shortest is exact to alpha squared."""
    rows, weights, alpha = np.array([[1], [0]], np.int32), np.array([[0.8], [0.8]]), 0.1
    spread = propagate_labels(rows, weights, np.array([5, -1]), np.array([5]), alpha, 4)
    received = receive_labels(rows, weights, spread, 4).toarray()[0, 0]
    back = returned_strengths(rows, weights, spread.degrees, alpha, np.array([0]))
    assert back[0] == pytest.approx(received, rel=alpha**2 * 1.5)


def test_labels_are_lowered_only_in_their_own_column_and_not_below_0():
    labels = sparse.csr_array(np.array([[0.5, 0.2, 0.0], [0.0, 0.3, 0.4]]))
    lowered = lower_labels(labels, np.array([0, 2]), np.array([0.1, np.inf])).toarray()
    np.testing.assert_allclose(lowered, [[0.4, 0.2, 0.0], [0.0, 0.3, 0.0]])
    assert lower_labels(labels, np.array([2, 0]), np.ones(2)).toarray().tolist() == labels.toarray().tolist()


def test_the_report_compares_probabilities_with_what_is_right():
    part = Part(np.arange(4), Truth.from_lists([[1], [1], [1], []]))
    answered = judge_answers(np.ones(4, int), np.array([2.0, 2.0, 0.0, 0.0]), part, Calibration(2.0, -2.0, 99))
    table = tabulate_reliability(answered)
    assert table.rows[0] == ["1", "0.881", "1.000"] and table.rows[-1] == ["all", "0.500", "0.750"]
    chart = draw_reliability(answered)
    assert chart.diagonal and chart.dots[0].text.startswith("probability 0.12")
    assert tabulate_reliability(judge_answers(np.ones(4, int), np.zeros(4), part)) is None


def test_a_run_answers_its_train_photographs_and_says_how_probable_answers_are(tmp_path, tmp_path_factory):
    world, finished = share_finished(tmp_path_factory)
    shutil.copytree(finished, tmp_path / "out")
    asked = ["recognition.propagation=0.5", "propagation.neighbours=4"]
    assert run(*arguments_for(world, tmp_path / "out"), *asked, "--to", 12) == 0
    folder = tmp_path / "out" / "smoke"
    found = Calibration(**json.loads((folder / "09_predict_landmarks/calibration.json").read_text()))
    assert found.answers == 48  # 24 photographs, with and without their landmark
    assert found.slope is None or found.slope > 0
    table = pd.read_csv(folder / "12_evaluate/queries.csv")
    if found.slope is not None:
        chances = to_probabilities(table["confidence"].to_numpy(), found)
        np.testing.assert_allclose(table["probability"], np.where(table["taken_for"].notna(), chances, 0), atol=1e-5)
