"""Softmax over cosines with a margin: ArcFace and CosFace, as functions on plain cosines and as a head.

Both take (B, C) cosines, change the one entry of each row that is the target, and scale. What the margin does: an image
has to be nearer to its own landmark than to the others by that much, before the loss is content.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIN_SQUARED_MIN = 1e-6  # below it the sine's derivative would go to infinity (cosine = +-1)


def arcface_logits(cosines: Tensor, targets: Tensor, margin: float = 0.3, scale: float = 30.0) -> Tensor:
    """scale * cos(theta + margin) at the target, scale * cos(theta) elsewhere (Deng et al. 2019, eq. 3).

    cosines (B, C), targets (B,) int64, margin in radians  ->  (B, C) float32 (float64 for float64) logits.
    Beyond theta = pi - margin, where cos(theta + margin) would rise again, cos(theta) - margin * sin(margin) goes on
    downwards ("easy margin off" of the published code). Gradients are finite on all of [-1, 1].
    """
    cosines = _at_least_float32(cosines)
    cos = cosines.gather(1, targets[:, None])
    sin = (1.0 - cos * cos).clamp(min=SIN_SQUARED_MIN).sqrt()
    shifted = cos * math.cos(margin) - sin * math.sin(margin)
    beyond = cos - margin * math.sin(margin)
    at_target = torch.where(cos >= math.cos(math.pi - margin), shifted, beyond)
    return scale * cosines.scatter(1, targets[:, None], at_target)


def cosface_logits(cosines: Tensor, targets: Tensor, margin: float = 0.3, scale: float = 30.0) -> Tensor:
    """scale * (cos(theta) - margin) at the target, scale * cos(theta) elsewhere (Wang et al. 2018, eq. 4).

    cosines (B, C), targets (B,) int64, margin a cosine  ->  (B, C) float32 (float64 for float64) logits.
    """
    cosines = _at_least_float32(cosines)
    at_target = cosines.gather(1, targets[:, None]) - margin
    return scale * cosines.scatter(1, targets[:, None], at_target)


MARGINS: dict[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "arcface": arcface_logits,
    "cosface": cosface_logits,
}


class CosineSoftmax(nn.Module):
    """A direction for each of C classes; an image's logits are its cosines to them, the target's with a margin."""

    def __init__(self, dims: int, classes: int, kind: str = "arcface", margin: float = 0.3, scale: float = 30.0):
        super().__init__()
        if kind not in MARGINS:
            raise ValueError(f"head {kind!r} is none of {', '.join(MARGINS)}")
        self.kind, self.margin, self.scale = kind, margin, scale
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(classes, dims)))

    def cosines(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors of any length  ->  (B, C) float32 cosines, in float32 inside autocast too."""
        with torch.autocast(descriptors.device.type, enabled=False):
            return F.normalize(descriptors.float()) @ F.normalize(self.weight.float()).T

    def forward(self, descriptors: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, C) float32 logits: with the margin at the targets (B,), without any where none are given."""
        return self.logits(self.cosines(descriptors), targets)

    def logits(self, cosines: Tensor, targets: Tensor | None = None) -> Tensor:
        """The logits of given cosines, for a caller that wants both."""
        if targets is None:
            return self.scale * cosines
        return MARGINS[self.kind](cosines, targets, self.margin, self.scale)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
