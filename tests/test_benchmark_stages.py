"""Whole stages on tiny benchmarks in the published formats, by the shipped configurations and an untrained network."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from revisited_world import LANDMARKS, render, write_network, write_revisited, write_train
from test_benchmark_metrics import naive_means
from test_stages import ROOT, artifacts_with_times, run

from pipeline.config import load_config

STEPS = ["verify", "aqe", "alpha_qe", "dba", "diffusion", "graph_traversal", "k_reciprocal", "superglobal"]
SETUPS = {"easy": ("easy", "junk hard"), "medium": ("easy hard", "junk"), "hard": ("hard", "junk easy")}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(folder, ground truth): a tiny revisited set, a train set beside it, and a network."""
    folder = tmp_path_factory.mktemp("benchmarks")
    truth = write_revisited(folder / "tiny")
    write_train(folder / "labelled")
    write_network(folder / "network")
    return folder, truth


def arguments(folder: Path, config: str, data: str, outputs: Path) -> list[str]:
    return [
        "--config", str(ROOT / "configs" / f"{config}.toml"), f"data.root={folder / data}",
        f"runtime.outputs={outputs}", f"models.resnet101.checkpoint={folder / 'network'}",
        "models.resnet101.backbone=resnet18", "models.resnet101.dims=32",
        "extract.max_side_px=96", "extract.scales=[1.0]", "local.max_side_px=96", "local.scales=[0.7, 1.0]",
        "local.max_features=60", "verify.index_k=4", "verify.inlier_threshold=0.1", "search.graph_k=8",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(world):
    """A finished run of the shipped configuration: (arguments that repeat it, its output folder)."""
    folder, _ = world
    given = arguments(folder, "roxford", "tiny", folder / "out")
    assert run(*given) == 0
    return given, folder / "out" / "roxford"


def judged(truth: dict, kinds: str) -> list[set[int]]:
    return [{row for kind in kinds.split() for row in one[kind]} for one in truth["gnd"]]


def test_every_step_is_scored_in_every_setup_in_one_table(finished):
    _, outputs = finished
    measured = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())["revisited"]
    shown = {step["step"] for steps in measured.values() for step in steps}
    assert shown == {"knn", *STEPS}
    for steps in measured.values():
        for step in steps:
            assert set(step) == {"step", "seconds", *SETUPS}
            assert all(0 < step[setup]["map"] <= 1 and step[setup]["unlisted"] == 0 for setup in SETUPS)
    page = (outputs / "12_evaluate" / "report.html").read_text()
    assert "medium mAP" in page and "knn + alpha_qe + superglobal" in page and "data:image/jpeg;base64," in page
    assert "hard mP@10" in (outputs / "log.txt").read_text()


def test_the_scores_of_the_nearest_neighbours_are_those_of_plain_python_on_the_descriptors(world, finished):
    (_, truth), (_, outputs) = world, finished
    vectors = {
        split: np.load(outputs / "05_extract_global" / "resnet101" / split / "descriptors.npy").astype(np.float64)
        for split in ("test", "index")
    }
    order = np.argsort(-(vectors["test"] @ vectors["index"].T).round(6), axis=1, kind="stable")
    measured = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())["revisited"]["recipe"][0]
    for setup, (positives, junk) in SETUPS.items():
        expected = naive_means(order, judged(truth, positives), judged(truth, junk))
        for name, value in expected.items():
            assert measured[setup][name] == pytest.approx(value, abs=1e-9), (setup, name)


def test_no_list_of_any_step_holds_junk_and_each_holds_all_else(world, finished):
    (_, truth), (_, outputs) = world, finished
    images = len(truth["imlist"])
    found = 0
    for path in (outputs / "10_rerank_retrieval").rglob("*.rows.npy"):
        junk = judged(truth, SETUPS[path.parent.name][1])
        for row, own in zip(np.load(path).tolist(), junk, strict=True):
            assert {image for image in row if image >= 0} == set(range(images)) - own, path
        found += 1
    recipes = load_config(ROOT / "configs" / "roxford.toml").rerank.recipes.values()
    assert found == len(SETUPS) * sum(map(len, recipes))


def test_verification_compares_the_first_that_are_not_junk_in_each_setup(world, finished):
    (_, truth), (_, outputs) = world, finished
    near = np.load(outputs / "06_build_knn" / "test_index" / "rows.npy")
    pairs = pd.read_parquet(outputs / "08_verify_matches" / "test_index" / "pairs.parquet")
    expected = set()
    for _, junk in SETUPS.values():
        for query, own in enumerate(judged(truth, junk)):
            expected |= {(query, row) for row in [row for row in near[query].tolist() if row not in own][:4]}
    assert set(zip(pairs["query"], pairs["row"], strict=True)) == expected and len(pairs) == len(expected)


def test_nothing_is_handed_in_nothing_is_trained_and_a_second_run_changes_nothing(finished):
    given, outputs = finished
    assert not (outputs / "11_write_submissions").exists()
    assert "11_write_submissions has nothing to do" in (outputs / "log.txt").read_text()
    assert sorted(path.name for path in (outputs / "04_train_final" / "resnet101").iterdir()) == [
        "manifest.json", "network.json", "weights.safetensors",
    ]  # fmt: skip
    labels = pd.read_parquet(outputs / "09_predict_landmarks" / "index.parquet")["labels"]
    assert (labels == -1).all() and len(labels)
    before = artifacts_with_times(outputs)
    assert run(*given) == 0
    assert artifacts_with_times(outputs) == before


def test_a_query_is_described_by_its_box_alone(world, finished, tmp_path):
    folder, truth = world
    shutil.copytree(folder / "tiny", tmp_path / "moved")
    other = {**truth, "gnd": [truth["gnd"][0], *({**one, "bbx": [0, 0, 40, 40]} for one in truth["gnd"][1:])]}
    (tmp_path / "moved" / "gnd_tiny.pkl").write_bytes(pickle.dumps(other))
    assert run(*arguments(folder, "roxford", "tiny", tmp_path), f"data.root={tmp_path / 'moved'}", "--to", 5) == 0
    name = "05_extract_global/resnet101/test/descriptors.npy"
    before, after = np.load(finished[1] / name), np.load(tmp_path / "roxford" / name)
    assert (before[0] == after[0]).all() and (before[1:] != after[1:]).any(axis=1).all()


def test_with_a_labelled_train_set_the_two_steps_run_and_know_its_landmarks(world, tmp_path):
    folder, _ = world
    labelled = [f"data.train_root={folder / 'labelled'}", "rerank.baselines={two = ['knn', 'sort', 'insert']}"]
    assert run(*arguments(folder, "rparis", "tiny", tmp_path), *labelled, "rerank.recipe=['knn', 'soft']") == 0
    measured = json.loads((tmp_path / "rparis" / "12_evaluate" / "metrics.json").read_text())["revisited"]
    assert [step["step"] for step in measured["two"]] == ["knn", "sort", "insert"]
    assert [step["step"] for step in measured["recipe"]] == ["knn", "soft"]
    labels = pd.read_parquet(tmp_path / "rparis" / "09_predict_landmarks" / "index.parquet")["labels"]
    assert set(labels) <= {100 + landmark for landmark in range(LANDMARKS)} and len(set(labels)) > 1


def test_distractors_are_more_images_to_search_and_lower_no_count(world, finished, tmp_path):
    folder, truth = world
    shutil.copytree(folder / "labelled" / "train", tmp_path / "more" / "deep")
    more = [f"data.distractors={tmp_path / 'more'}", "rerank.baselines={}", "rerank.recipe=['knn', 'alpha_qe']"]
    assert run(*arguments(folder, "roxford", "tiny", tmp_path), *more) == 0
    outputs = tmp_path / "roxford"
    table = pd.read_parquet(outputs / "01_prepare_data" / "index.parquet")
    assert len(table) == len(truth["imlist"]) + 5 * LANDMARKS and table["id"].iloc[-1].startswith("distractor_deep_")
    plain = json.loads((finished[1] / "12_evaluate" / "metrics.json").read_text())["revisited"]["recipe"][0]
    larger = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())["revisited"]["recipe"][0]
    for setup in SETUPS:
        assert larger[setup]["map"] < plain[setup]["map"] and larger[setup]["queries"] == plain[setup]["queries"]


def test_lists_shorter_than_the_index_count_what_they_miss(world, tmp_path):
    folder, _ = world
    short = ["search.index_k=6", "rerank.top_k=6", "rerank.baselines={}", "rerank.recipe=['knn', 'alpha_qe']"]
    assert run(*arguments(folder, "roxford", "tiny", tmp_path), *short) == 0
    measured = json.loads((tmp_path / "roxford" / "12_evaluate" / "metrics.json").read_text())["revisited"]
    most = max(step[setup]["unlisted"] for step in measured["recipe"] for setup in SETUPS)
    assert most > 0
    page = (tmp_path / "roxford" / "12_evaluate" / "report.html").read_text()
    assert f"up to {most} positives are in none" in page


def test_the_classic_sets_run_and_find_their_own_query(world, tmp_path):
    folder, _ = world
    write_revisited(tmp_path / "classic", classic=True)
    given = [*arguments(folder, "roxford", "tiny", tmp_path), f"data.root={tmp_path / 'classic'}"]
    assert run(*given, "rerank.baselines={}", "rerank.recipe=['knn']") == 0
    measured = json.loads((tmp_path / "roxford" / "12_evaluate" / "metrics.json").read_text())["revisited"]
    assert set(measured["recipe"][0]) == {"step", "seconds", "classic"}
    ids = pd.read_parquet(tmp_path / "roxford" / "01_prepare_data" / "test.parquet")["id"].tolist()
    assert ids == [f"q{number:02d}_query_{number}" for number in range(LANDMARKS)]


def test_holidays_runs_and_leaves_each_query_out_of_its_own_list(world, tmp_path):
    folder, _ = world
    views = ("front", "right", "back")
    shots = [(scene, view, f"jpg/10{scene:02d}{n:02d}.jpg") for scene in range(3) for n, view in enumerate(views)]
    render(tmp_path / "holidays", shots)
    given = [*arguments(folder, "holidays", "tiny", tmp_path), f"data.root={tmp_path / 'holidays'}"]
    assert run(*given) == 0
    outputs = tmp_path / "holidays"
    measured = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())["revisited"]
    assert 0 < measured["recipe"][0]["holidays"]["map"] <= 1 and measured["recipe"][0]["holidays"]["queries"] == 3
    rows = np.load(outputs / "10_rerank_retrieval" / "alpha_qe" / "holidays" / "1_alpha_qe.rows.npy")
    assert [sorted(row[row >= 0].tolist()) for row in rows] == [sorted(set(range(9)) - {3 * n}) for n in range(3)]


class Malice:
    def __reduce__(self):
        return os.system, ("touch owned",)


def test_a_malicious_ground_truth_is_refused_by_the_run(world, tmp_path, capsys, monkeypatch):
    folder, _ = world
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "gnd_bad.pkl").write_bytes(pickle.dumps({"imlist": Malice()}))
    assert run(*arguments(folder, "roxford", "tiny", tmp_path), f"data.root={tmp_path / 'bad'}") == 2
    error = capsys.readouterr().err
    assert "system" in error and "gnd_bad.pkl" in error
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("rerank.baselines.two=['knn', 'sort']", "the step sort of the recipe two"),
        ("rerank.recipe=['knn', 'soft']", "the step soft of the recipe recipe"),
        ("rerank.baselines.two=['knn', 'label_vector']", "the step label_vector"),
        ("recognition.max_inliers=20", "recognition.max_inliers"),
        ("clean.source=verify", "clean.source"),
        ("models.other.backbone=resnet18", "training models.other"),
    ],
)
def test_what_needs_labels_is_refused_before_anything_runs_and_says_what_to_add(
    world, tmp_path, capsys, setting, named
):
    folder, _ = world
    assert run(*arguments(folder, "roxford", "tiny", tmp_path), setting) == 2
    error = capsys.readouterr().err
    assert named in error and "data.train_root" in error
    assert not (tmp_path / "roxford").exists()


def test_a_network_of_another_architecture_is_refused(world, tmp_path, capsys):
    folder, _ = world
    assert run(*arguments(folder, "roxford", "tiny", tmp_path), "models.resnet101.dims=64") == 2
    assert "dims is 32, the settings say 64" in capsys.readouterr().err
