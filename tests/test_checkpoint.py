"""Networks and states on disk: equal bytes, refusals that name both sides, a kill that costs nothing."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.catalogue import HEADS, POOLINGS
from pipeline.errors import PipelineError
from pipeline.network.checkpoint import (
    DESCRIPTION,
    WEIGHTS,
    copy_checkpoint,
    load_network,
    load_training_state,
    save_network,
    save_training_state,
)
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.settings import ModelSettings, PhaseSettings

MODEL = ModelSettings(backbone="efficientnet_lite0", weights="none", dims=16)
SMALL = ModelSettings(backbone="resnet18", weights="none", dims=16, local=False)
IDS = np.array([3, 7, 100, 203_093])


@pytest.fixture(scope="module")
def network():
    return build_landmark_network(build_embedding(MODEL, 1), PhaseSettings(margin=0.2), IDS, 1)


@pytest.fixture
def folder(tmp_path, network):
    save_network(tmp_path / "network", network)
    return tmp_path / "network"


def test_a_network_comes_back_as_it_was_saved(folder, network):
    loaded = load_network(folder, MODEL)
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert loaded.landmark_ids.tolist() == IDS.tolist() and loaded.landmark_ids.dtype == np.int64
    assert (loaded.head.kind, loaded.head.margin, loaded.head.scale) == ("arcface", 0.2, 30.0)
    assert not loaded.training


COUNTS = np.array([1, 16, 81, 256])


WITH_MARGIN = [name for name, traits in HEADS.items() if traits.margin]


@pytest.mark.parametrize(
    ("head", "min_margin"), [(head, None) for head in HEADS] + [(head, 0.1) for head in WITH_MARGIN]
)
def test_every_head_comes_back_with_its_scale_and_its_margins(tmp_path, head, min_margin):
    phase = PhaseSettings(head=head, min_margin=min_margin, sub_centres=2, scale=20.0)
    network = build_landmark_network(build_embedding(SMALL, 1), phase, IDS, 1, local=False, counts=COUNTS)
    descriptors, targets = torch.randn(5, 16), torch.tensor([0, 1, 2, 3, 3])
    network.head(descriptors, targets)  # the scale of adacos moves
    network.eval()
    save_network(tmp_path, network)
    loaded = load_network(tmp_path, SMALL)
    assert loaded.head.kind == head
    assert torch.equal(loaded.head(descriptors, targets), network.head(descriptors, targets))
    save_network(tmp_path / "again", loaded)
    for name in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_margins_by_landmark_need_the_photographs_of_each():
    phase = PhaseSettings(min_margin=0.05, margin=0.5)
    network = build_landmark_network(build_embedding(SMALL, 1), phase, IDS, 1, local=False, counts=COUNTS)
    assert network.head.margin.tolist() == pytest.approx([0.5, 0.05 + 0.45 / 3, 0.05 + 0.45 / 9, 0.05])
    with pytest.raises(ValueError, match="number of photographs"):
        build_landmark_network(build_embedding(SMALL, 1), phase, IDS, 1, local=False)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_network_with_any_pooling_comes_back(tmp_path, pooling):
    model = SMALL.model_copy(update={"pooling": pooling})
    network = build_landmark_network(build_embedding(model, 1), PhaseSettings(), IDS, 1, local=False).eval()
    save_network(tmp_path, network)
    images = torch.rand(2, 3, 64, 96) * 255.0
    embedded = (one.embedding(images) for one in (load_network(tmp_path, model), network))
    assert torch.equal(*embedded)


def test_the_same_network_gives_the_same_bytes_in_any_memory_format(folder, tmp_path, network):
    save_network(tmp_path / "again", load_network(folder).to(memory_format=torch.channels_last))
    for name in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, DESCRIPTION])


@pytest.mark.parametrize(
    ("setting", "value"), [("backbone", "resnet18"), ("pooling", "rmac"), ("dims", 32), ("local", False)]
)
def test_another_architecture_is_refused_with_both_named(folder, setting, value):
    expected = MODEL.model_copy(update={setting: value})
    with pytest.raises(PipelineError, match=f"{setting} is {getattr(MODEL, setting)}, the settings say {value}"):
        load_network(folder, expected)


def test_another_number_of_classes_is_refused_with_both_shapes(folder):
    about = json.loads((folder / DESCRIPTION).read_text())
    about["landmark_ids"].append(500_000)
    (folder / DESCRIPTION).write_text(json.dumps(about))
    with pytest.raises(PipelineError, match=r"head.weight of shape \(5, 16\), the file has \(4, 16\)"):
        load_network(folder)


def test_a_future_format_a_damaged_and_a_missing_description_are_refused(folder, tmp_path):
    (folder / DESCRIPTION).write_text('{"format": 99}')
    with pytest.raises(PipelineError, match="format 99, this one reads 3"):
        load_network(folder)
    (folder / DESCRIPTION).write_text('{"format": ')
    with pytest.raises(PipelineError, match="damaged"):
        load_network(folder)
    (folder / DESCRIPTION).write_text("[]")
    with pytest.raises(PipelineError, match="not a file of this pipeline"):
        load_network(folder)
    with pytest.raises(PipelineError, match="there is no network"):
        load_network(tmp_path / "elsewhere")


def test_a_copied_checkpoint_has_the_same_bytes_and_another_architecture_is_not_copied(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(PipelineError, match="dims is 16, the settings say 32"):
        copy_checkpoint(folder, tmp_path / "copy", MODEL.model_copy(update={"dims": 32}))
    assert list((tmp_path / "copy").iterdir()) == []
    copy_checkpoint(folder, tmp_path / "copy", MODEL)
    for name in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_weights_in_a_pickle_are_refused(folder, network):
    torch.save(network, folder / WEIGHTS)
    with pytest.raises(PipelineError, match="trusted"):
        load_network(folder)


def test_a_kill_while_saving_leaves_the_old_network(folder, network, monkeypatch):
    before = (folder / WEIGHTS).read_bytes()

    def killed(tensors, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_network(folder, network)
    assert (folder / WEIGHTS).read_bytes() == before
    assert len(list(folder.iterdir())) == 2


def test_a_training_state_comes_back(tmp_path):
    state = {"tensor": torch.arange(3.0), "progress": {"epoch": 2, "loss": 0.1, "history": [{"a": None}]}}
    save_training_state(tmp_path / "state.pt", state)
    loaded = load_training_state(tmp_path / "state.pt")
    assert torch.equal(loaded.pop("tensor"), state.pop("tensor"))
    assert loaded == {"format": 3, **state}


def test_states_that_cannot_be_trusted_are_refused(tmp_path, network):
    path = tmp_path / "state.pt"
    torch.save({"format": 3, "network": network}, path)
    with pytest.raises(PipelineError, match="trusted"):
        load_training_state(path)
    save_training_state(path, {"x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(PipelineError, match="delete the file"):
        load_training_state(path)
    torch.save({"format": 4}, path)
    with pytest.raises(PipelineError, match="format 4, this one reads 3"):
        load_training_state(path)


def test_a_new_network_starts_from_the_landmarks_that_both_phases_know(network):
    ids = np.array([7, 50, 203_093])
    later = build_landmark_network(network.embedding, PhaseSettings(), ids, 2)
    later.warm_start_from(network)
    assert torch.equal(later.head.weight[0], network.head.weight[1])
    assert torch.equal(later.head.weight[2], network.head.weight[3])
    assert not (later.head.weight[1] == network.head.weight).all(1).any()
    assert torch.equal(later.local.encoder.weight, network.local.encoder.weight)
    assert torch.equal(later.local_head.weight[[0, 2]], network.local_head.weight[[1, 3]])


def test_new_networks_depend_only_on_the_seed():
    torch.manual_seed(0)
    first = build_embedding(MODEL, 5).projection.weight
    state = torch.get_rng_state()
    second = build_embedding(MODEL, 5).projection.weight
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, build_embedding(MODEL, 6).projection.weight)
