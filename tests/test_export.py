"""What is taken out of a run: the same network, graphs that agree with PyTorch, an honest card, no overwriting."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_up_run import STEP, copying, make_run, publish, search, write_metrics
from torch.nn import functional as F

from pipeline import layout
from pipeline.errors import PipelineError
from pipeline.export import main
from pipeline.features.local_batches import LocalNetwork
from pipeline.network import onnx_graphs
from pipeline.network.checkpoint import copy_checkpoint, load_network, save_network
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.new_folder import BEGUN
from pipeline.report.model_card import Origin, render_model_card
from pipeline.settings import ModelSettings, PhaseSettings

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "lite0": ModelSettings(backbone="efficientnet_lite0", weights="none", dims=8),
    "resnet18": ModelSettings(backbone="resnet18", weights="none", dims=64, local=False),
}
HOSTILE = "x\n---\nlicense: mit\n# \"<b>`|$1$ [a](b) *c* {{ d }} {% e %} 'é\u202e"


def save(folder, model, ids=(3, 7, 203_093)):
    """A random network in a folder."""
    network = build_landmark_network(build_embedding(model, 1), PhaseSettings(), np.array(ids), 1, local=model.local)
    save_network(folder, network)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of random networks by name."""
    folder = tmp_path_factory.mktemp("saved")
    return {name: save(folder / name, model) for name, model in MODELS.items()}


@pytest.fixture(scope="module")
def exported(saved, tmp_path_factory):
    """The same exported, with graphs; lite0 from a run."""
    for package in onnx_graphs.PACKAGES:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    of_run = make_run(folder / "mine", saved["lite0"]) / layout.final_network("cnn")
    for name, network in (saved | {"lite0": of_run}).items():
        assert main([str(network), str(folder / name)]) == 0
    return {name: folder / name for name in saved}


def read_card(folder):
    """The YAML and the Markdown of a card."""
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_exported_network_is_loaded_as_it_was_saved(saved, tmp_path, name):
    assert main([str(saved[name]), str(tmp_path / "out"), "--no-onnx"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    network, again = load_network(saved[name]), load_network(tmp_path / "out", MODELS[name])
    assert again.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    assert again.landmark_ids.tolist() == network.landmark_ids.tolist() == [3, 7, 203_093]
    images = torch.rand(2, 3, 64, 96) * 255
    assert torch.equal(again.embedding(images), network.embedding(images))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architecture"] == MODELS[name].architecture_settings
    assert config["input"]["mean"] == network.embedding.backbone.mean.flatten().tolist()
    assert config["maps"]["shallow"] == {
        "stride": 16, "channels": network.embedding.backbone.channels["shallow"],
        "cell_centre_px": {"lite0": 15, "resnet18": 0}[name], "signed": name == "lite0",
    }  # fmt: skip


def test_an_exported_network_is_a_checkpoint_whose_content_enters_the_cache_key(saved, tmp_path):
    assert main([str(saved["lite0"]), str(tmp_path / "out"), "--no-onnx"]) == 0
    (tmp_path / "copy").mkdir()
    copy_checkpoint(tmp_path / "out", tmp_path / "copy", MODELS["lite0"])
    assert (tmp_path / "copy/weights.safetensors").read_bytes() == (saved["lite0"] / "weights.safetensors").read_bytes()
    assert load_network(tmp_path / "copy").embedding.dims == 8
    spec = importlib.util.spec_from_file_location("train_base", ROOT / "stages/02_train_base.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    for folder, names in ((tmp_path / "out", layout.EXPORTED_FILES), (saved["lite0"], layout.NETWORK_FILES)):
        assert [path.name for path in stage.list_checkpoint(folder)] == list(names)
        assert all(path.is_file() for path in stage.list_checkpoint(folder))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_graphs_give_what_pytorch_gives_for_any_batch_and_size(saved, exported, name):
    import onnxruntime

    network, random = load_network(saved[name]), np.random.default_rng(4)
    assert (exported[name] / "local.onnx").exists() == MODELS[name].local
    graphs = {"global.onnx": lambda images: [F.normalize(network.embedding(images))]}
    if MODELS[name].local:
        graphs["local.onnx"] = LocalNetwork(network)
    for file, compute in graphs.items():
        session = onnxruntime.InferenceSession(exported[name] / file)
        for batch in (1, 2):
            for size in ((32, 64), (96, 96), (224, 160)):
                images = random.uniform(0, 255, (batch, 3, *size)).astype(np.float32)
                wanted = compute(torch.from_numpy(images))
                for one, found in zip(wanted, session.run(None, {"images": images}), strict=True):
                    assert found.shape == one.shape
                    np.testing.assert_allclose(found, one.numpy(), rtol=0, atol=1e-4 * max(1, float(one.abs().max())))


def test_a_graph_that_disagrees_is_an_error_and_leaves_nothing(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_graphs, "PACKAGES", ())
    monkeypatch.setattr(onnx_graphs, "_trace", lambda graph, path: path.touch())
    for error, told in ((2e-4, "by 2.0e-04, more than 1e-04"), (float("nan"), "by nan")):
        monkeypatch.setattr(onnx_graphs, "measure_error", lambda graph, path, error=error: error)
        assert main([str(saved["lite0"]), str(tmp_path / "out")]) == 2
        assert f"global.onnx differs from PyTorch {told}" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


def test_without_the_packages_nothing_is_written_and_it_is_said_what_to_install(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_graphs, "PACKAGES", ("onnx_that_nobody_has",))
    assert main([str(saved["lite0"]), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "not installed: onnx_that_nobody_has" in told and "pip install -e '.[onnx]'" in told and "--no-onnx" in told
    assert not list(tmp_path.iterdir())


def test_rmac_has_no_graph_of_all_sizes(tmp_path):
    network = load_network(save(tmp_path / "rmac", MODELS["resnet18"].model_copy(update={"pooling": "rmac"})))
    with pytest.raises(PipelineError, match=r"R-MAC .*no one graph for all sizes"):
        onnx_graphs.write_graphs(tmp_path, network)


def test_only_a_network_is_exported_and_nothing_is_overwritten(saved, tmp_path, capsys):
    source, (taken, file) = saved["lite0"], (tmp_path / "taken", tmp_path / "file")
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    file.write_text("mine")
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"model_type": "bert"}')
    for given, folder, told in [
        (tmp_path / "nowhere", "out", "there is no network"),
        (tmp_path / "bert", "out", "not a file of this pipeline"),
        (source, "taken", "this folder is not empty"),
        (source, "file", "this is a file"),
        (source, "file/below", "a file is in the way"),
        (source, "other", "in the way and not of this command"),
    ]:
        before = sorted(tmp_path.rglob("*"))
        assert main([str(given), str(tmp_path / folder), "--no-onnx"]) == 2
        assert told in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_export_left_is_replaced_and_an_empty_folder_is_filled(saved, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out.partial").mkdir()
    for name in (BEGUN, "half"):
        (tmp_path / "out.partial" / name).touch()
    assert main([str(saved["lite0"]), str(tmp_path / "out"), "--no-onnx"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(list((tmp_path / "out").iterdir())) == 3


@pytest.fixture
def run(tmp_path, saved):
    return make_run(tmp_path / "mine", saved["lite0"])


def test_the_card_has_the_figures_of_the_run_and_its_lines_run(exported, monkeypatch):
    front, body = read_card(exported["lite0"])
    assert front["license"] == "unknown" and "efficientnet_lite0" in front["tags"] and front["library_name"]
    for shown in (
        "# cnn of the run mine", "| train | 4321 | 2 | 77 |", "| GAP | 0.345 |",
        "kept 999 train images and dropped 11, of which 5 took part",
        "| epochs | 17 | 3 |", "| weights | start.safetensors |", "| knn | 0.678 |", "Scored queries: 3",
        r"scales \[0.75, 1.25\]", "`global.onnx` differed from PyTorch by at most",
    ):  # fmt: skip
        assert shown in body, shown
    assert "secret" not in body and "Nothing was measured" not in body and str(exported["lite0"].parent) not in body
    monkeypatch.chdir(exported["lite0"])
    blocks = re.findall(r"^```python\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        names = {}
        exec(compile(block, "README.md", "exec"), names)
        assert tuple(names["descriptors"].shape) == (1, 8)


def test_the_card_says_what_else_the_scores_depend_on(run, tmp_path):
    search(run, {"cnn": 1.0, "other": 0.5}, whitened=True)
    publish(run, layout.EVALUATE, write_metrics, [layout.neighbours("test", "index")])
    assert main([str(run / layout.final_network("cnn")), str(tmp_path / "out"), "--no-onnx"]) == 0
    _, body = read_card(tmp_path / "out")
    assert "joins the descriptors of cnn, other." in body and "The run whitened the descriptors" in body
    assert "| knn | 0.678 |" in body


def test_figures_of_another_network_are_not_those_of_this_one(run, saved, tmp_path):
    def measured(source, name):
        assert main([str(source), str(tmp_path / name), "--no-onnx"]) == 0
        _, body = read_card(tmp_path / name)
        assert "0.678" not in body and (tmp_path / name / "README.md").read_text().count("Nothing was measured: ") == 1
        return body.partition("Nothing was measured: ")[2]

    assert "not exported from a run" in measured(saved["lite0"], "elsewhere")
    assert "those of its final networks" in measured(run / layout.base_network("cnn"), "base")
    publish(run, layout.final_network("given"), copying(saved["lite0"]))
    assert "searched without this network" in measured(run / layout.final_network("given"), "given")
    assert "Nothing is recorded of the training data." in read_card(tmp_path / "given")[1]
    (run / layout.EVALUATE / "metrics.json").write_text("{}")
    assert "the run has changed since (its scores)" in measured(run / layout.final_network("cnn"), "altered")
    shutil.rmtree(run / layout.EVALUATE)
    assert "the run has no 12" in measured(run / layout.final_network("cnn"), "unmeasured")
    publish(run, layout.PREPARE, lambda folder: (folder / "train.parquet").touch())
    outdated = f"{layout.base_network('cnn')} was made of another {layout.images('train')}"
    assert outdated.replace("_", r"\_") in measured(run / layout.final_network("cnn"), "changed")


def make_origin(name):
    """An origin in which every name is this one."""
    metrics = {"retrieval": {"recipe": [STEP | {"step": name}]}}
    return Origin(
        run=name, model=name, source=name, images={name: {"photographs": 1}}, phases={name: {name: name}},
        scales=[1.0], mirrored=True, sizes=name, models=[name, "other"], metrics=metrics, unmeasured=name,
    )  # fmt: skip


def test_names_and_settings_of_a_run_break_neither_yaml_nor_markdown(saved, tmp_path):
    assert main([str(saved["lite0"]), str(tmp_path / "out"), "--no-onnx"]) == 0
    config = json.loads((tmp_path / "out/config.json").read_text())
    hostile, plain = (render_model_card(config, make_origin(name), {}) for name in (HOSTILE, "plain"))
    assert "of each image and of its mirror image" in plain
    assert yaml.safe_load(hostile.split("---\n", 2)[1]) == yaml.safe_load(plain.split("---\n", 2)[1])
    for line, other in zip(hostile.splitlines(), plain.splitlines(), strict=True):
        active = re.sub(r"\\[!-/:-@\[-`{-~]", "", line)  # without what is escaped
        assert active.count("|") == other.count("|"), line
        if "license: mit" in line:
            assert not re.search(r"[`*\[\]<>$\u202e]", active), line


def test_the_extra_and_the_tests_need_the_same_packages():
    extra, tests = ((ROOT / f"requirements-{name}.txt").read_text().splitlines() for name in ("onnx", "test"))
    needed = [line for line in extra if not line.startswith("#")]
    assert set(needed) <= set(tests) and [line.partition("==")[0] for line in needed] == list(onnx_graphs.PACKAGES)
