"""GeM against its formula."""

import pytest
import torch

from pipeline.network.pooling import POOLING, GeM, gem


def test_gem_is_the_formula():
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    expected = torch.stack([torch.stack([(m.flatten() ** 3).sum() / 20 for m in image]) for image in x]) ** (1 / 3)
    torch.testing.assert_close(gem(x, 3.0), expected)


def test_power_one_is_the_average_and_a_large_power_nears_the_maximum():
    x = torch.rand(2, 3, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(gem(x, 1.0), x.mean(dim=(-2, -1)))
    torch.testing.assert_close(gem(x, 500.0), x.amax(dim=(-2, -1)), rtol=0.01, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accumulated_in_float32(dtype):
    x = torch.full((1, 1, 8, 8), 60.0, dtype=dtype)  # 60^3 is beyond float16
    assert gem(x, 3.0).dtype == torch.float32
    torch.testing.assert_close(gem(x, 3.0), torch.full((1, 1), 60.0))


@pytest.mark.parametrize("power", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("value", [0.0, 1e4])
def test_dead_and_huge_channels_have_finite_values_and_gradients_at_any_power(power, value):
    x = torch.full((1, 2, 3, 3), value)
    x[:, 1, 0, 0] = 0.5
    x.requires_grad_()
    layer = GeM(power)
    pooled = layer(x)
    pooled.sum().backward()
    assert pooled.isfinite().all() and x.grad.isfinite().all() and layer.power.grad.isfinite().all()


def test_gradients_equal_finite_differences():
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    p = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gem, (x, p))


def test_the_exponent_is_learnt():
    layer = POOLING["gem"](2.5)
    assert [parameter.item() for parameter in layer.parameters()] == [2.5]
