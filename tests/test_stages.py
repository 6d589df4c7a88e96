"""Whole stages on the smoke world: what comes out, what reruns, what a kill costs, what bad data does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run

from pipeline.competition.scoring import score_submission
from pipeline.ranking.registry import STEPS

ROOT = Path(__file__).resolve().parent.parent
SMOKE = ["--config", str(ROOT / "configs" / "smoke.toml")]
SUBMISSIONS = ("retrieval.csv", "recognition.csv")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A finished run on the smoke world: (arguments that repeat it, its output folder)."""
    folder = tmp_path_factory.mktemp("with a space é")
    arguments = [*SMOKE, f"data.root={folder / 'world'}", f"runtime.outputs={folder / 'out'}"]
    assert run(*arguments) == 0
    return arguments, folder / "out" / "smoke"


def artifacts_with_times(outputs: Path) -> dict[str, int]:
    return {str(path.parent.relative_to(outputs)): path.stat().st_mtime_ns for path in outputs.rglob("manifest.json")}


def test_a_run_leaves_two_submissions_metrics_and_a_page(smoke):
    _, outputs = smoke
    test_ids = pd.read_parquet(outputs / "01_prepare_data" / "test.parquet")["id"].tolist()
    for name, column in zip(SUBMISSIONS, ("images", "landmarks"), strict=True):
        table = pd.read_csv(outputs / "11_write_submissions" / name, dtype=str, keep_default_na=False)
        assert table.columns.tolist() == ["id", column]
        assert table["id"].tolist() == test_ids
    metrics = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())
    steps = metrics["retrieval"]["recipe"]
    assert [step["step"] for step in steps] == ["knn", "sort", "insert"]
    assert all(0.0 < step["map_at_100"] <= 1.0 for step in steps)
    assert 0.0 <= metrics["recognition"]["gap"] <= metrics["recognition"]["gap_landmarks_only"] <= 1.0
    assert set(metrics["seconds"]) == {path.stem for path in (ROOT / "stages").glob("[0-9]*.py")} - {"12_evaluate"}
    assert metrics["cleaning"]["kept"] + metrics["cleaning"]["dropped"] == 64
    page = (outputs / "12_evaluate" / "report.html").read_text()
    assert "Verified pairs" in page and "22 inliers or more" in page and "that the cleaning dropped" in page
    assert "knn + sort + insert" in page and "data:image/jpeg;base64," in page


def test_the_scorer_of_files_gives_what_stage_12_gives(smoke):
    arguments, outputs = smoke
    world = Path(next(argument for argument in arguments if argument.startswith("data.root=")).partition("=")[2])
    metrics = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())
    for task, expected in (("retrieval", metrics["retrieval"]["recipe"][-1]), ("recognition", metrics["recognition"])):
        submission = outputs / "11_write_submissions" / f"{task}.csv"
        scored = score_submission(world / f"{task}_solution.csv", submission)
        assert scored.task == task and scored.scores == {name: expected[name] for name in scored.scores}


def test_nothing_reruns_when_nothing_has_changed(smoke):
    arguments, outputs = smoke
    before = artifacts_with_times(outputs)
    assert run(*arguments) == 0
    assert artifacts_with_times(outputs) == before


def test_a_query_gets_the_rows_of_the_submissions(smoke):
    from pipeline.query import open_run

    arguments, outputs = smoke
    opened = open_run(outputs)
    images, landmarks = (
        pd.read_csv(outputs / "11_write_submissions" / name, dtype=str, keep_default_na=False).iloc[:, 1].tolist()
        for name in SUBMISSIONS
    )
    world = Path(next(one for one in arguments if one.startswith("data.root=")).partition("=")[2])
    paths = pd.read_parquet(outputs / "01_prepare_data" / "test.parquet")["path"]
    answers = [opened.search(world / path) for path in paths]
    assert [" ".join(answer.ids) for answer in answers] == images
    assert [f"{answer.landmark} {answer.confidence:.6f}" for answer in answers] == landmarks


def test_the_notebook_runs_on_a_finished_run(smoke, capsys):
    _, outputs = smoke
    cells = json.loads((ROOT / "docs" / "demo.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None  # it is stored as it is written
            source = "".join(cell["source"]).replace("outputs/demo", str(outputs))
            exec(compile(source, "demo.ipynb", "exec"), names)
    assert names["sheet"].size == (1050, 150) and len(names["answer"].ids) > 5
    assert "5 votes: mAP@100" in capsys.readouterr().out


def test_a_changed_setting_reruns_its_stage_alone_and_the_status_names_what_is_stale(smoke, tmp_path, capsys):
    arguments, outputs = smoke
    shutil.copytree(outputs, tmp_path / "smoke")
    arguments = [*arguments, f"runtime.outputs={tmp_path}"]
    before = artifacts_with_times(tmp_path / "smoke")
    script = [sys.executable, str(ROOT / "stages" / "10_rerank_retrieval.py"), *arguments, "rerank.top_k=10"]
    assert subprocess.run(script, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    after = artifacts_with_times(tmp_path / "smoke")
    recipes = {"10_rerank_retrieval/recipe", "10_rerank_retrieval/verified"}
    assert {name for name in after if after[name] != before[name]} == recipes
    capsys.readouterr()
    assert run(*arguments, "--status", "rerank.top_k=10") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["10_rerank_retrieval/recipe"].endswith("fresh")
    assert "stale: input 10_rerank_retrieval/recipe changed" in lines["11_write_submissions"]
    assert "stale" in lines["12_evaluate"] and "10_rerank_retrieval/recipe" in lines["12_evaluate"]
    assert sum("stale" in line for line in lines.values()) == 2


@pytest.fixture
def photographs(smoke, tmp_path):
    """A copy of the smoke world as somebody's own data, and arguments to run on it without training."""
    arguments, _ = smoke
    world = Path(next(argument for argument in arguments if argument.startswith("data.root=")).partition("=")[2])
    shutil.copytree(world, tmp_path / "mine", ignore=shutil.ignore_patterns("manifest.json"))
    untrained = [f"models.cnn.{phase}.epochs=0" for phase in ("base", "final")]
    untrained += ["clean.min_inliers=1", "clean.min_neighbours=1"]
    mine = [
        *arguments,
        "data.source=gldv2",
        f"data.root={tmp_path / 'mine'}",
        f"runtime.outputs={tmp_path}",
        *untrained,
    ]
    return mine, tmp_path / "mine", tmp_path / "smoke"


def test_an_unreadable_test_photograph_is_listed_and_still_gets_its_rows(photographs):
    arguments, data, outputs = photographs
    broken = sorted((data / "test").rglob("*.jpg"))[3]
    broken.write_text("no photograph")
    assert run(*arguments, "--only", 1) == 3
    assert run(*arguments, "data.max_bad_fraction=0.1", "submit.gzip=true") == 0
    rejected = pd.read_csv(outputs / "01_prepare_data" / "rejected.csv", dtype=str)
    assert rejected[["split", "id"]].values.tolist() == [["test", broken.stem]]
    for name in SUBMISSIONS:
        table = pd.read_csv(outputs / "11_write_submissions" / f"{name}.gz", dtype=str, keep_default_na=False)
        assert len(table) == 24
        assert table[table["id"] == broken.stem].values.tolist() == [[broken.stem, ""]]


def test_a_clean_list_limits_the_final_training_alone(photographs):
    arguments, data, outputs = photographs
    train = pd.read_csv(data / "train.csv", dtype=str)
    clean = train[train["landmark_id"].isin(sorted(train["landmark_id"].unique())[:4])]
    lists = clean.groupby("landmark_id")["id"].agg(" ".join).reset_index(name="images")
    lists.to_csv(data / "train_clean.csv", index=False)
    assert run(*arguments, "--to", 4) == 0
    landmarks = [
        json.loads((outputs / stage / "cnn" / "network.json").read_text())["landmark_ids"]
        for stage in ("02_train_base", "04_train_final")
    ]
    assert len(landmarks[0]) == 8 and [str(landmark) for landmark in landmarks[1]] == sorted(
        lists["landmark_id"], key=int
    )


def test_without_inliers_asked_for_nothing_is_compared(photographs):
    arguments, _, outputs = photographs
    plain = ["rerank.baselines={}", "recognition.max_inliers=0", "clean.source=none", "models.cnn.local=false"]
    assert run(*arguments, *plain) == 0
    assert not (outputs / "07_extract_local").exists() and not (outputs / "08_verify_matches").exists()
    assert [path.name for path in (outputs / "03_clean_train_set").iterdir() if path.is_dir()] == ["list"]
    metrics = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())
    assert metrics["cleaning"] == {"kept": 64, "dropped": 0, "landmarks": 8}


def test_a_changed_threshold_of_the_cleaning_compares_nothing_again(smoke, capsys):
    arguments, _ = smoke
    assert run(*arguments, "--status", "clean.min_inliers=5") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["03_clean_train_set/pairs"].endswith("fresh")
    assert "clean" in lines["03_clean_train_set/list"] or "min_inliers" in lines["03_clean_train_set/list"]
    assert "stale" in lines["04_train_final/cnn"]


def test_without_solutions_there_are_counts_times_and_the_answers_in_pictures(photographs):
    arguments, data, outputs = photographs
    for task in ("retrieval", "recognition"):
        (data / f"{task}_solution.csv").unlink()
    assert run(*arguments) == 0
    metrics = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())
    first = metrics["retrieval"]["recipe"][0]
    assert (first["step"], first["images_listed"], "map_at_100" in first) == ("knn", 24 * 48, False)
    assert metrics["seconds"]["05_extract_global"] > 0
    assert "nothing to score retrieval by" in (outputs / "log.txt").read_text()
    page = (outputs / "12_evaluate" / "report.html").read_text()
    assert "What the test photographs were taken for" in page and "confidence 0." in page


def test_an_ensemble_of_two_models_and_a_baseline_run_beside_the_recipe(photographs):
    arguments, _, outputs = photographs
    second = ["models.other.backbone=resnet18", "models.other.weights=none", "models.other.dims=32"]
    second += [f"models.other.{phase}.epochs=0" for phase in ("base", "final")] + ["models.other.weight=0.5"]
    assert run(*arguments, *second, "rerank.baselines.sorted=['knn', 'sort']") == 0
    assert np.load(outputs / "05_extract_global" / "other" / "test" / "descriptors.npy").shape == (24, 32)
    metrics = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())
    for one, other in zip(metrics["retrieval"]["sorted"], metrics["retrieval"]["recipe"], strict=False):
        assert (one["step"], one["map_at_100"]) == (other["step"], other["map_at_100"])


def naive_map(rows: np.ndarray, outputs: Path, world: Path) -> float:
    """mAP@100 of lists of index rows by the solution file, one query and one position at a time."""
    test, index = (
        pd.read_parquet(outputs / "01_prepare_data" / f"{split}.parquet")["id"] for split in ("test", "index")
    )
    solution = pd.read_csv(world / "retrieval_solution.csv", dtype=str, keep_default_na=False).set_index("id")
    precisions = []
    for query, row in zip(test, rows.tolist(), strict=True):
        relevant = solution.loc[query, "images"].split()
        if solution.loc[query, "Usage"] == "Ignored" or not relevant or relevant == ["None"]:
            continue
        hits, total = 0, 0.0
        for position, image in enumerate(index[number] for number in row if number >= 0):
            if image in relevant:
                hits += 1
                total += hits / (position + 1)
        precisions.append(total / min(len(relevant), 100))
    return float(np.mean(precisions))


def test_every_step_runs_as_a_baseline_in_the_same_run_and_is_scored_by_its_lists(photographs):
    arguments, data, outputs = photographs
    steps = [step for step in STEPS if step not in ("knn", "verify", "sort", "insert")]
    baselines = ", ".join(f"{step} = ['knn', '{step}']" for step in steps)
    walk = "walk_then_insert = ['knn', 'alpha_qe', 'superglobal', 'sort', 'insert']"
    assert run(*arguments, f"rerank.baselines={{{baselines}, {walk}}}", "search.graph_k=6") == 0
    metrics = json.loads((outputs / "12_evaluate" / "metrics.json").read_text())["retrieval"]
    assert set(metrics) == {"recipe", "walk_then_insert", *steps}
    for recipe, scored in metrics.items():
        for position, scores in enumerate(scored):
            path = outputs / "10_rerank_retrieval" / recipe / f"{position}_{scores['step']}.rows.npy"
            rows = np.load(path)
            assert scores["map_at_100"] == pytest.approx(naive_map(rows, outputs, data), abs=1e-6), path
            assert scores["images_listed"] == (rows >= 0).sum()
    near = np.load(outputs / "06_build_knn" / "index_index" / "rows.npy")
    assert near.shape == (48, 6) and not (near == np.arange(48)[:, None]).any()


def test_any_index_of_faiss_can_be_set_and_one_that_it_refuses_is_an_error(smoke, tmp_path):
    arguments, outputs = smoke
    shutil.copytree(outputs, tmp_path / "smoke")
    arguments = [*arguments, f"runtime.outputs={tmp_path}"]
    assert run(*arguments, "search.index_factory=IVF2,Flat", "search.nprobe=2") == 0  # all lists visited: exact
    for name in SUBMISSIONS:
        expected = (outputs / "11_write_submissions" / name).read_bytes()
        assert (tmp_path / "smoke" / "11_write_submissions" / name).read_bytes() == expected
    assert run(*arguments, "search.index_factory=IVF,Nonsense") == 2


def test_plain_folders_of_photographs_run_through(tmp_path, smoke):
    rng = np.random.default_rng(0)
    for path in [f"train/{place}/{n}.png" for place in ("Abbey", "Bridge") for n in range(3)] + [
        "index/a b.png",
        "test/q.png",
    ]:
        (tmp_path / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "mine" / path), rng.integers(0, 255, (70, 90, 3), dtype=np.uint8))
    arguments = ["data.source=folders", f"data.root={tmp_path / 'mine'}", f"runtime.outputs={tmp_path}"]
    assert run(*SMOKE, *arguments, "clean.min_inliers=1000") == 2  # nothing would be left to train on
    arguments.append("clean.source=none")
    assert run(*SMOKE, *arguments, "models.cnn.base.batch_size=3", "models.cnn.final.batch_size=3") == 0
    table = pd.read_csv(tmp_path / "smoke" / "11_write_submissions" / "retrieval.csv", dtype=str)
    assert table.values.tolist() == [["q", "a_b"]]
    names = pd.read_csv(tmp_path / "smoke" / "01_prepare_data" / "landmarks.csv")
    assert names["name"].tolist() == ["Abbey", "Bridge"]
    answers = pd.read_csv(tmp_path / "smoke" / "11_write_submissions" / "recognition_names.csv", keep_default_na=False)
    assert answers["id"].tolist() == ["q"] and answers["name"].isin(["Abbey", "Bridge"]).all()


def test_a_world_without_index_or_without_test_photographs_gives_valid_files(photographs):
    arguments, data, outputs = photographs
    for name in ("index", "test"):
        for task in ("retrieval", "recognition"):
            (data / f"{task}_solution.csv").unlink(missing_ok=True)
        kept = (data / f"{name}.csv").read_text()
        (data / f"{name}.csv").write_text("id\n")
        assert run(*arguments) == 0
        rows = pd.read_csv(outputs / "11_write_submissions" / "retrieval.csv", dtype=str, keep_default_na=False)
        assert rows["images"].tolist() == ([""] * 24 if name == "index" else [])
        (data / f"{name}.csv").write_text(kept)


def read_answer(outputs: Path) -> tuple[list, np.ndarray]:
    """The labels and the scores of recognition."""
    table = pd.read_parquet(outputs / "09_predict_landmarks" / "recognition.parquet")
    return table["labels"].tolist(), table["scores"].to_numpy()


def read_train_neighbours(outputs: Path) -> list[list[tuple[int, float, int, int]]]:
    """(landmark, cosine, inliers, row) of each test photograph's train neighbours, nearest first."""
    landmarks = pd.read_parquet(outputs / "01_prepare_data" / "train.parquet")["landmark"].tolist()
    near = outputs / "06_build_knn" / "test_train"
    similarities, rows = (np.load(near / f"{name}.npy").tolist() for name in ("similarities", "rows"))
    pairs = pd.read_parquet(outputs / "08_verify_matches" / "test_train" / "pairs.parquet")
    inliers = {(query, row): count for query, row, count in pairs[["query", "row", "inliers"]].itertuples(index=False)}
    return [
        [(landmarks[row], cosine, inliers.get((query, row), 0), row) for cosine, row in zip(*line, strict=True)]
        for query, line in enumerate(zip(similarities, rows, strict=True))
    ]


def sum_by_label(votes: list[tuple[int, float]]) -> dict[int, float]:
    sums: dict[int, float] = {}
    for label, weight in votes:
        sums[label] = sums.get(label, 0.0) + weight
    return sums


def check_answer(outputs: Path, expected: list[dict[int, float]]) -> None:
    """The answer has the greatest score of each image's labels, and that score."""
    for label, score, scores in zip(*read_answer(outputs), expected, strict=True):
        assert score == pytest.approx(max(scores.values()), abs=3e-6)
        assert scores[label] == pytest.approx(score, abs=3e-6)


@pytest.fixture
def finished(smoke, tmp_path):
    """A copy of the finished run: (arguments, its output folder)."""
    arguments, outputs = smoke
    shutil.copytree(outputs, tmp_path / "smoke")
    return [*arguments, f"runtime.outputs={tmp_path}"], tmp_path / "smoke"


def test_recognition_votes_by_powers_inliers_and_the_head(finished):
    from pipeline.network.checkpoint import load_network

    arguments, outputs = finished
    before, neighbours = artifacts_with_times(outputs), read_train_neighbours(outputs)
    powers = ["--only", 9, "recognition.power=8", "recognition.votes=5"]
    assert run(*arguments, *powers) == 0
    expected = []
    for line in neighbours:
        sums = sum_by_label([(n[0], max(n[1], 0) ** 8 + min(n[2], 20) / 20) for n in line[:5]])
        expected.append({label: (total / 5) ** (1 / 8) for label, total in sums.items()})
    check_answer(outputs, expected)
    network = load_network(outputs / "04_train_final" / "cnn")
    descriptors = np.load(outputs / "05_extract_global" / "cnn" / "test" / "descriptors.npy")
    directions = network.head.weight.detach().numpy()
    every = descriptors @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    heads = [dict(zip(network.landmark_ids.tolist(), line.tolist(), strict=True)) for line in every]
    assert run(*arguments, *powers, "recognition.head_power=12", "recognition.max_inliers=0") == 0
    expected = []
    for line, head in zip(neighbours, heads, strict=True):
        sums = sum_by_label([(n[0], max(n[1], 0) ** 8) for n in line[:5]])
        raised = {label: max(head.get(label, 0.0), 0.0) ** 12 for label in sums}
        expected.append({label: (total * raised[label] / 5) ** (1 / 20) for label, total in sums.items()})
    check_answer(outputs, expected)
    after = artifacts_with_times(outputs)
    assert {name for name in after if after[name] != before[name]} == {"09_predict_landmarks"}


def test_inliers_choose_the_label_of_a_test_photograph_for_the_ranking_and_leave_those_of_index(finished):
    arguments, outputs = finished
    neighbours, votes = read_train_neighbours(outputs), outputs / "09_predict_landmarks"
    index = (votes / "index.parquet").read_bytes()
    assert run(*arguments, "--only", 9, "vote.max_inliers=20", "recognition.max_inliers=0") == 0
    assert (votes / "index.parquet").read_bytes() == index
    test = pd.read_parquet(votes / "test.parquet")
    for line, label, confidence in zip(neighbours, test["labels"], test["confidences"], strict=True):
        sums = sum_by_label([(n[0], n[1] + min(n[2], 20) / 20) for n in line[:3]])
        assert sums[label] == pytest.approx(max(sums.values()), abs=2e-6)
        assert confidence == pytest.approx(sum(n[1] for n in line[:3] if n[0] == label) / 3, abs=2e-6)


def test_photographs_of_no_landmark_are_held_against_the_answer_and_leave_the_rest_as_it_was(finished, tmp_path):
    arguments, outputs = finished
    before, neighbours = artifacts_with_times(outputs), read_train_neighbours(outputs)
    arguments += [f"data.root={tmp_path / 'world'}", "demo.non_landmark_images=6", "recognition.non_landmarks=true"]
    arguments += ["recognition.penalty_train_k=2", "recognition.penalty_test_k=4", "recognition.max_inliers=0"]
    assert run(*arguments, "--to", 9) == 0
    after = artifacts_with_times(outputs)
    assert set(after) - set(before) == {
        "05_extract_global/cnn/non_landmark",
        *(f"06_build_knn/{split}_non_landmark" for split in ("test", "train")),
    }
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"01_prepare_data", "09_predict_landmarks"}
    test, train, strangers = (
        np.load(outputs / "05_extract_global" / "cnn" / split / "descriptors.npy")
        for split in ("test", "train", "non_landmark")
    )
    assert len(strangers) == 6
    of_train, of_test = (
        np.sort(part @ strangers.T, axis=1)[:, -k:].mean(axis=1) for part, k in ((train, 2), (test, 4))
    )
    expected = []
    for line, lower_by in zip(neighbours, of_test, strict=True):
        votes = sorted(((min(max(n[1], 0), 1) - of_train[n[3]], n[0]) for n in line), key=lambda vote: -vote[0])[:3]
        sums = sum_by_label([(label, weight) for weight, label in votes])
        expected.append({label: (total - lower_by) / 3 for label, total in sums.items()})
    check_answer(outputs, expected)


def test_non_landmarks_that_are_asked_for_and_not_there_stop_the_first_stage(photographs, capsys):
    arguments, data, outputs = photographs
    assert run(*arguments, "recognition.non_landmarks=true") == 2
    assert "non_landmark.csv" in capsys.readouterr().err
    assert not (outputs / "01_prepare_data").exists()
    strange = "0" * 16
    (data / "non_landmark.csv").write_text(f"id\n{strange}\n")
    (data / "non_landmark").mkdir()
    picture = np.random.default_rng(1).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(data / "non_landmark" / f"{strange}.jpg"), picture)
    assert run(*arguments, "--only", 1, "recognition.non_landmarks=true") == 0
    table = pd.read_parquet(outputs / "01_prepare_data" / "non_landmark.parquet")
    assert table[["id", "width", "height"]].values.tolist() == [[strange, 90, 70]] and "landmark" not in table


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--only", "13"], 2),
        (["models.cnn.local=false"], 2),  # the recipe verified needs local features
        (["--force", "99"], 2),
        (["--config", "configs/nowhere.toml"], 2),
        (["rerank.surprise=1"], 2),
        (["data.source=gldv2", "data.root=/nowhere"], 2),
        (["--only", "10", "seed=7"], 2),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_says_why(smoke, arguments, expected, capsys):
    assert run(*smoke[0], *arguments) == expected
    error = capsys.readouterr().err
    assert "where:" in error and "fix:" in error


def test_one_that_writes_where_another_writes_exits_with_2(smoke, tmp_path):
    from pipeline.lock import hold_lock

    arguments = [*smoke[0], f"runtime.outputs={tmp_path}"]
    holder = "import sys,time; from pathlib import Path; from pipeline.lock import hold_lock\n"
    holder += "with hold_lock(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", holder, str(tmp_path / "smoke" / "01_prepare_data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    process.stdout.readline()
    try:
        assert run(*arguments, "--to", 1) == 2
    finally:
        process.kill()
        process.wait()
    with hold_lock(tmp_path / "smoke" / "01_prepare_data"):
        pass


def test_the_variants_of_a_sweep_make_only_what_differs(smoke, tmp_path, capsys):
    arguments, outputs = smoke
    (tmp_path / "smoke").symlink_to(outputs)
    arguments = [*arguments, f"runtime.outputs={tmp_path}"]
    assert run(*arguments, "--sweep", "rerank.insert.min_confidence=0.2,0.9", "--to", "11") == 0
    told = capsys.readouterr().err
    for value in ("0p2", "0p9"):
        made = tmp_path / f"smoke-min_confidence_{value}"
        assert (made / "11_write_submissions" / "retrieval.csv").exists()
        assert f"{made}" in told
    assert told.count("02_train_base/cnn: taken from") == 2 and "02_train_base/cnn: not built yet" not in told
    assert told.count("10_rerank_retrieval/recipe: not built yet") == 2
    assert "python -m pipeline.compare" in told
    assert run(*arguments, "--sweep", "rerank.insert.min_confidence=0.2,0.9", "--to", "11") == 0
    assert "taken from" not in capsys.readouterr().err  # all are fresh
