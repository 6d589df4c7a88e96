"""Pooling: a feature map becomes one vector.

By its mean (SPoC), its maximum (MAC), a generalised mean between the two (GeM), or the maxima of many regions (R-MAC).
A new pooling is a function or layer here, its entry in POOLINGS, and its name in pipeline/catalogue.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.network.precision import at_least_float32

REGION_LEVELS = 3  # of R-MAC
REGION_OVERLAP = 0.4  # aim for neighbouring regions of the first level; their number is an integer


class Region(NamedTuple):
    """A square of a feature map: its first row and column, and its side, in cells."""

    top: int
    left: int
    side: int


def gem(x: Tensor, p: Tensor | float = 3.0, eps: float = 1e-6) -> Tensor:
    """Generalised-mean pooling over space (Radenovic et al. 2018, eq. 3).

    x: (B, C, H, W), clamped to at least eps  ->  (B, C) float32 (float64 for float64).
    p = 1 is the average, p -> inf the maximum. Accumulates in float32: x**p overflows half precision.
    Each channel is divided by its maximum before and multiplied by it after, which leaves the formula unchanged:
    otherwise eps**p of a dead channel underflows for p >= 7, and the gradient of the root at 0 is not a number.
    """
    x = at_least_float32(x).clamp(min=eps)
    largest = x.detach().amax(dim=(-2, -1), keepdim=True)
    means = (x / largest).pow(p).mean(dim=(-2, -1))
    return means.pow(1.0 / p) * largest.flatten(1)


def split_gem(x: Tensor, p: Tensor | float = 3.0) -> Tensor:
    """GeM of the positive part of a map beside GeM of its negative part: (B, C, H, W) -> (B, 2 C), precision as gem.

    For maps of either sign, of which gem drops half: both parts count, as in CReLU (Shang et al. 2016), and neither
    cancels the other, as in a mean.
    """
    return torch.cat([gem(x, p), gem(-x, p)], 1)


def spoc(x: Tensor) -> Tensor:
    """The mean over space (Babenko, Lempitsky 2015, without their prior): (B, C, H, W) -> (B, C), precision as gem."""
    return at_least_float32(x).mean(dim=(-2, -1))


def mac(x: Tensor) -> Tensor:
    """The maximum over space (the MAC of Tolias et al. 2016): (B, C, H, W) -> (B, C), precision as gem."""
    return at_least_float32(x).amax(dim=(-2, -1))


def rmac(x: Tensor, levels: int = REGION_LEVELS) -> Tensor:
    """The L2-normalised sum of the L2-normalised maxima of all regions (Tolias et al. 2016).

    (B, C, H, W), of any sign  ->  (B, C), precision as gem. As in the paper, the whole map is a region only if it is
    square; some published code always adds it. The paper whitens the vector of each region by PCA before the sum; here
    a learnt projection follows the layer instead.
    """
    x = at_least_float32(x)
    total = x.new_zeros(x.shape[:2])
    for top, left, side in plan_regions(x.shape[-2], x.shape[-1], levels):
        total = total + F.normalize(mac(x[..., top : top + side, left : left + side]), eps=1e-6)
    return F.normalize(total, eps=1e-6)


def plan_regions(height: int, width: int, levels: int = REGION_LEVELS) -> list[Region]:
    """The square regions of R-MAC on a map of height x width cells, level by level, row by row.

    Level l has l regions along the shorter side and l + m - 1 along the longer side, evenly spaced (rounded down to
    whole cells). Their side is 2 * shorter / (l + 1), rounded down, at least one cell. For a square map m is 1, so that
    three levels have 1 + 4 + 9 regions; otherwise m > 1 brings the overlap of neighbours at level 1 closest to 40 %.
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
    """The starts of `count` pieces of length `side`, evenly spaced from the start to the end of `length`."""
    return [at * (length - side) // max(count - 1, 1) for at in range(count)]


class Pooling(nn.Module):
    """A layer that makes one vector of a map: (B, C, H, W) -> (B, count_outputs(C)) float32."""

    def count_outputs(self, channels: int) -> int:
        """The length of the vector of a map with so many channels."""
        return channels


class GeM(Pooling):
    """GeM with one learnable exponent for all channels; of signed maps, of both parts of each channel."""

    def __init__(self, power: float = 3.0, signed: bool = False):
        super().__init__()
        self.power, self.signed = nn.Parameter(torch.tensor(float(power))), signed

    def count_outputs(self, channels: int) -> int:
        """Twice as many for the two parts of a signed map."""
        return 2 * channels if self.signed else channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W)  ->  (B, C) float32, or (B, 2 C)."""
        return split_gem(x, self.power) if self.signed else gem(x, self.power)


class FixedPooling(Pooling):
    """Pooling by a function without parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W)  ->  (B, C) float32."""
        return self.function(x)


POOLINGS: dict[str, Callable[[float, bool], Pooling]] = {  # name -> layer; given: gem's first exponent, if signed
    "gem": GeM,
    "spoc": lambda *_: FixedPooling(spoc),
    "mac": lambda *_: FixedPooling(mac),
    "rmac": lambda *_: FixedPooling(rmac),
}


def build_pooling(name: str = "gem", gem_power: float = 3.0, signed: bool = False) -> Pooling:
    """The layer of this name. Raises ValueError for an unknown one.

    gem_power: the initial exponent of gem. signed: whether the maps have as strong negative values as positive ones.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling {name!r} is none of {', '.join(POOLINGS)}")
    return POOLINGS[name](gem_power, signed)
