"""The report: queries worth seeing, tables that a person reads, one page that contains all it shows."""

from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas as pd
import pytest

from pipeline.arrays import NONE
from pipeline.competition.benchmark_metrics import score_lists, trapezoid_average_precisions
from pipeline.competition.evaluation import Part
from pipeline.competition.junk import Judgements
from pipeline.competition.metrics import Truth
from pipeline.config import load_config
from pipeline.images.split import Split
from pipeline.report.answers import Answers, pick_answers, pick_changed, show_answers
from pipeline.report.confidence import judge_answers
from pipeline.report.explanation import Explainer
from pipeline.report.gallery import Why, pick_queries, show_galleries, show_query
from pipeline.report.measures import (
    JudgedRanking,
    JudgedStep,
    RankedStep,
    choose_setup,
    judge_by_setup,
    judge_by_solution,
    measure_benchmark,
    measure_retrieval,
)
from pipeline.report.misses import Reading
from pipeline.report.mistakes import show_mistakes
from pipeline.report.run_report import Run, render_report, render_template
from pipeline.report.tables import Table, format_scores, format_table, tabulate_benchmark, tabulate_retrieval
from pipeline.tasks.report import list_changed

NAN = float("nan")


def step(name, precisions, rows=None):
    rows = np.zeros((len(precisions), 1), np.int32) if rows is None else np.array(rows, np.int32)
    return JudgedStep(name, rows, np.array(precisions))


# ---- Queries -------------------------------------------------------------------------------------------------------


def test_each_kind_of_query_has_one_per_landmark_and_no_query_is_in_two():
    steps = [step("knn", [0.5, 0.1, 0.2, 0.9, NAN, 0.3, 0.4]), step("sort", [0.6, 0.9, 0.9, 0.2, NAN, 0.3, 0.3])]
    picked = dict(pick_queries(steps, ["a", "b", "b", "c", "d", "e", "f"], count=2))
    assert picked["Queries that gained the most"] == [1, 0]
    assert picked["Queries that lost the most"] == [3, 6]
    assert picked["The worst queries"] == [5, 2]
    assert "The best queries" not in picked and "Queries drawn at random" not in picked  # all are shown
    assert dict(pick_queries(steps, list("abcdefg"), count=1))["The best queries"] == [2]


def test_queries_that_no_step_changed_are_shown_as_the_worst_and_the_best():
    unchanged = step("knn", [0.5, NAN, 0.2, 0.9, 0.2])
    picked = dict(pick_queries([unchanged, unchanged], list("abcdc"), count=1))
    assert list(picked.values())[:2] == [[2], [3]] and picked["Queries drawn at random"][0] in (0, 4)
    assert pick_queries([step("knn", [NAN])] * 2, ["a"]) == []


def test_random_queries_are_the_same_in_every_report():
    steps = [step("knn", np.linspace(0, 1, 50).tolist())] * 2
    assert pick_queries(steps, range(50)) == pick_queries(steps, range(50))


def without_reason(_query):
    return Why()


@pytest.fixture
def split(tmp_path):
    """Three images of which the last file is missing."""
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.full((40, 60, 3), 90, np.uint8))
    table = pd.DataFrame({"id": ["a", "<b>", "c"], "path": ["a.jpg", "b.jpg", "c.jpg"], "landmark": [1, 1, 2]})
    return Split(table.assign(width=60, height=40), tmp_path)


def test_a_query_shows_what_is_right_what_is_wrong_and_what_is_new(split):
    steps = [step("knn", [0.5], [[0, NONE]]), step("insert", [1.0], [[0, 1]])]
    shown = show_query(0, JudgedRanking(steps, Truth.from_lists([[1, 2]])), split, split, without_reason)
    assert (shown.name, shown.note) == ("a", "2 photographs to find")
    assert [(strip.title, strip.note) for strip in shown.strips] == [("knn", "AP 0.50"), ("insert", "AP 1.00")]
    cells = [[(cell.name, cell.good, cell.new) for cell in strip.cells] for strip in shown.strips]
    assert cells == [[("a", False, False)], [("a", False, False), ("<b>", True, True)]]


def test_an_image_that_is_missing_becomes_a_grey_tile(split):
    truth = Truth.from_lists([[], [], [2]])
    judged = JudgedRanking([step("knn", [NAN, NAN, 0.0], [[0], [0], [2]])], truth)
    shown = show_query(2, judged, split, split, without_reason)
    for source in (shown.source, shown.strips[0].cells[0].source):
        assert source.startswith("data:image/jpeg;base64,")


def test_at_most_one_query_per_landmark_is_shown(split):
    steps = [step("knn", [0.1, 0.2, 0.3]), step("sort", [0.9, 0.9, 0.9])]
    judged = JudgedRanking(steps, Truth.from_lists([[0, 1], [0, 1], [2]]))
    galleries = show_galleries(judged, split, split, without_reason, count=3)
    assert [query.name for query in galleries[0].queries] == ["a", "c"]


# ---- Answers -------------------------------------------------------------------------------------------------------


def test_answers_are_picked_from_the_surest_to_the_least_one_per_landmark_then_some_without():
    labels = np.array([5, -1, 7, 5, 9, -1, 8, -1])
    scores = np.array([0.5, 0.0, 0.9, 0.6, 0.1, 0.0, 0.6, 0.0], np.float32)
    assert pick_answers(labels, scores) == [2, 3, 6, 4, 1, 5]
    assert pick_answers(labels, scores, count=2, unknown=0) == [2, 4]
    assert pick_answers(labels[:0], scores[:0]) == [] and pick_answers(labels[[1]], scores[[1]]) == [0]


def test_without_a_solution_a_query_shows_its_landmark_by_name_and_what_each_step_found(split):
    steps = [ranked("knn", [[0, NONE], [0, 1]], 0.0), ranked("insert", [[0, 1], [1, 0]], 0.0)]
    answers = Answers(steps, np.array([4, 6]), np.array([0.25, 0.5], np.float32), {4: "<Mill>"})
    galleries = show_answers(answers, split.take(np.arange(2)), split, without_reason)
    assert [gallery.heading for gallery in galleries] == [answers.heading]  # no query is shown twice
    second, first = galleries[0].queries
    assert (first.name, first.note) == ("a", "<Mill>, confidence 0.25")
    assert (second.name, second.note) == ("<b>", "landmark 6, confidence 0.50")
    cells = [[(cell.name, cell.good, cell.new) for cell in strip.cells] for strip in first.strips]
    assert cells == [[("a", None, False)], [("a", None, False), ("<b>", None, True)]]
    metrics = {"retrieval": measure_retrieval({"recipe": steps}, {}), "seconds": {}}
    page = render_report(Run("mine", split.take(np.arange(2)), split, split, answers=answers), metrics)
    assert "&lt;Mill&gt;, confidence 0.25" in page and 'class="unknown new"' in page
    assert "What the test photographs were taken for" in page and "The worst queries" not in page


def test_no_query_is_shown_where_the_setting_says_none(split):
    answers = Answers([ranked("knn", [[0], [1]], 0.0)], np.array([4, -1]), np.array([0.5, 0.0], np.float32))
    assert show_answers(answers, split.take(np.arange(2)), split, without_reason, count=0) == []


def test_the_lists_with_the_most_new_images_changed_the_most():
    steps = [ranked("knn", [[0, 1], [0, 1], [0, NONE]], 0.0), ranked("insert", [[0, 2], [1, 0], [3, 2]], 0.0)]
    assert pick_changed(steps, 5) == [2, 0]


def test_a_query_shows_the_train_images_that_voted_with_landmark_and_similarity(split):
    near = np.array([[2, 0, NONE]], np.int32), np.array([[0.75, 0.5, 0.0]], np.float32)
    reading = Reading(np.array([2]), np.array([2]), *near, np.array([1, 1, 2]), {2: "<Mill>"}, Truth.from_lists([[1]]))
    explained = Explainer(split, split, split, votes=3, reading=reading).explain(0)
    assert [(cell.name, cell.good, cell.caption) for cell in explained.votes] == [
        ("c", False, "<Mill>, 0.750"),
        ("a", True, "landmark 1, 0.500"),
    ]
    assert Explainer(split, split, split).explain(0) == Why([], [], [])


def test_a_mistake_shows_train_images_of_what_was_said_and_of_what_is_right(split):
    near = np.array([[2, 0]], np.int32), np.array([[0.75, 0.5]], np.float32)
    reading = Reading(np.array([2]), np.array([2]), *near, np.array([1, 1, 2]), {}, Truth.from_lists([[1]]))
    answered = judge_answers(np.array([2]), np.array([0.9], np.float32), Part(np.array([0]), Truth.from_lists([[1]])))
    (shown,) = show_mistakes(answered, reading, split, split, count=5)
    assert shown.note == "landmark 2 with confidence 0.90"
    titles = [(strip.title, [cell.name for cell in strip.cells]) for strip in shown.strips]
    assert titles == [("said", ["c"]), ("shows", ["a", "<b>"])]
    assert show_mistakes(answered, reading, split, split, count=0) == []


def test_settings_that_are_not_the_defaults_are_told_without_those_of_the_place():
    changed = list_changed(load_config(Path("configs/demo.toml"), ["vote.votes=5", "runtime.workers=1"]))
    assert changed["vote.votes"] == (5, 3) and changed["models.lite0.base.epochs"] == (8, 5)
    assert not [name for name in changed if name.startswith(("runtime", "data.root")) or name == "run"]


# ---- Measures ------------------------------------------------------------------------------------------------------


def ranked(name, rows, seconds):
    return RankedStep(name, np.array(rows, np.int32), seconds)


RANKINGS = {
    "recipe": [ranked("knn", [[1, 0]], 0.25), ranked("sort", [[0, 1]], 1.5)],
    "baseline": [ranked("knn", [[1, 0]], 0.25), ranked("insert", [[1, NONE]], 0.125)],
}
PARTS = {"all": Part(np.array([0]), Truth.from_lists([[0]]))}


def test_without_a_solution_only_the_images_and_the_seconds_are_counted():
    measured = measure_retrieval(RANKINGS, {})
    assert measured["baseline"][1] == {"step": "insert", "images_listed": 1, "seconds": 0.125}
    assert format_scores({"retrieval": measured, "recognition": {}}) == ""


def test_a_solution_judges_the_rows_of_its_queries_and_leaves_out_those_without_a_row():
    steps = [ranked("knn", [[1, 0], [5, 6], [2, 3]], 0.0)]
    part = Part(np.array([2, NONE, 0]), Truth.from_lists([[3, 9], [4], [1]]))
    judged = judge_by_solution(steps, part)
    assert judged.steps[0].precisions.tolist() == pytest.approx([1.0, NAN, 0.25], nan_ok=True)
    assert [judged.relevant(query).tolist() for query in range(3)] == [[1], [], [3, 9]]


SETUPS = {
    name: Judgements(Truth.from_lists(positives), Truth.from_lists([[], [], []]))
    for name, positives in {"easy": [[0], [], [1]], "medium": [[0, 1], [2], [1]]}.items()
}
SETUP_RANKINGS = {
    "easy": {"recipe": [ranked("knn", [[1, 0], [2, 0]], 0.5), ranked("aqe", [[0, 1], [0, 2]], 0.5)]},
    "medium": {"recipe": [ranked("knn", [[2, 0], [0, 2]], 0.5), ranked("aqe", [[0, 1], [2, 0]], 0.5)]},
}


def test_a_benchmark_is_measured_in_every_setup_by_its_own_lists():
    measured = measure_benchmark(SETUP_RANKINGS, SETUPS)["recipe"]
    assert [(scores["step"], scores["seconds"]) for scores in measured] == [("knn", 0.5), ("aqe", 0.5)]
    for setup, judged in SETUPS.items():
        for scores, own in zip(measured, SETUP_RANKINGS[setup]["recipe"], strict=True):
            assert scores[setup] == score_lists(own.rows, judged)


def test_a_setup_judges_the_queries_that_have_lists():
    positives = SETUPS["medium"].positives  # of three queries; the last one was rejected and has no list
    judged = judge_by_setup(SETUP_RANKINGS["medium"]["recipe"], positives)
    padded = np.array([[2, 0], [0, 2], [NONE, NONE]], np.int32)
    assert judged.steps[0].precisions.tolist() == trapezoid_average_precisions(padded, positives)[:2].tolist()
    assert judged.relevant(0).tolist() == [0, 1]


def test_the_medium_setup_is_shown_where_there_is_one():
    assert choose_setup(SETUPS) == "medium"
    assert choose_setup({"classic": SETUPS["easy"]}) == "classic"


# ---- Tables --------------------------------------------------------------------------------------------------------


def test_a_table_has_every_step_once_with_its_gain():
    table = tabulate_retrieval(measure_retrieval(RANKINGS, PARTS))
    assert table.text.startswith("Scored queries: 1.")
    assert [row[:3] for row in table.rows] == [
        ["knn", "0.500", ""],
        ["knn + sort", "1.000", "+50.0"],
        ["knn + insert", "0.000", "-50.0"],
    ]
    assert [row[-1] for row in table.rows] == ["0.25", "1.75", "0.38"]  # the recipe's steps so far, together
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_halves_of_the_leaderboard_are_empty_where_the_solution_has_none():
    table = tabulate_retrieval(measure_retrieval(RANKINGS, PARTS | {"public": PARTS["all"]}))
    at = table.columns.index("public")
    assert [row[at : at + 2] for row in table.rows] == [["0.500", ""], ["1.000", ""], ["0.000", ""]]


def test_a_table_of_a_benchmark_has_gains_in_every_setup_in_percent():
    scores = {"map": 0.5, "mp_at_10": 0.25, "unlisted": 0}
    measured = {
        "recipe": [
            {"step": "knn", "seconds": 0.5, "easy": scores, "hard": scores | {"map": 0.25}},
            {"step": "aqe", "seconds": 1.0, "easy": scores | {"map": 0.625}, "hard": scores | {"unlisted": 7}},
        ]
    }
    table = tabulate_benchmark(measured)
    columns = ["easy mAP", "easy gain", "hard mAP", "hard gain", "easy mP@10", "hard mP@10"]
    assert table.columns == ["ranking", *columns, "seconds"]
    assert table.rows == [
        ["knn", "50.00", "", "25.00", "", "25.00", "25.00", "0.50"],
        ["knn + aqe", "62.50", "+12.50", "50.00", "+25.00", "25.00", "25.00", "1.50"],
    ]
    assert "up to 7 positives are in none" in table.text


def test_the_console_shows_the_tables_of_all_scores():
    metrics = {"retrieval": measure_retrieval(RANKINGS, PARTS), "recognition": {"gap": 0.5, "gap_private": 0.25}}
    text = format_scores(metrics | {"revisited": measure_benchmark(SETUP_RANKINGS, SETUPS)})
    lines = text.splitlines()
    assert next(line.split() for line in lines if line.startswith("GAP")) == ["GAP", "0.500", "0.250"]
    assert any(line.startswith("knn + sort ") for line in lines) and any(
        line.startswith("knn + aqe ") for line in lines
    )
    assert "medium mP@10" in text


def test_tables_are_aligned_for_a_console_and_escaped_for_a_page():
    columns, rows = ["a", "n"], [["x<y", "1"], ["z", "22"]]
    assert format_table(columns, rows) == "a     n\n---  --\nx<y   1\nz    22"
    work = [Table("<h>", "a & b", columns, rows)]
    page = render_template("report.html", **EMPTY, sections=NOTHING | {"min_inliers": None, "work": work})
    assert "<td>x&lt;y</td><td>1</td>" in page and "<h2>&lt;h&gt;</h2>" in page and "<p>a &amp; b</p>" in page


# ---- The page ------------------------------------------------------------------------------------------------------

NOTHING = dict.fromkeys(("confidence", "mistakes", "landmarks", "pairs", "dropped", "training"), ())
EMPTY = dict.fromkeys(("title", "summary", "about_answers"), "") | {"scores": (), "galleries": ()}
EMPTY |= {"costs": None, "gains": None, "reasons": None, "found": {"rows": ()}}


@pytest.mark.parametrize("parts", [PARTS, {}])
def test_a_page_contains_all_it_shows_with_and_without_a_solution(split, parts):
    metrics = {"retrieval": measure_retrieval(RANKINGS, parts), "recognition": {"gap": 0.5}, "seconds": {"one": 2.0}}
    judged = judge_by_solution(RANKINGS["recipe"], parts["all"]) if parts else None
    page = render_report(Run("<mine>", split.take(np.arange(1)), split.take(np.arange(2)), split, judged), metrics)
    assert page.startswith("<!doctype html>") and "http" not in page and "src=" not in page.replace('src="data:', "")
    assert "<h1>Cairn: &lt;mine&gt;</h1>" in page and "1 test and 2 index photographs. " in page
    assert ("Queries that gained the most" in page) == bool(parts)
    assert (">knn + sort<" in page) == bool(parts)
    assert ">0.500<" in page and ">total<" in page and ">2.0<" in page


def test_frames_and_names_of_a_query_are_on_the_page(split):
    judged = judge_by_solution(
        [ranked("knn", [[2, 0]], 0.0), ranked("insert", [[1, 0]], 0.0)],
        Part(PARTS["all"].queries, Truth.from_lists([[1]])),
    )
    page = render_report(Run("mine", split.take(np.arange(1)), split, split, judged), {"seconds": {}})
    assert page.count('class="bad"') == 3 and page.count('class="good new"') == 1
    assert 'title="&lt;b&gt;" alt="&lt;b&gt;, right"' in page and "<b>knn<small>AP 0.00</small></b>" in page
    assert "a: 1 photograph to find" in page


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_template("report.html", **EMPTY)
