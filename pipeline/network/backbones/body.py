"""What a family of networks gives the backbone: the layers, and how their weights want to be fed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

Maps = dict[str, Tensor]  # of a backbone, by name: shallow and deep


@dataclass(frozen=True)
class Body:
    """The layers of a network and what is known of them.

    layers: (B, 3, H, W) normalised pixels -> {"shallow": (B, C, h, w), "deep": (B, C, h', w')}; `layers.shallow`
    computes only the first. Their parameters have the names of published weight files below `root`.
    strides: of both maps. mean, std: of the input, for pixels from 0 to 255. interpolation: by which its images are
    resized. patch_px: the sides of an image have to be multiples of it; 1 = any.
    """

    layers: nn.Module
    root: nn.Module
    strides: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    patch_px: int = 1
