"""The names that settings offer are what the modules implement, with the traits that the catalogue states."""

import pytest
import torch

from pipeline import catalogue
from pipeline.images import augment
from pipeline.network import heads, pooling


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
