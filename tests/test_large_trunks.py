"""What large trunks are trained by: last blocks only, rates by block, activations computed again, and kept weights."""

import copy

import numpy as np
import pytest
import torch
from photographs import write_photographs
from pydantic import ValidationError
from tasks import TrainingTask
from torch import nn

from pipeline.errors import PipelineError
from pipeline.network.backbone import Backbone
from pipeline.network.checkpoint import WEIGHTS
from pipeline.network.kept_weights import KeptWeights
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.optimiser import make_optimiser
from pipeline.network.parameter_groups import list_blocks, set_frozen_to_evaluation
from pipeline.network.training import Trainer, train, train_and_save
from pipeline.network.training_state import HISTORY, TrainingSetup
from pipeline.settings import ModelSettings, PhaseSettings

LITE = ModelSettings(backbone="efficientnet_lite0", weights="imagenet", dims=16, local=False)
VIT = ModelSettings(backbone="timm/vit_tiny_patch16_224", weights="none", dims=16, local=False)
PHASE = PhaseSettings(
    epochs=3, batch_size=8, learning_rate=0.02, template=[(96, 64), (64, 64), (64, 96)], validation_fraction=0.2,
    checkpoint_steps=2, precision="float32",
)  # fmt: skip


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), 24)


def setup_of(model, **settings):
    return TrainingSetup(model, PHASE.model_copy(update=settings), 5, torch.device("cpu"))


def build(model):
    return build_landmark_network(build_embedding(model, 1), PHASE, np.arange(3), 1, local=False)


@pytest.mark.parametrize(("name", "count"), [
    ("resnet18", 9), ("regnet_y_400mf", 17), ("efficientnet_b0", 18), ("mobilenet_v3_large", 17),
    ("efficientnet_lite0", 17), ("timm/convnext_atto", 13), ("timm/vit_tiny_patch16_224", 13),
    ("timm/legacy_seresnext26_32x4d", 9), ("timm/vit_tiny_patch16_dinov3_qkvb", 13),
])  # fmt: skip
def test_every_parameter_is_in_one_block_in_the_order_of_the_network(name, count):
    backbone = Backbone(name)
    blocks = list_blocks(backbone)
    assert len(blocks) == count
    assert sorted(id(one) for block in blocks for one in block) == sorted(id(one) for one in backbone.parameters())
    assert all(any(one.ndim > 1 for one in block) for block in blocks)
    (root,) = backbone.root
    names = {id(value): at for at, (name, value) in enumerate(root.named_parameters()) if value.ndim > 1}
    firsts = [min(names[id(one)] for one in block if id(one) in names) for block in blocks]
    assert firsts == sorted(firsts)


def test_only_the_last_blocks_learn_and_the_others_keep_their_statistics(photographs, tmp_path):
    model, trained = LITE, 3
    before = build_embedding(model, 5).backbone
    frozen = {id(one) for block in list_blocks(before)[:-trained] for one in block}
    first = {name for name, value in before.named_parameters() if id(value) in frozen}
    network = train(setup_of(model, trained_blocks=trained, epochs=1), photographs, TrainingTask(tmp_path))
    after, start = network.embedding.backbone.state_dict(), before.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, start[name])}
    assert changed and not changed & first
    layers = {name.rpartition(".")[0] for name in first}
    assert not any(name.rpartition(".")[0] in layers for name in changed)  # nor running means


def test_the_rate_falls_by_the_decay_from_block_to_block_and_the_head_has_the_full_one():
    network = build(VIT)
    optimiser = make_optimiser(network, PHASE.model_copy(update={"layer_decay": 0.5, "backbone_lr_scale": 0.2}))
    head, *blocks = optimiser.param_groups
    assert head["lr_scale"] == 1.0
    assert [group["lr_scale"] for group in blocks] == pytest.approx([0.2 * 0.5**depth for depth in range(13)])
    assert sum(len(group["params"]) for group in blocks) == len(list(network.embedding.backbone.parameters()))
    last = {id(one) for one in blocks[0]["params"]}
    assert id(network.embedding.backbone.body.network.norm.weight) in last
    limited = PHASE.model_copy(update={"layer_decay": 0.5, "trained_blocks": 2})
    assert [group["lr_scale"] for group in make_optimiser(network, limited).param_groups] == [1.0, 1.0, 0.5]


def test_activations_that_are_computed_again_give_the_same_gradients():
    gradients = []
    images, targets = torch.rand(4, 3, 64, 96) * 255, torch.tensor([0, 1, 2, 0])
    for wanted in (False, True):
        for model in (VIT, LITE):
            torch.manual_seed(0)
            network = build(model).train()
            network.embedding.backbone.checkpoint_gradients(wanted)
            torch.manual_seed(1)
            network(images, targets).head.backward()
            gradients.append([value.grad for value in network.embedding.backbone.parameters()])
    for plain, again in ((0, 2), (1, 3)):
        for one, other in zip(gradients[plain], gradients[again], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    with pytest.raises(PipelineError, match="take a model of timm"):
        Backbone("resnet18").checkpoint_gradients(True)
    Backbone("resnet18").checkpoint_gradients(False)


def test_the_average_is_the_formula_and_the_network_gets_its_own_weights_back():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    phase = PHASE.model_copy(update={"average_decay": 0.5})
    kept, expected = KeptWeights(network, phase), network[0].weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            network[0].weight += step
            network[1].num_batches_tracked += 1
        kept.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    own = network[0].weight.detach().clone()
    with kept.shown():
        torch.testing.assert_close(network[0].weight, expected)
        assert network[1].num_batches_tracked == 5
    assert torch.equal(network[0].weight, own)
    kept.finish()
    torch.testing.assert_close(network[0].weight, expected)


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss_then_comes_first():
    network = nn.Linear(1, 1, bias=False)
    kept = KeptWeights(network, PHASE.model_copy(update={"keep": "best"}))
    for epoch, (loss, top1) in enumerate([(3.0, 0.5), (2.0, 0.7), (1.5, 0.7), (1.5, 0.7), (0.1, 0.6), (None, None)]):
        nn.init.constant_(network.weight, epoch)
        kept.judge(loss, top1)
    kept.finish()
    assert network.weight.item() == 2.0


@pytest.mark.parametrize("settings", [{"average_decay": 0.9}, {"keep": "best"}, {"average_decay": 0.9, "keep": "best"}])
def test_a_kill_changes_no_byte_of_the_weights_that_are_kept(settings, photographs, tmp_path):
    setup = setup_of(LITE, trained_blocks=2, layer_decay=0.7, **settings)
    train_and_save(TrainingTask(tmp_path / "whole"), setup, photographs)

    def kill_at_four(done, *_):
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        train_and_save(TrainingTask(tmp_path / "killed", on_step=kill_at_four), setup, photographs)
    train_and_save(TrainingTask(tmp_path / "killed"), setup, photographs)
    for name in (WEIGHTS, HISTORY):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_kept_epoch_is_the_one_that_validates_best(photographs, tmp_path, monkeypatch):
    seen, validate = [], Trainer._validate
    scores = iter([(2.0, 0.4), (1.0, 0.9), (1.5, 0.6)])

    def watched(trainer):
        validate(trainer)
        seen.append(copy.deepcopy(trainer.network.state_dict()))
        return next(scores)

    monkeypatch.setattr(Trainer, "_validate", watched)
    network = train(setup_of(LITE, keep="best", trained_blocks=1), photographs, TrainingTask(tmp_path))
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())
    assert not torch.equal(seen[1]["embedding.projection.weight"], seen[2]["embedding.projection.weight"])


def test_settings_that_cannot_work_together_are_refused():
    with pytest.raises(ValidationError, match="validation_fraction above 0"):
        PhaseSettings(keep="best", validation_fraction=0.0)
    with pytest.raises(ValidationError, match="freezes all"):
        PhaseSettings(backbone_lr_scale=0.0, trained_blocks=2)


def test_layers_without_a_trained_parameter_evaluate_and_the_others_train():
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    set_frozen_to_evaluation(network.train())
    assert [layer.training for layer in (network, network[0], network[0][1], network[0][2], network[1])] == [
        True, False, False, False, True,
    ]  # fmt: skip
