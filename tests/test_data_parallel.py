"""Training on several ranks: the weights of one process, up to the order of sums, and states that any number reads."""

import contextlib
import copy
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from photographs import write_photographs
from ranks import run_ranks
from tasks import TrainingTask
from timm.layers import BatchNormAct2d

from pipeline.distributed import PartDone
from pipeline.network.collectives import GlobalBatchNorm, gather_rows, share_batchnorm, sum_over_ranks
from pipeline.network.data_parallel import Replicas, weigh
from pipeline.network.training import train_and_save
from pipeline.network.training_set import TrainingSet
from pipeline.network.training_state import HISTORY, TrainingSetup
from pipeline.settings import ModelSettings, PhaseSettings

MODEL = ModelSettings(backbone="resnet18", weights="none", dims=16)
PHASE = PhaseSettings(
    epochs=2,
    batch_size=8,
    learning_rate=0.002,
    template=[(96, 64), (64, 64), (64, 96)],
    validation_fraction=0.11,
    checkpoint_steps=2,
    precision="float32",
    head="adacos",
)
FROZEN = PHASE.model_copy(update={"augment_copies": 1, "backbone_lr_scale": 0.0, "head": "arcface"})
# Of a weight, relative to the greatest in its tensor: float32 sums in another order, over six steps.
TOLERANCE = 1e-3
ONLY_NOISE = "embedding.projection.bias"  # has no gradient but noise, since BatchNorm follows


def make_smooth():
    """Where a ReLU or a maximum is almost a tie, the last bit decides it, and a whole gradient with it."""
    return [
        patch.object(torch.nn.ReLU, "forward", lambda self, values: F.softplus(values)),
        patch.object(torch.nn.MaxPool2d, "forward", lambda self, values: F.avg_pool2d(values, 3, 2, 1)),
        patch.object(F, "relu", lambda values, inplace=False: F.softplus(values)),
    ]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), 27)


def fit(ranks, folder, photographs, phase, killed_at=0):
    """Train and save as a stage does, or on one of several ranks its part. killed_at: the step at which it dies."""
    torch.set_num_threads(1)
    task = TrainingTask(folder, on_step=partial(die, killed_at))
    if ranks is not None:
        task.ranks = ranks
    with contextlib.ExitStack() as smooth:
        for one in make_smooth():
            smooth.enter_context(one)
        try:
            train_and_save(task, TrainingSetup(MODEL, phase, 5, torch.device("cpu")), photographs)
        except PartDone:
            assert not ranks.is_first


def die(at, done, *_):
    if done == at:
        raise ArithmeticError


def fit_by(count, folder, photographs, phase):
    """The weights and the history of a training by so many ranks."""
    if count == 1:
        fit(None, folder, photographs, phase)
    else:
        assert run_ranks(count, fit, folder, photographs, phase) == [0] * count
    return safetensors.torch.load_file(folder / "weights.safetensors"), (folder / HISTORY).read_text().splitlines()


def assert_near(found, wanted):
    for name, value in wanted[0].items():
        if name == ONLY_NOISE:
            continue
        scale = max(float(value.double().abs().max()), 1e-3)
        torch.testing.assert_close(found[0][name].double(), value.double(), rtol=0, atol=TOLERANCE * scale, msg=name)
    for line, expected in zip(found[1][1:], wanted[1][1:], strict=True):
        np.testing.assert_allclose(
            *([float(cell or 0) for cell in row.split(",")] for row in (line, expected)), rtol=5e-3
        )


@pytest.mark.parametrize("phase", [PHASE, FROZEN], ids=["whole", "frozen"])
def test_two_and_three_ranks_train_the_weights_of_one(tmp_path, photographs, phase):
    alone = fit_by(1, tmp_path / "1", photographs, phase)
    for count in (2, 3):
        assert_near(fit_by(count, tmp_path / str(count), photographs, phase), alone)


def test_a_training_goes_on_with_another_number_of_ranks(tmp_path, photographs):
    alone, folder = fit_by(1, tmp_path / "1", photographs, PHASE), tmp_path / "others"
    assert run_ranks(2, fit, folder, photographs, PHASE, 3) == [1, 1]
    assert run_ranks(3, fit, folder, photographs, PHASE, 5) == [1, 1, 1]
    assert_near(fit_by(1, folder, photographs, PHASE), alone)


def test_a_batch_in_parts_trains_what_ranks_train_in_parts(tmp_path, photographs):
    phase = PHASE.model_copy(update={"accumulate": 2, "head": "arcface", "epochs": 1})
    alone = fit_by(1, tmp_path / "1", photographs, phase)
    assert_near(fit_by(2, tmp_path / "2", photographs, phase), alone)


def test_weighed_losses_of_parts_average_to_the_mean_of_the_whole():
    losses = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])
    for cuts in ([5], [2, 3], [1, 1, 3]):
        parts = losses.split(cuts)
        weighed = [weigh(part.mean(), len(part), len(losses), len(cuts)) for part in parts]
        assert torch.stack(weighed).mean().item() == pytest.approx(losses.mean().item())
        assert sum(weigh(part.mean(), len(part), 5, 1) for part in parts).item() == pytest.approx(losses.mean().item())


def test_a_batch_of_fewer_images_than_ranks_is_every_rank_s_and_counts_once(tmp_path, photographs):
    few = TrainingSet(photographs.paths[:2], photographs.aspect_ratios[:2], np.array([3, 7]))
    phase = PHASE.model_copy(update={"epochs": 1, "head": "arcface"})
    alone, found = fit_by(1, tmp_path / "1", few, phase), fit_by(3, tmp_path / "3", few, phase)
    for weights in (alone[0], found[0]):  # three times the images: another correction of the variance
        for name in [name for name in weights if name.endswith("running_var")]:
            del weights[name]
    assert_near(found, alone)


def test_batchnorm_of_one_rank_is_torch_s():
    torch.manual_seed(1)
    ours = torch.nn.Sequential(torch.nn.BatchNorm2d(5), torch.nn.BatchNorm1d(5))
    torch_s = copy.deepcopy(ours)
    share_batchnorm(ours)
    assert all(isinstance(layer, GlobalBatchNorm) for layer in ours)
    assert ours.state_dict().keys() == torch_s.state_dict().keys()
    values = torch.randn(4, 5, 3, 2) * 3 + 1
    for network in (ours, torch_s):
        for mode in (True, False):
            network.train(mode)
            network[0](values), network[1](values[:, :, 0, 0])
    for mode in (True, False):
        ours.train(mode), torch_s.train(mode)
        torch.testing.assert_close(ours[0](values), torch_s[0](values))
        torch.testing.assert_close(ours[1](values[..., 0, 0]), torch_s[1](values[..., 0, 0]))
    for name, value in torch_s.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_what_follows_the_normalisation_in_a_layer_of_timm_stays():
    layer = BatchNormAct2d(5, act_layer=torch.nn.SiLU)
    torch_s, ours = torch.nn.Sequential(copy.deepcopy(layer)), torch.nn.Sequential(layer)
    share_batchnorm(ours)
    values = torch.randn(4, 5, 3, 2)
    torch.testing.assert_close(ours(values), torch_s(values))
    assert isinstance(ours[0], GlobalBatchNorm) and ours.state_dict().keys() == torch_s.state_dict().keys()


def test_rows_and_sums_of_one_rank_are_its_own():
    values = torch.randn(3, 2, requires_grad=True)
    assert sum_over_ranks(values) is values and gather_rows(values) is values


def gather(ranks):
    Replicas(ranks, torch.device("cpu"))
    gathered = gather_rows(torch.full((ranks.number, 2), float(ranks.number)))
    assert gathered.tolist() == [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
    own = torch.tensor([float(ranks.number)], requires_grad=True)
    total = sum_over_ranks(own)
    (total * ranks.number).sum().backward()
    assert total.item() == 3.0 and own.grad.item() == 3.0


def test_rows_of_all_ranks_are_gathered_in_their_order():
    assert run_ranks(3, gather) == [0, 0, 0]
