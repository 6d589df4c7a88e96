"""Softmax over cosines: the margins of ArcFace and CosFace, margins per class, and the scale of AdaCos.

All are functions of plain (B, C) cosines; the weights that the cosines come from are in heads.py. A margin demands that
an image is nearer to its own landmark than to any other by that much.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.network.precision import at_least_float32

SIN_SQUARED_MIN = 1e-6  # near cosine = +-1 the derivative of the sine goes to infinity


def arcface_logits(cosines: Tensor, targets: Tensor, margin: float | Tensor = 0.3, scale: float = 30.0) -> Tensor:
    """scale * cos(theta + margin) at the target, scale * cos(theta) elsewhere (Deng et al. 2019, eq. 3).

    cosines (B, C), targets (B,) int64, margin in radians, one for all or (B,), one per row
    ->  (B, C) float32 (float64 for float64) logits.
    Beyond theta = pi - margin, where cos(theta + margin) would rise again, the logit is that of
    cos(theta) - margin * sin(margin), which keeps falling ("easy margin off" in the published code). Gradients are
    finite on all of [-1, 1].
    """
    cosines = at_least_float32(cosines)
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

    cosines (B, C), targets (B,) int64, margin a cosine, one for all or (B,), one per row
    ->  (B, C) float32 (float64 for float64) logits.
    """
    cosines = at_least_float32(cosines)
    at_target = cosines.gather(1, targets[:, None]) - _each_row(margin, cosines).to(cosines.dtype)
    return scale * cosines.scatter(1, targets[:, None], at_target)


def dynamic_margins(counts: Tensor, smallest: float, largest: float) -> Tensor:
    """(C,) float32 margins from the number of images (C,) of each landmark, the largest for the rarest landmark.

    With t = n^(-1/4): smallest + (largest - smallest) * (t - min t) / (max t - min t), as in the third place of Google
    Landmark Recognition 2020. Where all landmarks have the same number, all get the largest margin, which is the
    margin without this formula. Raises ValueError for a count below 1.
    """
    if len(counts) and int(counts.min()) < 1:
        raise ValueError(f"a landmark with {int(counts.min())} photographs has no margin")
    rarity = counts.double() ** -0.25
    low, high = (rarity.min(), rarity.max()) if len(counts) else (0.0, 0.0)
    share = (rarity - low) / (high - low) if high > low else torch.ones_like(rarity)
    return (smallest + (largest - smallest) * share).float()


def adacos_start(classes: int) -> float:
    """sqrt(2) * ln(C - 1), the fixed scale of AdaCos (Zhang et al. 2019), from which the dynamic scale starts.

    It would be 0 for two classes and is undefined for one: these get the value for three.
    """
    return math.sqrt(2.0) * math.log(max(classes, 3) - 1)


def adacos_scale(cosines: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """The next scale after `scale`, without gradients (Zhang et al. 2019): a tensor without dimensions.

    ln(B) / cos(min(pi/4, theta)): B is the mean over the batch of the sum over the other classes of
    exp(scale * cosine), theta the median angle to the targets (the lower median of an even batch).
    The scale does not change with fewer than three classes, for an empty batch, and where ln(B) is not positive, which
    would reverse the loss.
    """
    return adacos_scale_of_rows(adacos_rows(cosines, targets, scale), scale) if cosines.shape[1] > 2 else scale


@torch.no_grad()
def adacos_rows(cosines: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """What the scale of AdaCos needs of every image, (B, 2) float32 or more, of (B, C) cosines, targets (B,).

    The logarithm of the sum over the other classes of exp(scale * cosine), and the cosine to the target.
    """
    cosines = at_least_float32(cosines)
    others = (scale * cosines).scatter(1, targets[:, None], -torch.inf)
    return torch.cat([others.logsumexp(1, keepdim=True), cosines.gather(1, targets[:, None])], dim=1)


@torch.no_grad()
def adacos_scale_of_rows(rows: Tensor, scale: Tensor) -> Tensor:
    """The next scale of AdaCos by the `adacos_rows` (B, 2) of a batch, which several ranks may have computed."""
    if not len(rows):
        return scale
    log_sums, at_target = rows.unbind(1)
    log_mean = log_sums.logsumexp(0) - math.log(len(rows))  # in logarithms: exp overflows above 88
    angle = at_target.clamp(-1.0, 1.0).acos().median().clamp(max=math.pi / 4)
    following = (log_mean / angle.cos()).to(scale.dtype)
    return torch.where(following > 0.0, following, scale)


def _each_row(margin: float | Tensor, cosines: Tensor) -> Tensor:
    """The margin of each row, (B, 1) float64: exact sines, and for B numbers the cost is negligible."""
    if isinstance(margin, Tensor):
        return margin.double().expand(len(cosines))[:, None]
    return cosines.new_full((len(cosines), 1), margin, dtype=torch.float64)  # filled there: a copy would be waited for
