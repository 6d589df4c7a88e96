"""Backbones: an image becomes two feature maps, a shallow one and a deep one.

Global descriptors are pooled from the deep map, DELG's local features come from the shallow map. A backbone takes
pixels from 0 to 255 and normalises them as its weights expect. It also knows its strides, and where the receptive
fields of its shallow map are centred. The families of networks are in network/backbones/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.catalogue import PUBLISHED
from pipeline.errors import PipelineError
from pipeline.network.backbones.body import Body, Maps
from pipeline.network.backbones.cells import CellGrid
from pipeline.network.backbones.efficientnet_lite import LITE, build_lite, translate_lite
from pipeline.network.backbones.probe import Probe, probe
from pipeline.network.backbones.timm_networks import PREFIX, build_timm, download_timm, translate_timm
from pipeline.network.backbones.torchvision_networks import (
    TORCHVISION,
    build_torchvision,
    cut_after_shallow,
    download_torchvision,
)
from pipeline.network.published_names import translate_names
from pipeline.network.weights import OTHER_BACKBONE, first_line, load_matching, read_weights, suggest_backbone

BACKBONES = (*TORCHVISION, *LITE)  # and every model of timm, as timm/<name>
MIN_SIDE_PX = 32  # one cell of a deep map at stride 32
PROBE_CELLS = 4  # along a side of the deep map, or 2 of stride 32


class Backbone(nn.Module):
    """Pixels to {"shallow": (B, C, H / stride, W / stride), "deep": (B, C', H / stride', W / stride')}.

    strides: by name of the map; 16 and 32, or both the side of a transformer's patches. channels: C and C' by name.
    mean, std: the input normalisation of the weights, for pixels from 0 to 255.
    side_multiple_px: what the sides of images should be multiples of. A network of patches is given whole ones: images
    of other sizes are resized to the nearest. Others lose the edge.
    signed: by name, whether the map has negative values: those of the MobileNet family, whose blocks have linear
    outputs, of ConvNeXt and of transformers. Of deep maps, whether they are as strong as the positive ones.
    cells: where the receptive fields of the shallow map are centred. Its offset is 0 for networks whose padding is
    symmetric.
    class_token: whether a transformer's class token is joined to its deep map. root: the module whose parameters have
    the names of published weights, alone in a tuple.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, class_token: bool = False):
        super().__init__()
        family = _build_family(name, class_token)
        self.name, self.class_token = name, class_token
        self.body, self.root = family.layers, (family.root,)  # in a tuple: not a second module
        self.strides, self._patch_px, self._interpolation = family.strides, family.patch_px, family.interpolation
        self.side_multiple_px = family.strides["deep"]
        self.min_side_px = max(MIN_SIDE_PX // self.side_multiple_px, 1) * self.side_multiple_px
        self.register_buffer("mean", torch.tensor(family.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(family.std).view(3, 1, 1), persistent=False)
        self.channels, self.signed, centre_px = self._probe()
        self.cells = CellGrid(self.strides["shallow"], centre_px, self.min_side_px)

    def checkpoint_gradients(self, wanted: bool) -> None:
        """Whether blocks compute their activations again for the backward pass instead of keeping them.

        Raises PipelineError for a network that cannot.
        """
        (root,) = self.root
        switch = getattr(root, "set_grad_checkpointing", None)
        try:
            if switch is not None:
                switch(wanted)
            elif wanted:
                raise NotImplementedError
        except (AssertionError, NotImplementedError) as error:
            what = f"{self.name} cannot compute activations again"
            hint = f"take a model of timm, as {PREFIX}<name>, or set gradient_checkpointing = false"
            raise PipelineError(what, "gradient_checkpointing", hint) from error

    @property
    def is_transformer(self) -> bool:
        """Whether its maps are the tokens of patches."""
        return self._patch_px > 1

    def forward(self, images: Tensor) -> Maps:
        """images: (B, 3, H, W) RGB, 0 to 255, uint8 or float; sides of at least 32 px (28 for patches of 14)."""
        return self.body(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels from 0 to 255, normalised as the weights expect, in whole patches. Raises ValueError if too small."""
        if min(images.shape[-2:]) < self.min_side_px:
            raise ValueError(f"images of {tuple(images.shape[-2:])} px: the smallest side is {self.min_side_px}")
        pixels = images.float()
        if any(side % self._patch_px for side in images.shape[-2:]):
            size = [round(side / self._patch_px) * self._patch_px for side in images.shape[-2:]]
            mode = self._interpolation if self._interpolation in ("bilinear", "bicubic") else "bilinear"
            pixels = F.interpolate(pixels, size, mode=mode, antialias=True)
        return (pixels - self.mean) / self.std

    def load(self, state: Mapping[str, Tensor], where: str, hint: str = OTHER_BACKBONE) -> None:
        """Load weights by the names of their publication. Raises PipelineError, with the hint, if they do not fit."""
        (root,) = self.root
        wanted = root.state_dict()
        state = translate_names(translate_lite(state, wanted) if self.name in LITE else state, wanted)
        if self.name.startswith(PREFIX):
            state = translate_timm(state, root)
        load_matching(root, state, self.name, where, hint)

    @torch.no_grad()
    def _probe(self) -> Probe:
        """What a small image tells. Raises PipelineError for a network that takes images of one size only."""
        side = max(2 * MIN_SIDE_PX, PROBE_CELLS * self._patch_px)
        image = torch.linspace(0.0, 255.0, 3 * side * side).view(1, 3, side, side)
        self.eval()
        try:
            return probe(self.body, lambda: self(image), side, self.strides["shallow"])
        except (AssertionError, RuntimeError, ValueError) as error:  # timm has no class of its own for it
            if not self.name.startswith(PREFIX):
                raise
            what = f"{self.name} does not take images of any size: {first_line(error)}"
            raise PipelineError(what, "backbone", "take another network") from error
        finally:
            self.train()


class ShallowBackbone(nn.Module):
    """The layers of a backbone up to the shallow map, for evaluation; the weights are shared.

    (B, 3, H, W) RGB, 0 to 255  ->  the shallow map. Sizes as for the backbone; multiples of its shallow stride suffice.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.whole = backbone
        body: Any = backbone.body
        self.part = cut_after_shallow(body) if backbone.name in TORCHVISION else body.shallow

    def forward(self, images: Tensor) -> Tensor:
        """The shallow map."""
        pixels = self.whole.normalise(images)
        return self.part(pixels)


def build_backbone(name: str, weights: str = "imagenet", class_token: bool = False) -> Backbone:
    """A backbone with its weights: "none" (random), "imagenet" or "pretrained" (the published ones), or a path.

    The path is that of a weights file or of a folder from the Hugging Face Hub. Raises PipelineError: unknown name,
    missing file, weights of another architecture, failed download.
    """
    backbone = Backbone(name, class_token)
    if weights == "none":
        return backbone
    if weights not in PUBLISHED:
        backbone.load(read_weights(Path(weights)), weights, suggest_backbone(Path(weights)))
    elif name in LITE:
        backbone.load(read_weights(Path(LITE[name])), LITE[name])
    elif name in TORCHVISION:
        backbone.load(download_torchvision(name), f"torchvision's weights of {name}")
    else:
        backbone.load(download_timm(name), f"timm's weights of {name}")
    return backbone


def _build_family(name: str, class_token: bool) -> Body:
    if name.startswith(PREFIX):
        return build_timm(name, class_token)
    if name not in BACKBONES:
        known = f"take one of {', '.join(BACKBONES)}, or any model of timm as {PREFIX}<name>"
        raise PipelineError(f"there is no backbone {name!r}", "backbone", known)
    if class_token:
        raise PipelineError(f"{name} has no class token", "models.<name>.class_token", "leave it out")
    return build_lite(name) if name in LITE else build_torchvision(name)
