"""GeM against its formula, R-MAC against a naive version and the published grid."""

import math

import pytest
import torch

from pipeline.network.pooling import POOLINGS, GeM, build_pooling, gem, mac, plan_regions, rmac, split_gem, spoc


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


def test_gem_of_a_signed_map_pools_both_parts_and_either_alone_is_gem():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    layer = build_pooling("gem", 2.0, signed=True)
    positive, negative = layer(x).split(3, dim=1)
    torch.testing.assert_close(positive, gem(x.relu(), 2.0))
    torch.testing.assert_close(negative, gem((-x).relu(), 2.0))
    assert layer.count_outputs(3) == 6 and build_pooling("gem", 2.0).count_outputs(3) == 3
    torch.testing.assert_close(split_gem(-x, 2.0), torch.cat([negative, positive], 1))


def test_the_exponent_is_learnt():
    layer = build_pooling("gem", 2.5)
    assert [parameter.item() for parameter in layer.parameters()] == [2.5]


def test_spoc_is_the_mean_and_mac_the_maximum_of_any_sign():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64) - 3.0
    for image in range(2):
        for channel in range(3):
            values = x[image, channel].flatten().tolist()
            assert spoc(x)[image, channel].item() == pytest.approx(sum(values) / 20)
            assert mac(x)[image, channel].item() == max(values)


def naive_rmac(x, levels):
    """Tolias et al. 2016 for one (C, H, W) map, cell by cell; m by trying all."""
    channels, height, width = x.shape
    shorter, longer = min(height, width), max(height, width)
    overlaps = {m: 1 - (longer - shorter) / (m - 1) / shorter for m in range(2, 3 * longer + 2)}
    m = 1 if height == width else min(overlaps, key=lambda count: (abs(overlaps[count] - 0.4), count))
    total = [0.0] * channels
    for level in range(1, levels + 1):
        side = max(1, math.floor(2 * shorter / (level + 1)))
        down = level + m - 1 if height > width else level
        across = level + m - 1 if width > height else level
        for i in range(down):
            for j in range(across):
                top = math.floor(i * (height - side) / max(down - 1, 1))
                left = math.floor(j * (width - side) / max(across - 1, 1))
                cells = [(a, b) for a in range(top, top + side) for b in range(left, left + side)]
                region = [max(x[c, a, b].item() for a, b in cells) for c in range(channels)]
                length = math.sqrt(sum(value**2 for value in region))
                total = [t + value / length for t, value in zip(total, region, strict=True)]
    length = math.sqrt(sum(value**2 for value in total))
    return [value / length for value in total]


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 9), (9, 1), (2, 2), (5, 5), (7, 11), (13, 8), (10, 9)])
def test_rmac_is_the_naive_one_for_maps_of_any_shape_and_sign(shape, levels):
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(2, 4, *shape, generator=generator, dtype=torch.float64)
    for pooled, image in zip(rmac(x, levels), x, strict=True):
        assert pooled.tolist() == pytest.approx(naive_rmac(image, levels), abs=1e-12)


def test_the_grid_has_the_published_counts():
    assert [len(plan_regions(14, 14, levels)) for levels in (1, 2, 3)] == [1, 1 + 4, 1 + 4 + 9]
    assert len(plan_regions(16, 24)) == 1 * 2 + 2 * 3 + 3 * 4
    assert plan_regions(6, 6, 2) == [(0, 0, 6), (0, 0, 4), (0, 2, 4), (2, 0, 4), (2, 2, 4)]
    assert plan_regions(10, 16, 1) == [(0, 0, 10), (0, 6, 10)]  # 4 of 10 columns in common: 40 %
    assert plan_regions(16, 10, 1) == [(0, 0, 10), (6, 0, 10)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 8), (9, 14), (15, 10), (25, 24)])
def test_regions_lie_inside_the_map_and_cover_it(shape):
    covered = torch.zeros(shape, dtype=torch.bool)
    for top, left, side in plan_regions(*shape):
        assert 0 <= top <= shape[0] - side and 0 <= left <= shape[1] - side
        covered[top : top + side, left : left + side] = True
    assert covered.all()


@pytest.mark.parametrize("name", sorted(set(POOLINGS) - {"gem"}))
def test_fixed_pooling_learns_nothing_takes_dead_maps_and_accumulates_in_float32(name):
    layer = build_pooling(name)
    assert not list(layer.parameters())
    assert layer(torch.rand(2, 3, 4, 6).bfloat16()).dtype == torch.float32
    dead = torch.zeros(1, 3, 5, 5, requires_grad=True)
    pooled = layer(dead)
    pooled.sum().backward()
    assert pooled.tolist() == [[0.0, 0.0, 0.0]] and dead.grad.isfinite().all()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="'netvlad' is none of gem, spoc, mac, rmac"):
        build_pooling("netvlad")
