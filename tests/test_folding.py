"""Folding BatchNorm into convolutions: the same outputs, fewer layers, and only where it is right."""

import copy

import pytest
import torch
from torch import nn

from pipeline.device import mixed_precision
from pipeline.network.backbone import Backbone, ShallowBackbone
from pipeline.network.folding import fold_batchnorms, fold_for_evaluation, frozen_batchnorms_folded
from pipeline.seeds import seeded

CPU = torch.device("cpu")
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3)) * 255


def count_norms(network):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def trained(network):
    """The network with the statistics and weights that training would have left in its BatchNorms."""
    random = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2, generator=random)
            layer.running_var.uniform_(0.5, 2.0, generator=random)
            layer.weight.data.uniform_(0.8, 1.2, generator=random)
            layer.bias.data.uniform_(-0.1, 0.1, generator=random)
    return network.eval()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "mobilenet_v3_large", "regnet_y_400mf"])
@torch.no_grad()
def test_a_folded_backbone_gives_the_same_maps_without_a_batchnorm(name):
    backbone = trained(Backbone(name))
    before = copy.deepcopy(backbone.state_dict())
    folded = fold_for_evaluation(backbone, CPU, "float32")
    assert count_norms(backbone) > 10 and count_norms(folded) == 0
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the network itself has changed"
    for wanted, found in zip(backbone(IMAGES).values(), folded(IMAGES).values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    torch.testing.assert_close(ShallowBackbone(folded)(IMAGES), folded(IMAGES)["shallow"])


@torch.no_grad()
def test_in_bfloat16_the_weights_are_converted_once_and_the_maps_stay_near():
    backbone = trained(Backbone("resnet18"))
    folded = fold_for_evaluation(backbone, CPU, "bfloat16")
    assert {layer.weight.dtype for layer in folded.modules() if isinstance(layer, nn.Conv2d)} == {torch.bfloat16}
    with mixed_precision(CPU, "bfloat16"):
        found = folded(IMAGES)["deep"].float()
    wanted = backbone(IMAGES)["deep"]
    assert (found - wanted).norm() < 0.03 * wanted.norm()


class Odd(nn.Module):
    """A BatchNorm after a pooling, and a convolution whose output two layers read: neither can be folded."""

    def __init__(self):
        super().__init__()
        self.pool, self.first = nn.AvgPool2d(2), nn.BatchNorm2d(3)
        self.shared, self.norm, self.other = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.plain, self.last, self.act = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        x = self.shared(self.first(self.pool(x)))
        x = self.norm(x) + self.other(x)
        return self.act(self.last(self.plain(x)))


@torch.no_grad()
def test_only_a_batchnorm_that_alone_reads_a_convolution_is_folded():
    network = trained(Odd())
    wanted = network(IMAGES)
    folded = fold_batchnorms(copy.deepcopy(network), torch.zeros(1, 3, 32, 32))
    kept = [name for name, layer in folded.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert kept == ["first", "norm"] and folded.act.inplace
    torch.testing.assert_close(folded(IMAGES), wanted, rtol=1e-4, atol=1e-4)


def make_step(network, images):
    """The maps and gradients of a step in training mode with frozen BatchNorms."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    network.zero_grad(set_to_none=True)
    with seeded(1, "step"):  # for stochastic depth
        maps = network(images)
    sum(values.square().mean() for values in maps.values()).backward()
    return maps, {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "timm/test_byobnet"])
def test_training_with_frozen_batchnorms_folded_has_the_same_maps_and_gradients(name):
    network = trained(Backbone(name)).double()
    wanted, plain = make_step(network, IMAGES), list(network.state_dict())
    with frozen_batchnorms_folded(network, torch.zeros(1, 3, 64, 64, dtype=torch.float64)):
        found = make_step(network, IMAGES)
        assert list(network.state_dict()) == plain
    for left, right in zip(wanted, found, strict=True):
        for key, value in left.items():
            torch.testing.assert_close(right[key], value, rtol=1e-6, atol=1e-9)
    assert not any("forward" in layer.__dict__ for layer in network.modules())


def test_a_batchnorm_that_trains_is_not_folded_and_modes_stay():
    network = trained(Backbone("resnet18")).train()
    next(network.body.children()).eval()
    twin, modes = copy.deepcopy(network), [layer.training for layer in network.modules()]
    with frozen_batchnorms_folded(network, torch.zeros(1, 3, 64, 64)):
        assert [layer.training for layer in network.modules()] == modes
        found = network.train()(IMAGES)
    for name, wanted in twin.train()(IMAGES).items():
        assert torch.equal(found[name], wanted)
    for name, wanted in twin.state_dict().items():
        assert torch.equal(network.state_dict()[name], wanted), name
