"""Heads: what a network learns by. Each keeps weights for C landmarks and makes (B, C) logits of descriptors.

    arcface, cosface    cosines to a direction a landmark, the target's less a margin
    subcenter_arcface   the same with several directions a landmark, the nearest of which counts (Deng et al. 2020)
    adacos              cosines without margin, by a scale that follows the training (Zhang et al. 2019)
    softmax             inner products with descriptors of any length plus a bias: the baseline

Training asks for `scores`, which are greatest at the landmark that the head sees, and for the `logits` of these scores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.catalogue import HEADS
from pipeline.network.cosine_softmax import MARGINS, adacos_scale, adacos_start

KINDS = tuple(HEADS)


class Head(nn.Module):
    """Weights (C, D), one vector a landmark, or (C, K, D), K sub-centres a landmark. All arithmetic is in float32."""

    def __init__(self, kind: str, dims: int, classes: int, sub_centres: int = 1):
        super().__init__()
        self.kind, self.dims, self.classes, self.sub_centres = kind, dims, classes, sub_centres
        rows = nn.init.xavier_normal_(torch.empty(classes * sub_centres, dims))
        self.weight = nn.Parameter(rows if sub_centres == 1 else rows.view(classes, sub_centres, dims))

    @property
    def settings(self) -> dict[str, Any]:
        """What `build_head` needs to make this head again, beside its sizes; its tensors are in its state."""
        return {"kind": self.kind}

    def class_cosines(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors of any length  ->  (B, C) cosines, of several sub-centres to the nearest."""
        with torch.autocast(descriptors.device.type, enabled=False):
            directions = F.normalize(self.weight.float(), dim=-1).view(-1, self.dims)
            cosines = F.normalize(descriptors.float()) @ directions.T
            if self.sub_centres == 1:
                return cosines
            return cosines.view(-1, self.classes, self.sub_centres).amax(dim=2)

    def scores(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors  ->  (B, C) float32, in float32 inside autocast too."""
        return self.class_cosines(descriptors)

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, C) float32 logits of given scores: as training sees them with targets (B,), without margin else."""
        raise NotImplementedError

    def forward(self, descriptors: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, D) descriptors  ->  (B, C) float32 logits."""
        return self.logits(self.scores(descriptors), targets)

    @torch.no_grad()
    def take_over(self, classes: Tensor, other: Head, other_classes: Tensor) -> None:
        """Let `classes` (N,) start from what another head, of any kind, learnt of its `other_classes` (N,).

        With as many sub-centres they are copied. Of more than fit, the longest are: each step is at right angles to a
        direction and lengthens it, so that one which photographs chose outgrows one which none did. Of fewer, those
        come first and the rest stays as drawn: copies of one direction would get equal gradients and stay copies,
        whereas a drawn one is there for the photographs that look nothing like what was learnt.
        """
        known = other._centres()[other_classes].to(self.weight)
        kept = min(self.sub_centres, other.sub_centres)
        longest = known.norm(dim=2).topk(kept, dim=1).indices.sort(dim=1).values
        self._centres()[classes, :kept] = known.gather(1, longest[:, :, None].expand(-1, -1, self.dims))

    def _centres(self) -> Tensor:
        """(C, K, D), a view of the weights."""
        return self.weight.view(self.classes, self.sub_centres, self.dims)


class CosineSoftmax(Head):
    """Logits are cosines times a scale, the target's with a margin."""

    margin: float | Tensor  # (C,) float32, in the head's state, when every landmark has its own

    def __init__(self, kind: str, dims: int, classes: int, margin: float | Tensor, scale: float, sub_centres: int = 1):
        super().__init__(kind, dims, classes, sub_centres)
        self.scale = scale
        if isinstance(margin, Tensor):
            if margin.shape != (classes,):
                raise ValueError(f"margins of shape {tuple(margin.shape)} for {classes} classes")
            self.register_buffer("margin", margin)
        else:
            self.margin = margin

    @property
    def settings(self) -> dict[str, Any]:
        """As of every head. margin None: the landmarks' own are in the state."""
        margin = None if isinstance(self.margin, Tensor) else self.margin
        return {"kind": self.kind, "margin": margin, "scale": self.scale, "sub_centres": self.sub_centres}

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """Cosines times scale, with the margin at the targets."""
        if targets is None:
            return self.scale * scores
        margin = self.margin[targets] if isinstance(self.margin, Tensor) else self.margin
        return MARGINS[self.kind](scores, targets, margin, self.scale)


class AdaCos(Head):
    """Logits are cosines times a scale that every step of training sets anew; the scale is in the head's state."""

    scale: Tensor

    def __init__(self, dims: int, classes: int):
        super().__init__("adacos", dims, classes)
        self.register_buffer("scale", torch.tensor(adacos_start(classes)))

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """Cosines times scale. In training mode, with targets, the scale moves first, as BatchNorm's statistics do."""
        if self.training and targets is not None:
            self.scale = adacos_scale(scores, targets, self.scale)
        return self.scale * scores


class PlainSoftmax(Head):
    """Logits are inner products with the descriptors as they are, plus a bias a landmark."""

    def __init__(self, dims: int, classes: int):
        super().__init__("softmax", dims, classes)
        self.bias = nn.Parameter(torch.zeros(classes))

    def scores(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors  ->  (B, C) float32 inner products plus bias."""
        with torch.autocast(descriptors.device.type, enabled=False):
            return F.linear(descriptors.float(), self.weight.float(), self.bias.float())

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """The scores themselves."""
        return scores

    @torch.no_grad()
    def take_over(self, classes: Tensor, other: Head, other_classes: Tensor) -> None:
        """As every head; a cosine head's weights mean a direction alone, and get the lengths that were drawn here."""
        lengths = self.weight[classes].norm(dim=1, keepdim=True)
        super().take_over(classes, other, other_classes)
        if isinstance(other, PlainSoftmax):
            self.bias[classes] = other.bias[other_classes].to(self.bias)
        else:
            self.weight[classes] = lengths * F.normalize(self.weight[classes])


def build_head(
    kind: str, dims: int, classes: int, margin: float | Tensor = 0.3, scale: float = 30.0, sub_centres: int = 3
) -> Head:
    """A new head, drawn from torch's global generator; each kind takes of the settings what it knows.

    margin: one for all, or (C,), each landmark's own. Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"head {kind!r} is none of {', '.join(KINDS)}")
    if kind == "softmax":
        return PlainSoftmax(dims, classes)
    if kind == "adacos":
        return AdaCos(dims, classes)
    return CosineSoftmax(kind, dims, classes, margin, scale, sub_centres if kind == "subcenter_arcface" else 1)
