"""Pooling: a feature map becomes one vector.

By its mean (SPoC), its maximum (MAC), what lies between the two (GeM), or the maxima of many regions (R-MAC).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REGION_LEVELS = 3  # of R-MAC
REGION_OVERLAP = 0.4  # of neighbouring regions of the first level, as nearly as whole numbers of them allow


class Region(NamedTuple):
    """A square of a feature map: its first row and column, and its side, in cells."""

    top: int
    left: int
    side: int


def gem(x: Tensor, p: Tensor | float = 3.0, eps: float = 1e-6) -> Tensor:
    """Generalised-mean pooling over space (Radenovic et al. 2018, eq. 3).

    x: (B, C, H, W), clamped to at least eps  ->  (B, C) float32 (float64 for float64).
    p = 1 is the average, p -> inf the maximum. Accumulates in float32: x**p overflows half precision.
    Each channel is divided by its maximum first and multiplied by it afterwards, which the formula allows: else eps**p
    of a channel that is dead underflows from p = 7 on, and the root's gradient at 0 is not a number.
    """
    x = _at_least_float32(x).clamp(min=eps)
    largest = x.detach().amax(dim=(-2, -1), keepdim=True)
    means = (x / largest).pow(p).mean(dim=(-2, -1))
    return means.pow(1.0 / p) * largest.flatten(1)


def spoc(x: Tensor) -> Tensor:
    """The mean over space (Babenko, Lempitsky 2015, without their prior): (B, C, H, W) -> (B, C), precision as gem."""
    return _at_least_float32(x).mean(dim=(-2, -1))


def mac(x: Tensor) -> Tensor:
    """The maximum over space (the MAC of Tolias et al. 2016): (B, C, H, W) -> (B, C), precision as gem."""
    return _at_least_float32(x).amax(dim=(-2, -1))


def rmac(x: Tensor, levels: int = REGION_LEVELS) -> Tensor:
    """The sum of the regions' maxima, each of length 1, brought to length 1 itself (Tolias et al. 2016).

    (B, C, H, W), of any sign  ->  (B, C), precision as gem. As in the paper, the whole map is a region only where it is
    a square; some published code adds it once more. The paper whitens each region's vector by PCA before the sum; here
    a learnt projection follows the layer instead.
    """
    x = _at_least_float32(x)
    total = x.new_zeros(x.shape[:2])
    for top, left, side in plan_regions(x.shape[-2], x.shape[-1], levels):
        total = total + F.normalize(mac(x[..., top : top + side, left : left + side]), eps=1e-6)
    return F.normalize(total, eps=1e-6)


def plan_regions(height: int, width: int, levels: int = REGION_LEVELS) -> list[Region]:
    """R-MAC's squares on a map of height x width cells, level by level, left to right and from the top.

    At level l there are l along the shorter side and l + m - 1 along the longer one, evenly spread (to the cell below),
    of side 2 * shorter / (l + 1), rounded down, and of one cell at least. m is 1 for a square map, so that three levels
    have 1 + 4 + 9 regions; else it is the number above 1 with which neighbours at level 1 overlap by nearest to 40 %.
    """
    shorter = min(height, width)
    extra = _count_along_longer(shorter, max(height, width)) - 1
    regions = []
    for level in range(1, levels + 1):
        side = max(1, 2 * shorter // (level + 1))
        tops = _spread(height, side, level + extra * (height > width))
        lefts = _spread(width, side, level + extra * (width > height))
        regions += [Region(top, left, side) for top in tops for left in lefts]
    return regions


def _count_along_longer(shorter: int, longer: int) -> int:
    if longer == shorter:
        return 1
    exact = 1.0 + (longer - shorter) / ((1.0 - REGION_OVERLAP) * shorter)
    candidates = {max(2, math.floor(exact)), max(2, math.ceil(exact))}

    def distance(count: int) -> float:
        return abs(1.0 - (longer - shorter) / ((count - 1) * shorter) - REGION_OVERLAP)

    return min(sorted(candidates), key=distance)


def _spread(length: int, side: int, count: int) -> list[int]:
    """Where `count` pieces of `side` start so that they cover `length`, the first at 0 and the last at the end."""
    return [at * (length - side) // max(count - 1, 1) for at in range(count)]


class GeM(nn.Module):
    """GeM with one exponent for all channels, learnt with the rest."""

    def __init__(self, power: float = 3.0):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(float(power)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W)  ->  (B, C) float32."""
        return gem(x, self.power)


class FixedPooling(nn.Module):
    """Pooling that has nothing to learn."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W)  ->  (B, C) float32."""
        return FIXED[self.name](x)


FIXED: dict[str, Callable[[Tensor], Tensor]] = {"spoc": spoc, "mac": mac, "rmac": rmac}


def build_pooling(name: str, gem_power: float = 3.0) -> nn.Module:
    """The layer for gem, spoc, mac or rmac; gem_power is where gem's exponent starts. ValueError for another name."""
    if name == "gem":
        return GeM(gem_power)
    if name not in FIXED:
        raise ValueError(f"pooling {name!r} is none of gem, {', '.join(FIXED)}")
    return FixedPooling(name)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
