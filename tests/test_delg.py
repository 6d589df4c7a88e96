"""DELG's local branch: its shapes, its loss by hand, and that its loss moves nothing else."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.network.backbone import BACKBONES, Backbone, ShallowBackbone
from pipeline.network.delg import LocalBranch, LocalMaps, local_loss, pool_attended
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.settings import ModelSettings, PhaseSettings

TARGETS = torch.tensor([0, 2, 1])


def build(backbone="resnet18", local=True):
    model = ModelSettings(backbone=backbone, weights="none", dims=16)
    return build_landmark_network(build_embedding(model, 1), PhaseSettings(), np.arange(3), 1, local=local)


def images(count=3, height=64, width=96):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "regnet_y_400mf", "mobilenet_v3_large"])
def test_every_cell_gets_a_code_an_attention_and_its_features_back(name):
    network = build(name).eval()
    channels = network.embedding.backbone.channels["shallow"] * (
        2 if network.embedding.backbone.signed["shallow"] else 1
    )
    maps = network.local(network.embedding.backbone(images())["shallow"])
    assert maps.codes.shape == (3, 128, 4, 6) and (maps.codes < 0).any()
    assert maps.attention.shape == (3, 1, 4, 6) and (maps.attention > 0).all()
    assert maps.features.shape == maps.reconstruction.shape == (3, channels, 4, 6)
    assert (maps.features >= 0).all() and (maps.reconstruction >= 0).all()
    assert network.classify_attended(maps).shape == (3, 3)


def test_a_signed_map_enters_as_its_two_parts_and_nothing_is_lost():
    shallow = torch.randn(2, 8, 3, 3)
    features = LocalBranch(8, signed=True)(shallow).features
    torch.testing.assert_close(features[:, :8] - features[:, 8:], shallow)


def test_the_local_loss_moves_neither_the_backbone_nor_the_global_branch():
    network = build().train()
    maps = network.embedding.backbone(images())
    seen = network.local(maps["shallow"])
    local_loss(seen, network.classify_attended(seen), TARGETS).backward()
    for name, value in network.named_parameters():
        if name.startswith(("embedding.", "head.")):
            assert value.grad is None or not value.grad.any(), name
        else:
            assert value.grad is not None and value.grad.isfinite().all(), name
    assert all(value.grad.any() for name, value in network.named_parameters() if name.startswith("local.encoder"))


@pytest.mark.parametrize("given", ["pixels", "maps"])
def test_one_call_gives_the_losses_of_both_branches_and_the_count_of_right_answers(given):
    network = build().train()
    maps = network.embedding.backbone(images())
    scores, seen = network.head.scores(network.embedding.embed(maps["deep"])), network.local(maps["shallow"])
    losses = network(images() if given == "pixels" else maps, TARGETS)
    assert torch.equal(losses.head, F.cross_entropy(network.head.logits(scores, TARGETS), TARGETS))
    assert torch.equal(losses.local, local_loss(seen, network.classify_attended(seen), TARGETS))
    assert losses.correct == (scores.argmax(1) == TARGETS).sum()
    assert build(local=False)(images(), TARGETS).local == 0.0


def test_the_global_loss_has_the_same_gradients_with_the_branch_and_without_it():
    gradients = []
    for local in (True, False):
        network = build(local=local).train()
        losses = network(images(), TARGETS)
        (losses.head + losses.local).backward()
        gradients.append({n: v.grad for n, v in network.named_parameters() if n.startswith(("embedding.", "head."))})
    for name, value in gradients[0].items():
        assert torch.equal(value, gradients[1][name]), name


def test_attended_features_are_the_mean_of_attention_times_directions():
    features = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).T.reshape(1, 2, 1, 2)  # cells (3, 4) and (0, 2)
    attention = torch.tensor([10.0, 1.0]).reshape(1, 1, 1, 2)
    pooled = pool_attended(LocalMaps(features, features, features, attention))
    torch.testing.assert_close(pooled, torch.tensor([[3.0, 4.5]]))  # (10 (.6, .8) + (0, 1)) / 2


def test_the_loss_is_the_cross_entropy_and_ten_times_the_squared_error():
    features, reconstruction = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)
    maps = LocalMaps(features, features, reconstruction, torch.ones(1, 1, 1, 1))
    loss = local_loss(maps, torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(np.log(2.0) + 10.0 * (1.0 + 9.0) / 2.0)


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "efficientnet_b0", "efficientnet_lite0"])
def test_the_shallow_part_alone_gives_the_shallow_map(name):
    backbone = Backbone(name).eval()
    part = ShallowBackbone(backbone)
    with torch.no_grad():
        assert torch.equal(part(images()), backbone(images())["shallow"])
    assert set(backbone.state_dict()) == set(Backbone(name).state_dict())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "mobilenet_v3_large", "efficientnet_lite2"])
def test_receptive_fields_are_centred_where_the_backbone_says(name, monkeypatch):
    """The pixels that a cell depends on, squeeze-and-excitation (which sees everything) switched off."""
    monkeypatch.setattr(torch.nn.AdaptiveAvgPool2d, "forward", lambda self, x: torch.ones_like(x[..., :1, :1]))
    backbone = Backbone(name).eval()
    pixels = (255 * torch.rand(1, 3, 704, 736, generator=torch.Generator().manual_seed(0))).requires_grad_()
    row, column = 20, 22
    ShallowBackbone(backbone)(pixels)[0, :, row, column].abs().sum().backward()
    felt = pixels.grad.abs().sum((0, 1))
    for axis, cell in ((1, row), (0, column)):
        touched = torch.nonzero(felt.sum(axis)).flatten()
        centre = (touched[0] + touched[-1]).item() / 2
        assert centre == 16 * cell + backbone.cells.centre_px


def test_every_backbone_is_signed_or_not_as_its_last_activation_says():
    signed = {"resnet18": False, "regnet_y_400mf": False, "efficientnet_b0": True, "efficientnet_lite0": True}
    assert all(name in BACKBONES and Backbone(name).signed["shallow"] == expected for name, expected in signed.items())
