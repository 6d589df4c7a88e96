"""Plots: pixels of values, ticks at round numbers, and what is drawn of the training, of gains and of confidences."""

import numpy as np
import pandas as pd
import pytest

from pipeline.competition.evaluation import Part
from pipeline.competition.metrics import Truth, global_average_precision
from pipeline.images.split import Split
from pipeline.ranking.recognition import Recognition
from pipeline.report.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Titles,
    choose_ticks,
    draw_bars,
    draw_dots,
    draw_lines,
)
from pipeline.report.confidence import draw_gap_curve, draw_reliability, judge_answers
from pipeline.report.measures import JudgedRanking, JudgedStep
from pipeline.report.query_table import BARS, draw_gains, list_found, tabulate_queries
from pipeline.report.tables import draw_costs
from pipeline.report.training_curves import draw_histories

TITLES = Titles("t", "what it shows", "across", "up")


def test_values_are_placed_between_the_ends_of_their_axis():
    assert Scale(0, 10, 100, 200).place([0, 2.5, 10, 99]).tolist() == [100, 125, 200, 200]
    assert Scale(1, 100, 0, 10, logarithmic=True).place([1, 10, 100, 0.5]).tolist() == [0, 5, 10, 0]


@pytest.mark.parametrize("low, high", [(0, 1), (-3, 7), (0.6, 0.83), (1e-4, 3e-4), (0, 123456), (5, 5)])
def test_ticks_are_round_and_within_the_axis(low, high):
    ticks = choose_ticks(low, high)
    assert 1 <= len(ticks) <= 7 and min(ticks) >= low - 1e-9 and max(ticks) <= high + 1e-9
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[:1].repeat(len(steps)))


def test_lines_leave_out_what_is_not_finite_and_whole_numbers_have_whole_ticks():
    chart = draw_lines(TITLES, {"a": [(1, 0.5), (2, float("nan")), (3, 1.0)], "b": [(1, float("nan"))]}, (0.0, 1.0))
    assert [line.name for line in chart.lines] == ["a"] and len(chart.lines[0].points.split()) == 2
    assert [label for _, label in chart.x.ticks] == ["1", "2", "3"]
    assert (
        draw_lines(TITLES, {"a": []}) is None
        and draw_dots(TITLES, {}) is None
        and draw_bars(TITLES, [], [], []) is None
    )


def test_dots_and_bars_lie_on_the_area_between_the_axes_and_bars_start_at_zero():
    chart = draw_dots(TITLES, {"one": (0.0, 0.5), "two": (3.0, 0.75), "three": (40.0, 0.25)})
    assert all(LEFT <= dot.x <= RIGHT and TOP <= dot.y <= BOTTOM for dot in chart.dots)
    flat = draw_bars(TITLES, [0.0, 0.0], ["a", "b"], ["", ""])  # no step changed any query
    assert all(np.isfinite([bar.x, bar.y, bar.height]).all() for bar in flat.bars)
    bars = draw_bars(TITLES, [30.0, 0.0, -20.0], ["a", "b", "c"], ["q1", "", ""]).bars
    assert bars[0].y + bars[0].height == pytest.approx(bars[2].y) and [bar.good for bar in bars] == [True, True, False]
    assert [bar.link for bar in bars] == ["q1", "", ""]


def test_no_label_covers_another_or_a_dot_and_none_leaves_the_plot():
    rng = np.random.default_rng(0)
    points = {f"the ranking with number {at}": (10.0 ** rng.uniform(0, 5), rng.uniform()) for at in range(40)}
    dots = draw_dots(TITLES, points).dots
    spans = [(dot.x - 4.5, dot.x + 4.5, dot.y, dot) for dot in dots]
    labels = []
    for dot in dots:
        width = 6 * len(dot.text)
        start = {"start": dot.x + 8, "end": dot.x - 8 - width}.get(dot.label)
        if start is not None:
            assert start >= LEFT and start + width <= WIDTH
            labels.append((start, start + width, dot.y, dot))
    assert len(labels) > 5 and {dot.label for dot in dots} == {"start", "end", ""}
    for at, one in enumerate(labels):
        for other in labels[:at] + spans:
            apart = one[1] <= other[0] or other[1] <= one[0] or abs(one[2] - other[2]) >= 11
            assert apart or one[3] is other[3]


def test_costs_are_those_of_a_ranking_up_to_its_step_and_of_the_stages_of_its_evidence():
    steps = [{"step": "knn", "seconds": 1.0, "map_at_100": 0.5}, {"step": "verify", "seconds": 9.0, "map_at_100": 0.5}]
    stages = {"verify": {"07", "08"}}, {"06": 5.0, "07": 30.0, "08": 60.0}
    cheap, dear = draw_costs({"recipe": steps, "other": steps[:1]}, *stages).dots
    assert (cheap.text, dear.text) == ("knn", "knn + verify")
    assert [cheap.x, dear.x] == Scale(1, 1000, LEFT, RIGHT, logarithmic=True).place([1.0, 100.0]).tolist()
    assert draw_costs({"recipe": [{"step": "knn", "seconds": 1.0}]}, *stages) is None


def test_training_has_losses_and_accuracies_of_each_phase():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "train_accuracy": [0.5, 0.75]})
    losses, accuracies = draw_histories({"cnn, base": history.assign(validation_loss="")})
    assert losses.title == "cnn, base" and [line.name for line in losses.lines] == ["train"]
    assert accuracies.y.ticks[-1][1] == "1"
    assert draw_histories({}) == []


@pytest.mark.parametrize("images", [1, 7, 200])
def test_the_gap_curve_holds_the_area_that_is_gap(images):
    rng = np.random.default_rng(images)
    labels, scores = rng.integers(-1, 3, images), rng.random(images).round(1)
    truth = Truth.from_lists([[0], *rng.integers(0, 3, (images - 1, 1)).tolist()])
    answered = judge_answers(labels, scores, Part(np.arange(images), truth))
    precision = np.cumsum(answered.right) / np.arange(1, len(answered.right) + 1)
    assert precision[answered.right].sum() / answered.shown == pytest.approx(
        global_average_precision(labels, scores, truth)
    )
    chart = draw_gap_curve(answered)
    assert (chart is None) == (len(answered.rows) == 0)


def test_answers_without_a_landmark_are_left_out_and_those_of_no_landmark_are_wrong():
    part = Part(np.array([2, -1, 0, 1]), Truth.from_lists([[5], [5], [], [6]]))  # the second could not be read
    answered = judge_answers(np.array([7, -1, 5]), np.array([0.9, 0.0, 0.5], np.float32), part)
    assert (answered.rows.tolist(), answered.right.tolist(), answered.shown) == ([0, 2], [False, True], 3)
    assert [dot.text for dot in draw_reliability(answered).dots] == [
        "confidence 0.50: 100% of 1 right",
        "confidence 0.90: 0% of 1 right",
    ]
    assert draw_gap_curve(judge_answers(np.zeros(0, int), np.zeros(0), part)) is None


def judge(first, last):
    rows = np.zeros((len(first), 1), np.int32)
    steps = [JudgedStep(name, rows, np.array(values, float)) for name, values in (("knn", first), ("sort", last))]
    return JudgedRanking(steps, Truth.from_lists([[0]] * len(first)))


def test_of_many_queries_the_chart_of_gains_has_evenly_spaced_ones_and_all_that_are_shown():
    count = 5 * BARS
    test = Split(pd.DataFrame({"id": [f"i{row}" for row in range(count)]}), None)
    values = np.random.default_rng(0).random(count)
    chart = draw_gains(judge(np.zeros(count), values), test, {3, 8})
    assert BARS <= len(chart.bars) <= BARS + 2 and {bar.link for bar in chart.bars} == {"", "q3", "q8"}
    assert draw_gains(judge([np.nan], [np.nan]), test, set()) is None


def test_the_table_of_queries_has_what_is_known_and_the_search_names_landmarks():
    test = Split(pd.DataFrame({"id": ["a", "b"]}), None)
    assert list(tabulate_queries(test, None, None, None)) == ["id"]
    recognition = Recognition(np.array([4, -1]), np.array([0.25, 0.0], np.float32))
    table = tabulate_queries(test, judge([0.5, np.nan], [1.0, np.nan]), recognition, Truth.from_lists([[4, 7], []]))
    found = list_found(table, {4: "Mill"}, {1}, limit=9)
    assert found["columns"] == ["id", "shows", "taken_for", "confidence", "to_find", "ap_first", "ap_last"]
    assert found["rows"][0] == ("a", "Mill, landmark 7", "Mill", 0.25, 1, 0.5, 1.0)
    assert found["rows"][1] == ("b", "", "", 0.0, 1, None, None) and found["shown"] == [1]
    assert len(list_found(table, {}, set(), limit=1)["rows"]) == 1
