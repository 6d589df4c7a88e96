"""Local features of batches of images on a device, over an image pyramid; only what is kept leaves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.device import mixed_precision
from pipeline.device_memory import MemoryLimit
from pipeline.errors import PipelineError
from pipeline.features.local_store import LocalFeatures
from pipeline.features.pyramid_cells import ImageRegions, Kept, locate_cells, select_cells, whole_cells
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.network.backbone import ShallowBackbone
from pipeline.network.delg import LocalBranch
from pipeline.network.even_batches import run_in_even_batches
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.network.untrained_branch import UntrainedBranch
from pipeline.settings import LocalSettings

if TYPE_CHECKING:
    from pipeline.images.decode import Size


class LocalNetwork(nn.Module):
    """The part of a trained network that extracts local features, in evaluation mode.

    Raises ValueError for a network without a local branch.
    """

    def __init__(self, network: LandmarkNetwork):
        super().__init__()
        if network.local is None:
            raise ValueError("this network was trained without a local branch")
        self.shallow = ShallowBackbone(network.embedding.backbone)
        self.branch: LocalBranch | UntrainedBranch = network.local
        self.cells = network.embedding.backbone.cells
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB, 0 to 255  ->  codes (B, 128, h, w), attention (B, 1, h, w), both float32."""
        shallow = run_in_even_batches(self.shallow, images)
        # On a CPU one image at a time: float32 sums over channels to a single one depend on the place in a batch.
        parts = [self.branch(part) for part in shallow.split(1 if shallow.device.type == "cpu" else len(shallow))]
        codes, attention = (torch.cat(maps) for maps in zip(*((m.codes, m.attention) for m in parts), strict=True))
        return codes.float(), attention.float()


@dataclass(frozen=True)
class LocalExtractor:
    """A network with the settings by which features are extracted, and the device with what fits into it at once."""

    network: LocalNetwork
    settings: LocalSettings
    device: torch.device
    limit: MemoryLimit = field(default_factory=MemoryLimit)


def extract_batch(
    extractor: LocalExtractor, batch: LoadedBatch, kept: Kept, regions: ImageRegions
) -> list[tuple[int, LocalFeatures]]:
    """(row, its cells) of each image of a batch on the device. What does not fit into the GPU memory is halved."""

    def work(at: slice) -> list[tuple[int, LocalFeatures]]:
        return _extract_images(extractor, LoadedBatch(batch.images[at], batch.rows[at]), kept, regions)

    height, width = batch.images.shape[-2:]
    try:
        parts = extractor.limit.run(work, len(batch.rows), height * width)
    except torch.OutOfMemoryError as error:
        raise PipelineError(
            "the GPU has not enough memory for a single photograph",
            f"local.max_side_px = {extractor.settings.max_side_px}",
            "lower it, or leave out the largest of local.scales",
        ) from error
    return [found for part in parts for found in part]


@torch.inference_mode()
def _extract_images(
    extractor: LocalExtractor, batch: LoadedBatch, kept: Kept, regions: ImageRegions
) -> list[tuple[int, LocalFeatures]]:
    """(row, its cells) of each image of a batch. Only what is kept leaves the device."""
    rows, asked = batch.rows.tolist(), [regions[row] for row in batch.rows.tolist()]
    pyramid = _describe_cells(extractor, batch.images)
    attention = torch.cat([level.attention for level in pyramid], dim=1)
    descriptors = torch.cat([level.descriptors for level in pyramid], dim=1)
    finite = attention.isfinite().all(dim=1) & descriptors.isfinite().flatten(1).all(dim=1)
    positions, counts = select_cells(attention, kept)
    chosen = descriptors.take_along_dim(positions[..., None], dim=1), attention.take_along_dim(positions, dim=1)
    codes, weights = (part.cpu().numpy() for part in chosen)
    for region, is_finite in zip(asked, finite.tolist(), strict=True):
        if not is_finite:
            raise PipelineError(
                "attention or descriptors that are not finite", region.path,
                "the network has diverged: train again at a lower learning rate, or set local.precision = 'float32'",
            )  # fmt: skip
    scales = np.concatenate([np.full(level.attention.shape[1], level.scale, np.float32) for level in pyramid])
    found = []
    for at, (count, where) in enumerate(zip(counts.tolist(), positions.cpu().numpy(), strict=True)):
        grid, where = extractor.network.cells, where[:count]
        points = np.concatenate([locate_cells(level.cells, grid, level.size, asked[at]) for level in pyramid])
        found.append(LocalFeatures(points[where], scales[where], weights[at, :count], codes[at, :count]))
    return list(zip(rows, found, strict=True))


class _Level(NamedTuple):
    """The cells of B images at one scale: attention (B, m), descriptors (B, m, 128), L2-normalised.

    size: (width, height) of the images there; cells: (columns, rows) of the map.
    """

    scale: float
    size: Size
    cells: Size
    attention: Tensor
    descriptors: Tensor


def _describe_cells(extractor: LocalExtractor, images: Tensor) -> list[_Level]:
    """The cells of a batch (B, 3, H, W) uint8 at every scale, on the device, where the images are."""
    settings, device, levels = extractor.settings, extractor.device, []
    height, width = images.shape[-2:]
    for scale in settings.scales:
        size = whole_cells((width, height), scale, extractor.network.cells)
        with mixed_precision(device, settings.precision):
            codes, attention = extractor.network(_resize(images, size))
        attention = _suppress(attention, settings.suppression_cells).flatten(1)
        descriptors = F.normalize(codes, dim=1).flatten(2).transpose(1, 2)
        levels.append(_Level(scale, size, (codes.shape[-1], codes.shape[-2]), attention, descriptors))
    return levels


def _resize(images: Tensor, size: Size) -> Tensor:
    """The images at (width, height), averaged over areas where they are shrunk."""
    if (images.shape[-1], images.shape[-2]) == size:
        return images
    return F.interpolate(images.float(), (size[1], size[0]), mode="bilinear", antialias=True)


def _suppress(attention: Tensor, cells: int) -> Tensor:
    """Non-maximum suppression: attention (B, 1, h, w), set to 0 where a cell at most `cells` away has more."""
    if cells == 0:
        return attention
    greatest = F.max_pool2d(attention, 2 * cells + 1, stride=1, padding=cells)
    return torch.where(attention < greatest, 0.0, attention)  # NaN stays NaN, and is refused later
