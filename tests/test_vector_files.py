"""Descriptors taken out of a run: those that it searched, and the same bytes when they are read back."""

import shutil

import numpy as np
import pandas as pd
import pytest
from made_up_run import PRESENT, TABLE, make_run, read_present, search
from tasks import RecordedTask

from pipeline import layout
from pipeline.config import Config
from pipeline.export import main
from pipeline.features.external import write_external_descriptors
from pipeline.features.vector_files import write_vectors
from pipeline.run_settings import load_run, record_settings


@pytest.fixture
def run(tmp_path):
    (tmp_path / "network").mkdir()
    (tmp_path / "network/network.json").write_text("{}")
    return make_run(tmp_path / "mine", tmp_path / "network")


@pytest.fixture
def export(run, tmp_path):
    """Export a split of the run, or of one model of it, to a folder of that name; the exit code."""

    def work(name, split="index", source=run):
        return main([str(source), str(tmp_path / name), "--vectors", split])

    return work


def test_vectors_are_read_back_as_they_were_searched_without_images_that_have_none(run, tmp_path, capsys):
    assert main([str(run), str(tmp_path / "out"), "--vectors", "index", "test"]) == 0
    told = capsys.readouterr().out
    assert "index: 3 descriptors of 6 numbers" in told
    assert "index: left out, for want of a descriptor, 1 of 4 images" in told
    kept = TABLE.iloc[PRESENT]
    for split in ("index", "test"):
        wanted = read_present(run, layout.descriptors("cnn", split))
        task = RecordedTask(tmp_path / f"task_{split}")
        write_external_descriptors(task, tmp_path / "out", split, ("index", "test"), kept["id"].tolist(), set())
        assert np.load(task.folder / "descriptors.npy").tobytes() == wanted.tobytes()
        assert np.load(tmp_path / f"out/{split}.npy").tobytes() == wanted.tobytes()
        table = pd.read_parquet(tmp_path / f"out/{split}.parquet")
        assert table.to_dict("list") == {"id": kept["id"].tolist(), "row": [0, 1, 2], "path": kept["path"].tolist()}


def test_blocks_change_no_byte_and_landmarks_are_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.features.vector_files.BLOCK_ROWS", 3)
    rng = np.random.default_rng(1)
    for count in (0, 1, 3, 10):
        vectors = rng.normal(size=(count, 5)).astype(np.float32)
        vectors[1::4] = 0.0
        present = np.flatnonzero(vectors.any(axis=1))
        table = pd.DataFrame({name: [f"i{row}" for row in range(count)] for name in ("id", "path")}, dtype=str)
        assert write_vectors(tmp_path, "train", vectors, table.assign(landmark=range(count))) == len(present)
        assert np.load(tmp_path / "train.npy").tobytes() == vectors[present].tobytes()
        assert np.load(tmp_path / "train.npy").shape == (len(present), 5)
        assert pd.read_parquet(tmp_path / "train.parquet")["landmark"].tolist() == present.tolist()
        assert (tmp_path / "train_ids.txt").read_text() == "".join(f"i{row}\n" for row in present)


def test_several_models_are_joined_by_their_weights_and_one_can_be_asked_for(run, export, tmp_path, capsys):
    search(run, {"cnn": 1.0, "other": 0.5})
    parts = [read_present(run, layout.descriptors(model, "index")) for model in ("cnn", "other")]
    assert export("joined") == 0
    wanted = np.hstack([parts[0], 0.5 * parts[1]])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(np.load(tmp_path / "joined/index.npy"), wanted, atol=1e-6)
    other = run / layout.EXTRACT_GLOBAL / "other"
    assert export("one", source=other) == 0
    assert np.load(tmp_path / "one/index.npy").tobytes() == parts[1].tobytes()
    shutil.rmtree(run / layout.neighbours("test", "index"))
    assert export("unsearched") == 2
    assert f"folder of one model: {run / layout.EXTRACT_GLOBAL / 'cnn'}" in capsys.readouterr().err
    shutil.rmtree(other)
    assert export("only") == 0
    assert np.load(tmp_path / "only/index.npy").tobytes() == parts[0].tobytes()


def test_models_are_joined_in_the_order_of_the_configuration(run, export, tmp_path):
    models = {"z": {"dims": 6}, "a": {"dims": 7}}
    config = Config.model_validate({"run": "mine", "models": models, "data": {"root": str(tmp_path)}})
    record_settings(config, run)
    assert list(load_run(run).models) == ["z", "a"] and load_run(run).local_model == "z"
    search(run, {"z": 1.0, "a": 1.0})
    assert export("joined") == 0
    parts = [read_present(run, layout.descriptors(model, "index")) for model in ("z", "a")]
    np.testing.assert_allclose(np.load(tmp_path / "joined/index.npy"), np.hstack(parts) / np.sqrt(2), atol=1e-6)


def test_whitened_descriptors_are_taken_where_they_were_searched_and_only_there(run, export, tmp_path):
    search(run, {"cnn": 1.0}, whitened=True)
    wanted = read_present(run, layout.whitened("index"))
    assert export("whitened") == 0
    assert np.load(tmp_path / "whitened/index.npy").tobytes() == wanted.tobytes()
    search(run, {"cnn": 1.0})  # the whitened ones of before still lie there
    assert export("again") == 0
    assert np.load(tmp_path / "again/index.npy").shape == (3, 6)
    shutil.rmtree(run / layout.neighbours("test", "index"))
    assert export("unsearched") == 0
    assert np.load(tmp_path / "unsearched/index.npy").tobytes() == wanted.tobytes()


def test_vectors_that_are_missing_or_out_of_date_are_refused(run, export, tmp_path, capsys):
    def refused(split):
        assert export("out", split) == 2
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
        return capsys.readouterr().err

    assert "there are no descriptors of a split 'train'" in refused("train")
    prepared = run / layout.PREPARE / "manifest.json"
    prepared.write_text(prepared.read_text().replace('"sha256": "', '"sha256": "0'))
    assert f"was made of another {layout.images('index')}" in refused("index")
    shutil.rmtree(run / layout.descriptors("cnn", "index"))
    assert "they are missing" in refused("index")


def test_what_is_no_run_and_no_split_is_refused(export, tmp_path, capsys):
    assert export("out", source=tmp_path / "nowhere") == 2
    assert "name the folder of a run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export("out", "everything")
