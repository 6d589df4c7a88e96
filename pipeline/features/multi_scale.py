"""The outputs of a network for batches of images on a device, averaged over several views (Yokoo et al. 2020).

The scales multiply the size of the images; where asked for, mirror images are views of their own. The raw outputs of
the network are averaged over the views, and the average is normalised, as in the published extraction. (Normalising
each view first, as others do, would weigh all scales equally; here a scale with a longer output counts for more.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.device import mixed_precision
from pipeline.device_memory import MemoryLimit
from pipeline.errors import PipelineError
from pipeline.network.even_batches import run_in_even_batches
from pipeline.settings import ExtractSettings

STRIDE = 32  # of the deepest feature map: the sides of an image are multiples of it
MIN_SCALED_SIDE_PX = 128
Size = tuple[int, int]  # (width, height) in pixels
log = logging.getLogger("cairn.features")  # below the project's logger, so that it reaches log.txt


def embed_batch(
    network: nn.Module,
    images: Tensor,
    settings: ExtractSettings,
    device: torch.device,
    limit: MemoryLimit | None = None,
) -> Tensor:
    """(B, 3, H, W) uint8 on the device  ->  (B, D) float32: the outputs of the network, averaged over all views.

    A batch that does not fit into the GPU memory is halved, and by a limit that all calls are given no later one is as
    large. Raises PipelineError for a single image that does not fit.
    """
    limit = limit or MemoryLimit()
    before, height, width = limit.most, *images.shape[-2:]
    try:
        parts = limit.run(lambda at: _embed_images(network, images[at], settings, device), len(images), height * width)
    except torch.OutOfMemoryError as error:
        raise PipelineError(
            "the GPU has not enough memory for a single image",
            f"extract.max_side_px = {settings.max_side_px}, extract.template = {settings.template}",
            "take a smaller template or longest side, or fewer scales above 1",
        ) from error
    if limit.most < before:
        log.warning("not enough GPU memory for %d photographs: in parts from now on; lower batch_size", len(images))
    return torch.cat(parts)


def count_dims(network: nn.Module, settings: ExtractSettings, device: torch.device) -> int:
    """The dimensions D of the network's output."""
    with torch.inference_mode(), mixed_precision(device, settings.precision):
        return network(torch.zeros(1, 3, MIN_SCALED_SIDE_PX, MIN_SCALED_SIDE_PX, device=device)).shape[1]


def nearest_strides(size: tuple[float, float], factor: float) -> Size:
    """(width, height) times the factor, rounded to multiples of 32, at least 32."""
    width, height = (max(round(side * factor / STRIDE), 1) * STRIDE for side in size)
    return width, height


def scaled_size(size: Size, scale: float) -> Size:
    """(width, height) times the scale, rounded down to multiples of 32, at least 128."""
    width, height = (max(int(side * scale / STRIDE) * STRIDE, MIN_SCALED_SIDE_PX) for side in size)
    return width, height


def _embed_images(network: nn.Module, images: Tensor, settings: ExtractSettings, device: torch.device) -> Tensor:
    """(B, 3, H, W) uint8 on the device  ->  (B, D) float32, as `embed_batch`."""
    height, width = images.shape[-2:]
    with torch.inference_mode(), mixed_precision(device, settings.precision):
        pixels = images.float()
        # A floor of 128 px would enlarge small crops relative to their whole images.
        scaled = nearest_strides if settings.max_side_px else scaled_size
        sizes = [scaled((width, height), scale) for scale in settings.scales]
        views = (view for size in sizes for view in _views(_rescale(pixels, size), settings.mirror))
        outputs = [run_in_even_batches(network, view) for view in views]
        return torch.stack([output.float() for output in outputs]).mean(0)


def _views(images: Tensor, mirror: bool) -> Iterator[Tensor]:
    """The images and, where asked for, their mirror images."""
    yield images
    if mirror:
        yield images.flip(-1)


def _rescale(pixels: Tensor, size: Size) -> Tensor:
    """The images at (width, height), bilinear with aligned corners, as in the published extraction."""
    if (pixels.shape[-1], pixels.shape[-2]) == size:
        return pixels
    return F.interpolate(pixels, (size[1], size[0]), mode="bilinear", align_corners=True)
