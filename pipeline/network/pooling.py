"""Pooling: a feature map becomes one vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def gem(x: Tensor, p: Tensor | float = 3.0, eps: float = 1e-6) -> Tensor:
    """Generalised-mean pooling over space (Radenovic et al. 2018, eq. 3).

    x: (B, C, H, W), clamped to at least eps  ->  (B, C) float32 (float64 for float64).
    p = 1 is the average, p -> inf the maximum. Accumulates in float32: x**p overflows half precision.
    Each channel is divided by its maximum first and multiplied by it afterwards, which the formula allows: else eps**p
    of a channel that is dead underflows from p = 7 on, and the root's gradient at 0 is not a number.
    """
    x = (x if x.dtype == torch.float64 else x.float()).clamp(min=eps)
    largest = x.detach().amax(dim=(-2, -1), keepdim=True)
    means = (x / largest).pow(p).mean(dim=(-2, -1))
    return means.pow(1.0 / p) * largest.flatten(1)


class GeM(nn.Module):
    """GeM with one exponent for all channels, learnt with the rest."""

    def __init__(self, power: float = 3.0):
        super().__init__()
        self.power = nn.Parameter(torch.tensor(float(power)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W)  ->  (B, C) float32."""
        return gem(x, self.power)


POOLING: dict[str, Callable[[float], nn.Module]] = {"gem": GeM}
