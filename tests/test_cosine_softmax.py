"""Margins and scales against the papers' formulas, and at the edges of the cosine."""

import math
import statistics

import pytest
import torch
from torch.nn import functional as F

from pipeline.network.cosine_softmax import (
    adacos_scale,
    adacos_start,
    arcface_logits,
    cosface_logits,
    dynamic_margins,
)

B, C = 9, 7


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


@pytest.mark.parametrize("logits_of", [arcface_logits, cosface_logits])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_the_cosine_is_one_or_minus_one(logits_of, dtype):
    cosines = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([0, 0, 1])
    F.cross_entropy(logits_of(cosines, targets, 0.3, 30.0), targets).backward()
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("logits_of", [arcface_logits, cosface_logits])
def test_gradients_equal_finite_differences(logits_of):
    cosines, targets = random_cosines()
    cosines.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: logits_of(x, targets, 0.3, 30.0), cosines)


def test_arcface_falls_with_the_angle_over_all_of_the_circle():
    cosines = torch.linspace(1.0, -1.0, 2001, dtype=torch.float64)[:, None]
    logits = arcface_logits(cosines, torch.zeros(2001, dtype=torch.int64), 0.3, 1.0)
    assert (logits.diff(dim=0) < 0).all()


@pytest.mark.parametrize("logits_of", [arcface_logits, cosface_logits])
def test_a_margin_for_each_row_is_as_rows_one_by_one(logits_of):
    cosines, targets = random_cosines()
    margins = torch.linspace(0.0, 1.4, B)
    together = logits_of(cosines, targets, margins, 30.0)
    for row in range(B):
        one = logits_of(cosines[row : row + 1], targets[row : row + 1], margins[row].item(), 30.0)
        torch.testing.assert_close(together[row : row + 1], one)
    cosines.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: logits_of(x, targets, margins, 30.0), cosines)


@pytest.mark.parametrize("logits_of", [arcface_logits, cosface_logits])
def test_half_precision_is_computed_in_float32(logits_of):
    logits = logits_of(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1]), 0.3, 30.0)
    assert logits.dtype == torch.float32


def test_the_given_cosines_are_not_changed():
    cosines, targets = random_cosines()
    before = cosines.clone()
    arcface_logits(cosines, targets)
    cosface_logits(cosines, targets)
    adacos_scale(cosines, targets, torch.tensor(5.0))
    assert torch.equal(cosines, before)


def test_an_empty_batch_works():
    targets = torch.zeros(0, dtype=torch.int64)
    assert arcface_logits(torch.zeros(0, 3), targets).shape == (0, 3)
    assert cosface_logits(torch.zeros(0, 3), targets, torch.zeros(0)).shape == (0, 3)
    assert adacos_scale(torch.zeros(0, 3), targets, torch.tensor(5.0)).item() == 5.0


def test_margins_fall_with_the_fourth_root_of_the_photographs():
    # n^(-1/4) of 1, 16, 81, 256 photographs: 1, 1/2, 1/3, 1/4; so the shares (t - 1/4) / (3/4): 1, 1/3, 1/9, 0
    margins = dynamic_margins(torch.tensor([16, 1, 256, 81]), smallest=0.05, largest=0.5)
    assert margins.dtype == torch.float32
    assert margins.tolist() == pytest.approx([0.05 + 0.45 / 3, 0.5, 0.05, 0.05 + 0.45 / 9])


def test_landmarks_of_one_size_get_the_largest_margin():
    for counts in ([7, 7, 7], [1], []):
        margins = dynamic_margins(torch.tensor(counts, dtype=torch.int64), 0.1, 0.4)
        assert margins.tolist() == pytest.approx([0.4] * len(counts))
    with pytest.raises(ValueError, match="a landmark with 0 photographs"):
        dynamic_margins(torch.tensor([3, 0]), 0.1, 0.4)


def next_scale(cosines, targets, scale):
    """AdaCos's formula, a number at a time."""
    sums = [
        sum(math.exp(scale * cosine) for column, cosine in enumerate(row) if column != target)
        for row, target in zip(cosines.tolist(), targets.tolist(), strict=True)
    ]
    angles = [math.acos(row[target]) for row, target in zip(cosines.tolist(), targets.tolist(), strict=True)]
    return math.log(statistics.mean(sums)) / math.cos(min(math.pi / 4, statistics.median_low(angles)))


@pytest.mark.parametrize("rows", [1, 4, 9])
def test_adacos_is_the_papers_formula_over_several_steps(rows):
    generator = torch.Generator().manual_seed(rows)
    ours = torch.tensor(adacos_start(C), dtype=torch.float64)
    naive = math.sqrt(2) * math.log(C - 1)
    assert ours.item() == pytest.approx(naive)
    for step in range(6):
        targets = torch.randint(0, C, (rows,), generator=generator)
        cosines = torch.rand(rows, C, generator=generator, dtype=torch.float64) * 0.8 - 0.4
        cosines[torch.arange(rows), targets] += 0.1 * step  # angles on both sides of pi / 4
        ours, naive = adacos_scale(cosines, targets, ours), next_scale(cosines, targets, naive)
        assert ours.item() == pytest.approx(naive, rel=1e-12)


def test_adacos_has_no_gradient_and_no_overflow():
    cosines = torch.full((2, 5), 0.99, requires_grad=True)
    following = adacos_scale(cosines, torch.tensor([0, 1]), torch.tensor(200.0))
    assert not following.requires_grad
    assert following.item() == pytest.approx((math.log(4) + 198.0) / 0.99, rel=1e-4)


@pytest.mark.parametrize("classes", [1, 2])
def test_adacos_of_fewer_than_three_classes_keeps_a_scale_above_zero(classes):
    scale = torch.tensor(adacos_start(classes))
    assert scale.item() == pytest.approx(math.sqrt(2) * math.log(2))
    assert adacos_scale(torch.zeros(3, classes), torch.zeros(3, dtype=torch.int64), scale) is scale


def test_an_adacos_scale_that_would_turn_the_loss_round_is_not_taken():
    cosines = torch.tensor([[1.0, -1.0, -1.0]])  # ln(2 e^-3) is negative
    assert adacos_scale(cosines, torch.tensor([0]), torch.tensor(3.0)).item() == 3.0
