"""Tuning: it chooses by the public half alone, changes nothing that does not help, and answers as the stages do."""

import argparse
import itertools

import numpy as np
import pandas as pd
import pytest
from planted import planted_landmarks
from pydantic import ValidationError

from benchmarks.knobs import RECOGNITION, RETRIEVAL, list_choices, read_values, tune, with_values
from benchmarks.tune import FinishedRun, Question, Retrieval, answer, choose_halves, report, score_gap, score_map, work
from pipeline.artifacts import build
from pipeline.cache_key import CacheKey
from pipeline.competition.evaluation import Part
from pipeline.competition.metrics import Truth
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.matching.knn import search_exact
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import State, run_recipe
from pipeline.ranking.recognition import Recognition
from pipeline.ranking.voting import neighbour_labels, soft_vote
from pipeline.tasks.evidence import read_evidence
from pipeline.tasks.inputs import read_landmarks, read_neighbours

# ---- The search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_what_one_change_after_the_other_finds_cannot_be_bettered_by_another_single_change(seed):
    choices = {"a": [1, 2, 3, 5], "b": [0.0, 0.5, 1.0], "c": [4, 8]}
    scores = dict(
        zip(itertools.product(*choices.values()), np.random.default_rng(seed).random(24).tolist(), strict=True)
    )

    def score(values):
        return scores[values["a"], values["b"], values["c"]]

    best, _ = tune({"a": 2, "b": 0.5, "c": 4}, choices, score)
    assert score(best) >= score({"a": 2, "b": 0.5, "c": 4})
    others = [best | {key: value} for key in choices for value in choices[key]]
    assert max(map(score, others)) == score(best)


def test_settings_that_do_not_act_on_each_other_reach_the_best_of_all():
    choices = {"a": range(10), "b": range(10)}
    best, tried = tune({"a": 0, "b": 9}, choices, lambda values: -((values["a"] - 7) ** 2) - (values["b"] - 3) ** 2)
    assert best == {"a": 7, "b": 3} and tried < 100


def test_ties_keep_the_configured_value_and_else_take_the_nearest_to_it():
    assert tune({"a": 3}, {"a": [1, 2, 5, 7]}, lambda values: 0.5)[0] == {"a": 3}
    assert tune({"a": 3}, {"a": [1, 2, 5, 7, 9]}, lambda values: float(values["a"] > 4))[0] == {"a": 5}
    assert tune({"a": 3}, {"a": [1, 2, 4, 5]}, lambda values: float(values["a"] != 3))[0] == {"a": 2}
    assert tune({"a": 3}, {"a": [1, 2]}, lambda values: 0.3 if values["a"] == 3 else 0.1 + 0.2)[0] == {"a": 3}


def test_a_value_that_stops_helping_once_another_has_changed_goes_back():
    # b = 1 helps only while a is 0, and a = 1 is better than both.
    table = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.9, (1, 1): 0.9}
    assert tune({"b": 0, "a": 0}, {"b": [1], "a": [1]}, lambda v: table[v["a"], v["b"]])[0] == {"b": 0, "a": 1}


def test_no_settings_are_scored_twice_and_nothing_to_tune_is_no_error():
    asked = []

    def score(values):
        asked.append(tuple(values.values()))
        return float(sum(values.values()))

    _, tried = tune({"a": 1, "b": 1}, {"a": [1, 2, 3], "b": [1, 2, 3]}, score)
    assert len(asked) == len(set(asked)) == tried
    assert tune({}, {}, score)[0] == {}


# ---- Settings -------------------------------------------------------------------------------------------------------


@pytest.fixture
def configure(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[models.cnn]\nlocal = false\n")
    return lambda *overrides: load_config(path, [f"runtime.outputs={tmp_path}", f"data.root={tmp_path}", *overrides])


def test_every_tunable_setting_is_in_the_configuration_and_can_be_changed(configure):
    config = configure("models.cnn.local=true")
    for knob in (*RETRIEVAL, *RECOGNITION):
        for value in knob.values:
            assert read_values(with_values(config, {knob.key: value}), [knob.key]) == {knob.key: value}
        assert read_values(config, [knob.key])[knob.key] is not None
    assert with_values(config, {"vote.votes": 5}) == configure("models.cnn.local=true", "vote.votes=5")
    with pytest.raises(ValidationError, match=r"search\.train_k"):
        with_values(config, {"vote.votes": 11})


def test_a_recipe_tunes_what_its_steps_read_with_no_more_votes_than_there_are_neighbours(configure):
    config = configure("search.train_k=5")
    assert list_choices(config, RETRIEVAL, ["knn", "superglobal"]) == {}
    assert list_choices(config, RETRIEVAL, ["knn", "sort"]) == {
        "vote.votes": [1, 2, 3, 5],
        "vote.sharpness": [1.0, 2.0, 3.0, 5.0, 10.0, 15.0],
    }
    assert set(list_choices(config, RETRIEVAL, ["knn", "soft"])) == {
        "vote.votes", "vote.sharpness", "rerank.soft.bonus", "rerank.soft.penalty",
    }  # fmt: skip
    assert list_choices(config, RECOGNITION)["recognition.max_inliers"] == [0]  # no local features to compare


# ---- The two halves -------------------------------------------------------------------------------------------------


def test_the_private_half_is_scored_for_the_configured_and_the_tuned_settings_alone_and_decides_nothing(configure):
    halves = {half: Part(np.arange(2), Truth.from_lists([[0], [1]])) for half in ("public", "private")}
    scored = []

    def score(votes, part):
        half = "public" if part is halves["public"] else "private"
        scored.append((half, votes))
        return votes / 10 if half == "public" else 1 - votes / 10  # each wants what the other does not

    question = Question("planted", lambda config: config.vote.votes, score, halves)
    text = report(question, configure(), {"vote.votes": [1, 2, 3, 5, 7]})
    assert "vote.votes = 7" in text.partition("for the TOML file:")[2]
    assert [votes for half, votes in scored if half == "private"] == [3, 7]
    configured, tuned = (next(line for line in text.splitlines() if name in line) for name in ("configured", "tuned"))
    assert configured.split()[1:3] == ["0.3000", "0.7000"] and tuned.split()[1:3] == ["0.7000", "0.3000"]


def test_where_nothing_helps_there_is_nothing_to_change(configure):
    halves = {half: Part(np.arange(1), Truth.from_lists([[0]])) for half in ("public", "private")}
    text = report(Question("planted", lambda config: 0, lambda *_: 0.5, halves), configure(), {"vote.votes": [1, 2]})
    assert "nothing to change" in text and "TOML" not in text


def test_a_solution_without_one_of_the_halves_is_an_error_that_names_it(tmp_path):
    part, empty = Part(np.arange(1), Truth.from_lists([[3]])), Part(np.arange(1), Truth.from_lists([[]]))
    assert list(choose_halves({"all": part, "private": part, "public": part}, tmp_path)) == ["public", "private"]
    for parts in ({}, {"all": part}, {"public": part, "private": empty}):
        with pytest.raises(PipelineError, match="nothing to score") as caught:
            choose_halves(parts, tmp_path / "some_solution.csv")
        assert "some_solution.csv" in str(caught.value)


def test_scores_are_those_of_the_metrics_worked_by_hand():
    part = Part(np.array([1, 0]), Truth.from_lists([[5], [7, 8]]))
    assert score_map(np.int32([[7, 1, 8], [5, 2, 3]]), part) == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
    assert score_gap(Recognition(np.array([7, 5]), np.float32([0.9, 0.1])), part) == pytest.approx(1.0)


# ---- A planted run --------------------------------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path):
    """A function that puts an artifact of arrays and tables into the run."""

    def put(artifact, **content):
        with build(tmp_path / "run" / artifact, CacheKey("planted", 1, {}, {})) as (folder, _):
            for name, value in content.items():
                if isinstance(value, pd.DataFrame):
                    value.to_parquet(folder / f"{name}.parquet")
                else:
                    np.save(folder / f"{name}.npy", value)
            (folder / "rejected.csv").write_text("split,id,path,reason\n")

    return put


@pytest.fixture
def planted(configure, save, tmp_path):
    """The configuration of a run whose train labels are often wrong, so that one vote is a bad choice."""
    config, rng = configure("vote.votes=1", "recognition.votes=1", "search.index_k=60"), np.random.default_rng(4)
    queries, views, query_landmarks, landmarks = planted_landmarks(1, views=40)
    vectors = {"test": queries, "index": views[::2], "train": views[1::2]}
    labels = np.where(rng.random(400) < 0.3, rng.integers(0, 20, 400), landmarks[1::2])
    tables = {split: pd.DataFrame({"id": [f"{split}{n:04d}" for n in range(len(x))]}) for split, x in vectors.items()}
    save("01_prepare_data", **tables | {"train": tables["train"].assign(landmark=labels)})
    votes = {}
    for asked, base, k in (("test", "index", 60), ("test", "train", 10), ("index", "train", 10)):
        near = search_exact(vectors[asked], vectors[base], k)
        save(f"06_build_knn/{asked}_{base}", **near._asdict())
        if base == "train":
            votes[asked] = pd.DataFrame(soft_vote(near.similarities, neighbour_labels(near.rows, labels), 1)._asdict())
    save("09_predict_landmarks", **votes)
    usage = np.where(np.arange(len(queries)) % 3 == 0, "Public", "Private")
    images = [" ".join(tables["index"]["id"][landmarks[::2] == landmark]) for landmark in query_landmarks]
    for task, column, truth in (("retrieval", "images", images), ("recognition", "landmarks", query_landmarks)):
        solution = pd.DataFrame({"id": tables["test"]["id"], column: truth, "Usage": usage})
        solution.to_csv(tmp_path / f"{task}_solution.csv", index=False)
    return config


def test_a_tuned_recipe_lists_what_run_recipe_lists_under_the_same_settings(planted):
    run, steps = FinishedRun(planted), ["knn", "sort", "insert"]
    rows = Retrieval(run, steps).ranker(planted, steps)(planted)
    near = read_neighbours(run, "test", "index")
    start = State(Ranking(near.rows, near.similarities, 400), read_evidence(run, planted, planted.rerank.needs(steps)))
    *_, last = run_recipe(steps, start, planted.rerank, search_exact)
    assert (rows == last.ranking.rows).all()


def test_recognition_weighs_votes_by_the_inliers_that_the_run_has(planted, configure, save):
    weighed = configure("models.cnn.local=true", "recognition.max_inliers=20", "recognition.votes=5")
    run = FinishedRun(planted)
    with pytest.raises(PipelineError, match="the run has no 08_verify_matches/test_train"):
        answer(run, weighed)
    near = read_neighbours(run, "test", "train")
    labels = neighbour_labels(near.rows, read_landmarks(run))
    inliers = np.random.default_rng(0).integers(0, 40, near.rows.shape)
    queries = np.arange(len(near.rows)).repeat(near.rows.shape[1])
    pairs = pd.DataFrame({"query": queries, "row": near.rows.ravel(), "inliers": inliers.ravel()})
    save("08_verify_matches/test_train", pairs=pairs)
    found = answer(run, weighed)
    naive = soft_vote(near.similarities + np.minimum(inliers, 20).astype(np.float32) / 20, labels, 5)
    assert (found.labels == naive.labels).all()
    np.testing.assert_allclose(found.scores, naive.confidences, atol=1e-5)
    assert (found.labels != answer(run, planted).labels).any()


def test_a_finished_run_is_tuned_and_left_as_it_is(planted, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    settings = [f"data.root={tmp_path}", f"runtime.outputs={tmp_path}", "vote.votes=1", "recognition.votes=1"]
    asked = argparse.Namespace(config=tmp_path / "run.toml", recipe=["recipe", "knn,sort"], settings=settings)
    work(asked)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    shown = capsys.readouterr()
    blocks = shown.out.strip().split("\n\n")
    assert [block.split(":")[0].split(",")[0] for block in blocks] == ["recipe", "knn_sort", "recognition"]
    for block in blocks:
        (public, private), (tuned_public, tuned_private) = (
            [float(word) for word in line.split()[1:3]] for line in block.splitlines()[2:4]
        )
        assert tuned_public > public + 0.02 and tuned_private > private + 0.02  # one vote of a wrong label is too few
        assert "votes = " in block.partition("for the TOML file:")[2]
    assert "used as it is" in shown.err  # planted: no stage made it


def test_what_the_run_lacks_is_named_with_the_stage_that_makes_it(planted, tmp_path):
    settings = [f"data.root={tmp_path}", f"runtime.outputs={tmp_path}"]
    asked = argparse.Namespace(config=tmp_path / "run.toml", recipe=["knn,diffusion"], settings=settings)
    with pytest.raises(PipelineError, match="the run has no 06_build_knn/index_index") as caught:
        work(asked)
    assert "--to 6" in str(caught.value)
    with pytest.raises(PipelineError, match="there is no recipe soft"):
        work(argparse.Namespace(config=tmp_path / "run.toml", recipe=["soft"], settings=settings))
