"""Classification heads: the loss layers that the embedding is trained with. Each makes (B, C) logits of descriptors.

    arcface, cosface    cosine to one direction per landmark, with a margin at the target
    subcenter_arcface   arcface with several directions per landmark, of which the nearest counts (Deng et al. 2020)
    adacos              cosines without a margin; the scale follows the training (Zhang et al. 2019)
    softmax             inner products with descriptors that are not normalised, plus a bias: the baseline

Training asks for `scores`, whose greatest is at the landmark that the head predicts, and for the `logits` of these
scores. A new head is a subclass of Head here, its entry in HEADS, and its line in pipeline/catalogue.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.network.collectives import gather_rows
from pipeline.network.cosine_softmax import (
    adacos_rows,
    adacos_scale_of_rows,
    adacos_start,
    arcface_logits,
    cosface_logits,
)


class HeadOptions(NamedTuple):
    """The settings of heads; each head takes those that it has.

    margin: one for all classes, or (C,) float32, one per class. scale: the factor of the cosines. sub_centres: K.
    """

    margin: float | Tensor
    scale: float
    sub_centres: int


class Head(nn.Module):
    """Weights (C, D), one vector per landmark, or (C, K, D), K sub-centres per landmark. It computes in float32."""

    kind: str  # its name in HEADS

    def __init__(self, dims: int, classes: int, sub_centres: int = 1):
        super().__init__()
        self.dims, self.classes, self.sub_centres = dims, classes, sub_centres
        rows = nn.init.xavier_normal_(torch.empty(classes * sub_centres, dims))
        self.weight = nn.Parameter(rows if sub_centres == 1 else rows.view(classes, sub_centres, dims))

    @property
    def settings(self) -> dict[str, Any]:
        """What `build_head` needs besides the sizes to build this head again; its tensors are in its state."""
        return {"kind": self.kind}

    def class_cosines(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors of any length  ->  (B, C) cosines; of several sub-centres that of the nearest."""
        with torch.autocast(descriptors.device.type, enabled=False):
            directions = F.normalize(self.weight.float(), dim=-1).view(-1, self.dims)
            cosines = F.normalize(descriptors.float()) @ directions.T
            if self.sub_centres == 1:
                return cosines
            return cosines.view(-1, self.classes, self.sub_centres).amax(dim=2)

    def scores(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors  ->  (B, C) float32, also inside autocast."""
        return self.class_cosines(descriptors)

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, C) float32 logits of these scores: with the margin at targets (B,), or without margins where None."""
        raise NotImplementedError

    def forward(self, descriptors: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, D) descriptors  ->  (B, C) float32 logits."""
        return self.logits(self.scores(descriptors), targets)

    @torch.no_grad()
    def warm_start_from(self, other: Head, classes: Tensor, other_classes: Tensor) -> None:
        """Start the `classes` (N,) of this head from the weights that another head learnt for its `other_classes` (N,).

        The other head may be of any kind. With equal numbers of sub-centres the weights are copied. If the other head
        has more, the longest are copied: a gradient step is orthogonal to the direction and lengthens it, so a
        sub-centre that images chose outgrows one that none chose. If it has fewer, they come first and the remaining
        sub-centres stay as initialised: copies of one direction would get equal gradients and stay equal, whereas a
        random one is free for the images that differ most from what was learnt.
        """
        learnt = other._centres()[other_classes].to(self.weight)
        count = min(self.sub_centres, other.sub_centres)
        longest = learnt.norm(dim=2).topk(count, dim=1).indices.sort(dim=1).values
        self._centres()[classes, :count] = learnt.gather(1, longest[:, :, None].expand(-1, -1, self.dims))

    def _centres(self) -> Tensor:
        """(C, K, D), a view of the weights."""
        return self.weight.view(self.classes, self.sub_centres, self.dims)


class MarginSoftmax(Head):
    """Logits are cosines times a scale, with a margin at the target. Subclasses define `margin_logits`."""

    margin: float | Tensor  # a (C,) float32 buffer where every class has its own

    def __init__(self, dims: int, classes: int, options: HeadOptions, sub_centres: int = 1):
        super().__init__(dims, classes, sub_centres)
        self.scale = options.scale
        if isinstance(options.margin, Tensor):
            if options.margin.shape != (classes,):
                raise ValueError(f"margins of shape {tuple(options.margin.shape)} for {classes} classes")
            self.register_buffer("margin", options.margin)
        else:
            self.margin = options.margin

    @property
    def settings(self) -> dict[str, Any]:
        """As for every head; margin None: the state has one per class."""
        margin = None if isinstance(self.margin, Tensor) else self.margin
        return {"kind": self.kind, "margin": margin, "scale": self.scale, "sub_centres": self.sub_centres}

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """Cosines times scale, with the margin at the targets."""
        if targets is None:
            return self.scale * scores
        margin = self.margin[targets] if isinstance(self.margin, Tensor) else self.margin
        return self.margin_logits(scores, targets, margin, self.scale)

    @staticmethod
    def margin_logits(cosines: Tensor, targets: Tensor, margin: float | Tensor, scale: float) -> Tensor:
        """(B, C) logits of cosines (B, C), targets (B,) and a margin for all or (B,)."""
        raise NotImplementedError


class ArcFace(MarginSoftmax):
    """An angular margin in radians (Deng et al. 2019)."""

    kind = "arcface"
    margin_logits = staticmethod(arcface_logits)


class CosFace(MarginSoftmax):
    """A margin that is subtracted from the cosine (Wang et al. 2018)."""

    kind = "cosface"
    margin_logits = staticmethod(cosface_logits)


class SubCentreArcFace(ArcFace):
    """ArcFace with several directions per landmark (Deng et al. 2020)."""

    kind = "subcenter_arcface"

    def __init__(self, dims: int, classes: int, options: HeadOptions):
        super().__init__(dims, classes, options, options.sub_centres)


class AdaCos(Head):
    """Logits are cosines times a scale that every training step updates; the scale is in the head's state."""

    kind = "adacos"
    scale: Tensor

    def __init__(self, dims: int, classes: int, options: HeadOptions):
        super().__init__(dims, classes)
        self.register_buffer("scale", torch.tensor(adacos_start(classes)))

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """Cosines times scale. In training mode, with targets, the scale is updated first, by all ranks' images."""
        if self.training and targets is not None and self.classes > 2:
            rows = gather_rows(adacos_rows(scores, targets, self.scale))
            self.scale = adacos_scale_of_rows(rows, self.scale)
        return self.scale * scores


class PlainSoftmax(Head):
    """Logits are inner products with the descriptors as they are, plus one bias per landmark."""

    kind = "softmax"

    def __init__(self, dims: int, classes: int, options: HeadOptions):
        super().__init__(dims, classes)
        self.bias = nn.Parameter(torch.zeros(classes))

    def scores(self, descriptors: Tensor) -> Tensor:
        """(B, D) descriptors  ->  (B, C) float32 inner products plus bias."""
        with torch.autocast(descriptors.device.type, enabled=False):
            return F.linear(descriptors.float(), self.weight.float(), self.bias.float())

    def logits(self, scores: Tensor, targets: Tensor | None = None) -> Tensor:
        """The scores themselves."""
        return scores

    @torch.no_grad()
    def warm_start_from(self, other: Head, classes: Tensor, other_classes: Tensor) -> None:
        """As for every head. The weights of a cosine head are only directions: they get the initial lengths of ours."""
        lengths = self.weight[classes].norm(dim=1, keepdim=True)
        super().warm_start_from(other, classes, other_classes)
        if isinstance(other, PlainSoftmax):
            self.bias[classes] = other.bias[other_classes].to(self.bias)
        else:
            self.weight[classes] = lengths * F.normalize(self.weight[classes])


HEADS: dict[str, Callable[[int, int, HeadOptions], Head]] = {
    "arcface": ArcFace,
    "cosface": CosFace,
    "subcenter_arcface": SubCentreArcFace,
    "adacos": AdaCos,
    "softmax": PlainSoftmax,
}


def build_head(
    kind: str, dims: int, classes: int, margin: float | Tensor = 0.3, scale: float = 30.0, sub_centres: int = 3
) -> Head:
    """A new head, initialised from torch's global generator; a head ignores the options that it does not have.

    margin: one for all classes, or (C,), one per class. Raises ValueError for an unknown kind.
    """
    if kind not in HEADS:
        raise ValueError(f"head {kind!r} is none of {', '.join(HEADS)}")
    return HEADS[kind](dims, classes, HeadOptions(margin, scale, sub_centres))
