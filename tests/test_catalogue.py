"""The names that settings offer are what the modules implement, with the defaults and traits that they state."""

import inspect

import pytest
import torch

from pipeline import catalogue
from pipeline.features.whitening import fit_whitening
from pipeline.images import augment
from pipeline.network import heads, pooling
from pipeline.network.backbone import build_backbone
from pipeline.network.cosine_softmax import arcface_logits, cosface_logits
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.landmark_network import build_landmark_network
from pipeline.settings import ModelSettings, PhaseSettings, SearchSettings


def test_every_name_of_the_catalogue_is_implemented_and_nothing_else_is():
    assert list(catalogue.HEADS) == list(heads.HEADS)
    assert list(catalogue.POOLINGS) == list(pooling.POOLINGS)
    assert list(catalogue.AUGMENTATIONS) == list(augment.AUGMENTATIONS)


@pytest.mark.parametrize("kind", catalogue.HEADS)
def test_a_head_is_built_under_its_own_name_and_has_a_margin_if_the_catalogue_says_so(kind):
    descriptors, targets, logits = torch.eye(4)[:3], torch.tensor([0, 2, 3]), []
    for margin in (0.1, 0.4):
        torch.manual_seed(0)
        head = heads.build_head(kind, 4, 5, margin)
        assert head.kind == head.settings["kind"] == kind
        logits.append(head.eval()(descriptors, targets))
    assert torch.equal(*logits) != catalogue.HEADS[kind].margin
    assert ("margin" in head.settings) == catalogue.HEADS[kind].margin


@pytest.mark.parametrize("name", catalogue.POOLINGS)
def test_a_pooling_gives_one_value_per_channel(name):
    assert pooling.build_pooling(name)(torch.rand(2, 6, 4, 5)).shape == (2, 6)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (build_backbone, ModelSettings),
        (pooling.build_pooling, ModelSettings),
        (EmbeddingNetwork, ModelSettings),
        (build_landmark_network, ModelSettings),
        (heads.build_head, PhaseSettings),
        (arcface_logits, PhaseSettings),
        (cosface_logits, PhaseSettings),
    ],
)
def test_defaults_of_functions_equal_those_of_the_settings(function, settings):
    parameters = inspect.signature(function).parameters.values()
    shared = [one for one in parameters if one.default is not one.empty and one.name in settings.model_fields]
    assert shared
    for parameter in shared:
        assert parameter.default == settings.model_fields[parameter.name].default, parameter.name


def test_the_default_power_of_the_whitening_equals_that_of_the_settings():
    default = inspect.signature(fit_whitening).parameters["power"].default
    assert default == SearchSettings.model_fields["whiten_power"].default
