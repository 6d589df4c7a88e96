"""The mean of several trainings: its weights, what it refuses, and which artifacts a run makes of it."""

import shutil

import numpy as np
import pytest
import torch
from command import run
from runs import arguments_for, share_finished

from pipeline.network.checkpoint import WEIGHTS, load_network
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.weight_average import average_networks
from pipeline.run_folder import describe_network
from pipeline.settings import ModelSettings, PhaseSettings

MODEL = ModelSettings(backbone="resnet18", weights="none", dims=8)


def make_network(seed, landmarks=(3, 5, 9), dims=8):
    network = build_landmark_network(
        build_embedding(MODEL.model_copy(update={"dims": dims}), seed), PhaseSettings(), np.array(landmarks), seed
    )
    network.embedding.norm.num_batches_tracked += seed
    return network.eval()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_weight_and_statistic_is_the_mean_and_counters_are_the_firsts(count):
    networks = [make_network(seed) for seed in range(1, count + 1)]
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in networks]
    mean = average_networks(networks).state_dict()
    assert mean["embedding.norm.num_batches_tracked"] == 1
    for name, value in mean.items():
        values = np.stack([state[name].numpy() for state in before])
        if value.is_floating_point():
            np.testing.assert_array_equal(value.numpy(), values.mean(axis=0, dtype=np.float64).astype(np.float32))
        for network, state in zip(networks, before, strict=True):
            assert torch.equal(network.state_dict()[name], state[name]), name


@pytest.mark.parametrize(
    ("landmarks", "dims", "told"), [((3, 5, 8), 8, "other landmarks"), ((3, 5, 9), 9, "other weights")]
)
def test_networks_of_other_landmarks_or_weights_have_no_mean(landmarks, dims, told):
    with pytest.raises(ValueError, match=told):
        average_networks([make_network(0), make_network(1, landmarks, dims)])
    with pytest.raises(ValueError, match="no network"):
        average_networks([])


def test_a_run_averages_its_trainings_and_one_more_trains_only_that(tmp_path, tmp_path_factory):
    world, finished = share_finished(tmp_path_factory)
    shutil.copytree(finished, tmp_path / "out")
    folder = tmp_path / "out" / "smoke" / "04_train_final"
    single = (folder / "cnn" / WEIGHTS).read_bytes()
    arguments = [*arguments_for(world, tmp_path / "out"), "--only", 4]
    assert run(*arguments, "models.cnn.averaged_trainings=2") == 0
    made = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/manifest.json")}
    assert set(made) == {"cnn", "cnn.1", "cnn.2"} and (folder / "cnn.1" / WEIGHTS).read_bytes() == single
    assert (folder / "cnn.2" / WEIGHTS).read_bytes() != single
    assert run(*arguments, "models.cnn.averaged_trainings=3") == 0
    for name in ("cnn.1", "cnn.2"):
        assert (folder / name / "manifest.json").stat().st_mtime_ns == made[name], name
    assert describe_network(folder / "cnn")["phases"]["final"]["averaged_trainings"] == 3
    mean = average_networks([load_network(folder / f"cnn.{number}") for number in (1, 2, 3)]).state_dict()
    for name, value in load_network(folder / "cnn").state_dict().items():
        assert torch.equal(value, mean[name]), name
