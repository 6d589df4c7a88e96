"""The report: queries worth seeing, tables that a person reads, a page that stands alone."""

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.competition.evaluation import Part
from pipeline.competition.metrics import Truth
from pipeline.report.gallery import Photographs, Step, pick_queries, render_query
from pipeline.report.page import format_table, render_table
from pipeline.report.run_report import Run, render_report
from pipeline.report.summary import describe_scores, measure_retrieval, tabulate_retrieval

NAN = float("nan")


def step(name, precisions, rows=None):
    rows = np.zeros((len(precisions), 1), np.int32) if rows is None else np.array(rows, np.int32)
    return Step(name, rows, np.array(precisions))


def test_the_queries_that_gained_most_come_first_one_a_landmark_then_those_that_lost():
    steps = [step("knn", [0.5, 0.1, 0.2, 0.9, NAN, 0.3, 0.4]), step("sort", [0.6, 0.9, 0.9, 0.2, NAN, 0.3, 0.3])]
    assert pick_queries(steps, ["a", "b", "b", "c", "d", "e", "f"]) == [1, 0, 3, 6]
    assert pick_queries(steps, list("abcdefg"), gains=1, losses=1) == [1, 3]
    assert pick_queries([steps[0], steps[0]], list("abcdefg")) == []


@pytest.fixture
def photographs(tmp_path):
    paths = [tmp_path / f"{name}.jpg" for name in "abc"]
    for path in paths[:2]:
        cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))
    return Photographs(["a", "<b>", "c"], paths)  # c is not there any more


def test_a_query_shows_what_is_right_what_is_wrong_and_what_is_new(photographs):
    steps = [step("knn", [0.5], [[0, -1]]), step("insert", [1.0], [[0, 1]])]
    html = render_query(0, steps, photographs, photographs, np.array([1]))
    assert html.count("class='bad'") == 2 and html.count("class='good new'") == 1
    assert "&lt;b&gt;" in html and "<b>'" not in html
    assert "AP 1.00" in html


def test_a_photograph_that_is_gone_becomes_a_tile(photographs):
    html = render_query(2, [step("knn", [NAN, NAN, 0.0], [[0], [0], [2]])], photographs, photographs, np.array([2]))
    assert html.count("data:image/jpeg;base64,") == 2


def test_tables_are_aligned_for_a_console_and_escaped_for_a_page():
    assert format_table(["a", "n"], [["x<y", "1"], ["z", "22"]]) == "a     n\n---  --\nx<y   1\nz    22"
    assert "<td>x&lt;y</td>" in render_table(["a"], [["x<y"]])


RANKINGS = {
    "recipe": [("knn", np.array([[1, 0]], np.int32)), ("sort", np.array([[0, 1]], np.int32))],
    "rival": [("knn", np.array([[1, 0]], np.int32)), ("insert", np.array([[1, -1]], np.int32))],
}
SECONDS = {"recipe": [0.25, 1.5], "rival": [0.25, 0.125]}
PARTS = {"all": Part(np.array([0]), Truth.from_lists([[0]]))}


def test_a_table_has_every_step_once_with_its_gain():
    rows = tabulate_retrieval(measure_retrieval(RANKINGS, PARTS, SECONDS))
    assert [row[:3] for row in rows] == [
        ["knn", "0.500", ""],
        ["knn + sort", "1.000", "+50.0"],
        ["knn + insert", "0.000", "-50.0"],
    ]
    assert [row[-1] for row in rows] == ["0.25", "1.75", "0.38"]  # the recipe's steps so far, together


def test_without_a_solution_there_are_counts_alone():
    measured = measure_retrieval(RANKINGS, {}, SECONDS)
    assert measured["rival"][1] == {"step": "insert", "images_listed": 1, "seconds": 0.125}
    assert describe_scores({"retrieval": measured, "recognition": {}}) == ""


@pytest.mark.parametrize("parts", [PARTS, {}])
def test_a_page_stands_alone_with_and_without_a_solution(photographs, tmp_path, parts):
    table = pd.DataFrame({"id": photographs.ids, "path": [path.name for path in photographs.paths]})
    metrics = {
        "retrieval": measure_retrieval(RANKINGS, parts, SECONDS),
        "recognition": {"gap": 0.5},
        "seconds": {"01": 2.0},
    }
    page = render_report(Run("mine", tmp_path, table[:1], table[:2], RANKINGS, parts), metrics)
    assert page.startswith("<!doctype html>") and "http" not in page
    assert ("What the steps did" in page) == bool(parts)
    assert "0.500" in page and "together" in page
