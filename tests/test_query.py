"""A finished run answers photographs as its submission does, and refuses what is no photograph and no finished run."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run
from runs import ROOT, arguments_for, share_finished

from pipeline.errors import PipelineError
from pipeline.query import open_run
from pipeline.query.__main__ import main
from pipeline.query.answer import NOT_COMPARED

EVERYTHING = [
    "rerank.recipe=['knn', 'verify', 'alpha_qe', 'dba', 'label_score']", "rerank.baselines={}",
    "search.whiten_dims=8", "vote.max_inliers=20", "verify.index_k=4", "search.index_k=6", "rerank.top_k=8",
    "recognition.ban_above=1", "recognition.head_power=2", "recognition.power=2", "recognition.non_landmarks=true",
    "demo.non_landmark_images=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(world, the folder of a finished run, what repeats it): a copy, whose settings may change."""
    world, outputs = share_finished(tmp_path_factory)
    copy = tmp_path_factory.mktemp("asked")
    shutil.copytree(outputs, copy / "out")
    return world, copy / "out" / "smoke", arguments_for(world, copy / "out")


def rows_of(folder, name):
    table = pd.read_csv(folder / "11_write_submissions" / f"{name}.csv", dtype=str, keep_default_na=False)
    return dict(zip(*(table[column] for column in table.columns), strict=True))


def check_answers(folder, world, opened):
    """Every test photograph, asked alone, gets its rows of the submission."""
    images, landmarks = rows_of(folder, "retrieval"), rows_of(folder, "recognition")
    test = pd.read_parquet(folder / "01_prepare_data" / "test.parquet")
    assert len(test) > 5
    for name, path in zip(test["id"], test["path"], strict=True):
        answer = opened.search(world / path)
        assert " ".join(answer.ids) == images[name]
        assert f"{answer.landmark} {answer.confidence:.6f}" == landmarks[name]
    return answer


def test_an_answer_is_that_of_the_submission_and_says_why(finished):
    world, folder, arguments = finished
    assert run(*arguments, "--to", 11) == 0  # writes the settings of the copy; the artifacts are fresh
    opened = open_run(folder)
    answer = check_answers(folder, world, opened)
    vectors = {
        split: np.load(folder / "05_extract_global" / "cnn" / split / "descriptors.npy") for split in ("index", "test")
    }
    assert answer.similarities == pytest.approx(vectors["index"][answer.rows] @ vectors["test"][-1], abs=2e-6)
    votes = pd.read_parquet(folder / "09_predict_landmarks" / "index.parquet")["labels"].to_numpy()
    own = pd.read_parquet(folder / "09_predict_landmarks" / "test.parquet")["labels"].to_numpy()[-1]
    assert answer.same_landmark.tolist() == (votes[answer.rows] == own).tolist()
    near = np.load(folder / "06_build_knn" / "test_index" / "rows.npy")[-1]
    assert answer.inserted.tolist() == [row not in near for row in answer.rows]
    pairs = pd.read_parquet(folder / "08_verify_matches" / "test_index" / "pairs.parquet")
    inliers = pairs[pairs["query"] == pairs["query"].max()].set_index("row")["inliers"]
    assert answer.inliers.tolist() == inliers[answer.rows].tolist()
    assert opened.match(answer, 1)[2].inliers.sum() == answer.inliers[1]
    few = opened.search(world / pd.read_parquet(folder / "01_prepare_data" / "test.parquet")["path"].iloc[-1], 1)
    assert few.inliers[0] == answer.inliers[0] and (few.inliers[1:] == NOT_COMPARED).all()


def test_all_that_settings_can_ask_for_gives_the_same_answers(finished, tmp_path):
    _, folder, _ = finished
    shutil.copytree(folder, tmp_path / "out" / "smoke")
    arguments = [*arguments_for(tmp_path / "world", tmp_path / "out"), *EVERYTHING]
    assert run(*arguments, "--to", 11) == 0
    folder = tmp_path / "out" / "smoke"
    scores = [float(cell.split()[1]) for cell in rows_of(folder, "recognition").values()]
    assert min(scores) < 0  # a landmark is banned
    opened = open_run(folder)
    check_answers(folder, tmp_path / "world", opened)
    others = [opened.images["index"].paths[0], opened.images["train"].paths[0]]
    assert [len(opened.search(path)) for path in others] == [8, 8]
    # A run can be moved to where its data is not, and asked there: what lies outside of outputs/ is as recorded.
    path = tmp_path / "world" / pd.read_parquet(folder / "01_prepare_data" / "test.parquet")["path"].iloc[0]
    expected, kept = opened.search(path).ids, shutil.copy(path, tmp_path)
    shutil.rmtree(tmp_path / "world")
    assert open_run(folder).search(kept, compared=4).ids == expected
    with pytest.raises(PipelineError, match="cannot be read"):  # the features of its images are lacking
        open_run(folder).search(kept, compared=8)


def test_propagated_labels_reach_a_photograph_as_they_reach_the_test_set(finished, tmp_path):
    world, folder, _ = finished
    shutil.copytree(folder, tmp_path / "out" / "smoke")
    asked = ["rerank.recipe=['knn', 'dba', 'propagation']", "recognition.propagation=0.5"]
    assert run(*arguments_for(world, tmp_path / "out"), *asked, "--to", 11) == 0
    check_answers(tmp_path / "out" / "smoke", world, open_run(tmp_path / "out" / "smoke"))


def test_features_that_the_run_lacks_are_made_when_they_are_needed(finished):
    _, folder, _ = finished
    opened = open_run(folder)
    compared = opened._side.compared["index"]
    path = opened.images["train"].paths[0]
    expected = opened.search(path).inliers.tolist()
    compared._stored[:] = False
    assert opened.search(path).inliers.tolist() == expected and len(compared._made) == 10


def write_bad(folder, name):
    """A file that is no photograph."""
    path = folder / name
    if name == "gone.jpg":
        return path
    if name == "one.png":
        cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8))
    else:
        content = {"text.jpg": b"not a picture", "empty.jpg": b"", "moving.gif": b"GIF89a" + bytes(60)}[name]
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["text.jpg", "empty.jpg", "moving.gif", "one.png", "gone.jpg"])
def test_what_is_no_photograph_is_named(finished, tmp_path, capsys, name):
    path = write_bad(tmp_path, name)
    assert main([str(finished[1]), str(path)]) == 2
    error = capsys.readouterr().err
    assert name in error and "fix:" in error and "Traceback" not in error


def test_the_command_answers_what_can_be_read_and_names_the_rest(finished, tmp_path, capsys):
    world, folder, _ = finished
    test = world / pd.read_parquet(folder / "01_prepare_data" / "test.parquet")["path"].iloc[0]
    (tmp_path / "photos").mkdir()
    shutil.copy(test, tmp_path / "photos" / "a <b>.jpg")
    write_bad(tmp_path / "photos", "text.jpg")
    page = tmp_path / "page.html"
    assert main([str(folder), str(tmp_path / "photos"), "-k", "3", "--json", "--html", str(page)]) == 3
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert len(answer["images"]) == 3 and answer["photograph"].endswith("a <b>.jpg")
    assert "text.jpg" in printed.err and "1 of 2 photographs" in printed.err
    text = page.read_text()
    assert "a &lt;b&gt;.jpg" in text and "a <b>" not in text and text.count("data:image/jpeg") >= 4
    assert answer["images"][0]["id"] in text and "similarity" in text
    assert main([str(folder), str(test)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["1", answer["images"][0]["id"]]
    (tmp_path / "none").mkdir()
    assert main([str(folder), str(tmp_path / "none")]) == 2
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), str(test), "-k", "0"])


def test_a_run_that_is_stale_half_made_or_none_is_refused(finished, tmp_path):
    _, folder, _ = finished
    with pytest.raises(PipelineError, match="there is no run"):
        open_run(tmp_path)
    shutil.copytree(folder, tmp_path / "smoke")
    shutil.rmtree(tmp_path / "smoke" / "06_build_knn" / "index_train")
    with pytest.raises(PipelineError, match="06_build_knn/index_train: not built yet"):
        open_run(tmp_path / "smoke")
    settings = tmp_path / "smoke" / "settings.json"
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps(values | {"vote": {"votes": 2}}))
    shutil.copytree(folder / "06_build_knn" / "index_train", tmp_path / "smoke" / "06_build_knn" / "index_train")
    with pytest.raises(PipelineError, match=r"setting vote\.votes changed"):
        open_run(tmp_path / "smoke")
    for damaged in ("{", "[]", '{"seed": -1}'):
        settings.write_text(damaged)
        with pytest.raises(PipelineError, match="settings of this run cannot be read"):
            open_run(tmp_path / "smoke")
    models = {"mine": {"descriptors": "somewhere"}}
    plain = {"recognition": {"max_inliers": 0}, "rerank": {"recipe": ["knn"]}, "clean": {"source": "none"}}
    settings.write_text(json.dumps({"models": models, "runtime": {}} | plain))
    with pytest.raises(PipelineError, match="came from elsewhere"):
        open_run(tmp_path / "smoke")


def test_help_needs_no_run():
    command = [sys.executable, "-m", "pipeline.query", "--help"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.count("photo") > 2
