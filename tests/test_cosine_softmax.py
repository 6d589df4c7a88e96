"""Margins against the papers' formulas, against another library, and at the edges of the cosine."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from torch.nn import functional as F

from pipeline.network.cosine_softmax import MARGINS, CosineSoftmax, arcface_logits, cosface_logits

B, C, D = 9, 7, 5


def random_cosines(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(B, C, generator=generator, dtype=dtype) * 1.98 - 0.99
    return cosines, torch.randint(0, C, (B,), generator=generator)


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.8])
def test_arcface_is_the_papers_formula_in_float64(margin):
    cosines, targets = random_cosines()
    logits = arcface_logits(cosines, targets, margin, 30.0)
    for row in range(B):
        for column in range(C):
            theta = math.acos(cosines[row, column].item())
            expected = math.cos(theta)
            if column == targets[row]:
                beyond = theta > math.pi - margin
                expected = expected - margin * math.sin(margin) if beyond else math.cos(theta + margin)
            assert logits[row, column].item() == pytest.approx(30.0 * expected, abs=1e-9)


def test_cosface_subtracts_the_margin_from_the_target_alone():
    cosines, targets = random_cosines()
    expected = cosines.clone()
    expected[torch.arange(B), targets] -= 0.35
    torch.testing.assert_close(cosface_logits(cosines, targets, 0.35, 30.0), 30.0 * expected)


@pytest.mark.parametrize("kind", MARGINS)
def test_the_loss_equals_that_of_pytorch_metric_learning(kind):
    torch.manual_seed(0)
    head = CosineSoftmax(D, C, kind, margin=0.3, scale=30.0)
    descriptors, targets = torch.randn(B, D), torch.randint(0, C, (B,))
    theirs = (
        ArcFaceLoss(C, D, margin=math.degrees(0.3), scale=30.0)
        if kind == "arcface"
        else CosFaceLoss(C, D, margin=0.3, scale=30.0)
    )
    theirs.W.data = head.weight.data.T.clone()
    ours = F.cross_entropy(head(descriptors, targets), targets)
    assert ours.item() == pytest.approx(theirs(descriptors, targets).item(), rel=1e-5)


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_the_cosine_is_one_or_minus_one(kind, dtype):
    cosines = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([0, 0, 1])
    F.cross_entropy(MARGINS[kind](cosines, targets, 0.3, 30.0), targets).backward()
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("kind", MARGINS)
def test_gradients_equal_finite_differences(kind):
    cosines, targets = random_cosines()
    cosines.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: MARGINS[kind](x, targets, 0.3, 30.0), cosines)


def test_arcface_falls_with_the_angle_over_all_of_the_circle():
    cosines = torch.linspace(1.0, -1.0, 2001, dtype=torch.float64)[:, None]
    logits = arcface_logits(cosines, torch.zeros(2001, dtype=torch.int64), 0.3, 1.0)
    assert (logits.diff(dim=0) < 0).all()


@pytest.mark.parametrize("kind", MARGINS)
def test_margins_are_float32_inside_autocast_and_for_half_precision(kind):
    head = CosineSoftmax(D, C, kind)
    descriptors, targets = torch.randn(B, D), torch.randint(0, C, (B,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(descriptors, targets)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, head(descriptors, targets))
    assert (
        MARGINS[kind](torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1]), 0.3, 30.0).dtype == torch.float32
    )


def test_without_targets_there_is_no_margin():
    head = CosineSoftmax(D, C, scale=30.0)
    descriptors = torch.randn(B, D)
    torch.testing.assert_close(head(descriptors), 30.0 * F.normalize(descriptors) @ F.normalize(head.weight).T)


def test_the_given_cosines_are_not_changed():
    cosines, targets = random_cosines()
    before = cosines.clone()
    arcface_logits(cosines, targets)
    cosface_logits(cosines, targets)
    assert torch.equal(cosines, before)


def test_one_class_and_an_empty_batch_work():
    assert arcface_logits(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    targets = torch.zeros(2, dtype=torch.int64)
    assert F.cross_entropy(CosineSoftmax(D, 1)(torch.randn(2, D), targets), targets).item() == 0.0


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="'sphereface' is none of arcface, cosface"):
        CosineSoftmax(D, C, "sphereface")
