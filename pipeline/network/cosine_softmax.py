"""Softmax over cosines: the margins of ArcFace and CosFace, margins by landmark, and AdaCos's scale.

All are functions of plain (B, C) cosines; the weights that the cosines come from are in heads.py. What a margin does:
an image has to be nearer to its own landmark than to the others by that much, before the loss is content.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SIN_SQUARED_MIN = 1e-6  # below it the sine's derivative would go to infinity (cosine = +-1)


def arcface_logits(cosines: Tensor, targets: Tensor, margin: float | Tensor = 0.3, scale: float = 30.0) -> Tensor:
    """scale * cos(theta + margin) at the target, scale * cos(theta) elsewhere (Deng et al. 2019, eq. 3).

    cosines (B, C), targets (B,) int64, margin in radians, one for all or (B,), each row's own
    ->  (B, C) float32 (float64 for float64) logits.
    Beyond theta = pi - margin, where cos(theta + margin) would rise again, cos(theta) - margin * sin(margin) goes on
    downwards ("easy margin off" of the published code). Gradients are finite on all of [-1, 1].
    """
    cosines = _at_least_float32(cosines)
    margins = _each_row(margin, cosines)
    cos_margin, sin_margin = margins.cos().to(cosines.dtype), margins.sin().to(cosines.dtype)
    cos = cosines.gather(1, targets[:, None])
    sin = (1.0 - cos * cos).clamp(min=SIN_SQUARED_MIN).sqrt()
    shifted = cos * cos_margin - sin * sin_margin
    beyond = cos - (margins * margins.sin()).to(cosines.dtype)
    at_target = torch.where(cos >= -cos_margin, shifted, beyond)
    return scale * cosines.scatter(1, targets[:, None], at_target)


def cosface_logits(cosines: Tensor, targets: Tensor, margin: float | Tensor = 0.3, scale: float = 30.0) -> Tensor:
    """scale * (cos(theta) - margin) at the target, scale * cos(theta) elsewhere (Wang et al. 2018, eq. 4).

    cosines (B, C), targets (B,) int64, margin a cosine, one for all or (B,), each row's own
    ->  (B, C) float32 (float64 for float64) logits.
    """
    cosines = _at_least_float32(cosines)
    at_target = cosines.gather(1, targets[:, None]) - _each_row(margin, cosines).to(cosines.dtype)
    return scale * cosines.scatter(1, targets[:, None], at_target)


MARGINS: dict[str, Callable[[Tensor, Tensor, float | Tensor, float], Tensor]] = {
    "arcface": arcface_logits,
    "cosface": cosface_logits,
    "subcenter_arcface": arcface_logits,
}


def dynamic_margins(counts: Tensor, smallest: float, largest: float) -> Tensor:
    """(C,) float32 margins by the number of photographs (C,) of each landmark, the largest for the rarest.

    With t = n^(-1/4): smallest + (largest - smallest) * (t - min t) / (max t - min t), as in the third place of Google
    Landmark Recognition 2020. Where all landmarks have as many, none is rare to the formula, and all get the largest:
    the setting that would hold without it. Raises ValueError for a count below 1.
    """
    if len(counts) and int(counts.min()) < 1:
        raise ValueError(f"a landmark of {int(counts.min())} photographs has no margin")
    rarity = counts.double() ** -0.25
    low, high = (rarity.min(), rarity.max()) if len(counts) else (0.0, 0.0)
    share = (rarity - low) / (high - low) if high > low else torch.ones_like(rarity)
    return (smallest + (largest - smallest) * share).float()


def adacos_start(classes: int) -> float:
    """sqrt(2) * ln(C - 1), the fixed scale of AdaCos (Zhang et al. 2019), from which the dynamic one starts.

    It is 0 for two classes and has no value for one: there the formula gets the three classes it needs at least.
    """
    return math.sqrt(2.0) * math.log(max(classes, 3) - 1)


@torch.no_grad()
def adacos_scale(cosines: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """The scale that follows `scale`, without gradients (Zhang et al. 2019): a tensor of no dimension.

    ln(B) / cos(min(pi/4, theta)): B is the mean over the batch of the other classes' sum of exp(scale * cosine), theta
    the median angle to the targets (of an even batch, the smaller of the two in the middle).
    Below three classes, in an empty batch, and where ln(B) is not above 0 and would turn the loss round, the scale
    stays as it is.
    """
    if cosines.shape[1] < 3 or not len(cosines):
        return scale
    cosines = _at_least_float32(cosines)
    others = (scale * cosines).scatter(1, targets[:, None], -torch.inf)
    log_mean = others.logsumexp(dim=(0, 1)) - math.log(len(cosines))  # by logarithms: exp would overflow from 88 on
    angle = cosines.gather(1, targets[:, None]).clamp(-1.0, 1.0).acos().median().clamp(max=math.pi / 4)
    following = (log_mean / angle.cos()).to(scale.dtype)
    return torch.where(following > 0.0, following, scale)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _each_row(margin: float | Tensor, cosines: Tensor) -> Tensor:
    """(B, 1) float64, where a sine costs no accuracy and, for B numbers, no time."""
    return torch.as_tensor(margin, dtype=torch.float64, device=cosines.device).expand(len(cosines))[:, None]
