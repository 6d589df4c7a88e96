"""Global descriptors: one vector of length 1 a photograph, over several scales (Yokoo et al. 2020).

The photograph goes to the size of its aspect-ratio group, or to one of its own shape with a given longest side (the
protocol of Revisited Oxford and Paris); the scales are taken of that. The network's raw outputs are
averaged over the scales, and the average is normalised: that is the published extraction of paper A. (Normalising each
scale first, as others do, would give the scales equal votes; here a scale with a longer output counts for more.)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.competition.dataset import Box
from pipeline.device import mixed_precision
from pipeline.errors import PipelineError
from pipeline.features.store import Arrays, write_at
from pipeline.images.batches import STRIDE, group_by_size, load_batches, plan_evaluation, template_sizes
from pipeline.images.decode import Size
from pipeline.images.inspection import list_boxes
from pipeline.processes import one_thread_each
from pipeline.settings import ExtractSettings
from pipeline.task_context import TaskContext

MIN_SCALED_SIDE_PX = 128
log = logging.getLogger(__name__)


def describe(
    network: nn.Module,
    paths: Sequence[Path],
    aspect_ratios: np.ndarray,
    settings: ExtractSettings,
    device: torch.device,
    workers: int = 0,
    boxes: Sequence[Box] | None = None,
    sizes: Sequence[Size] | None = None,
) -> np.ndarray:
    """(N, D) float32 descriptors of length 1, in the order of the paths.

    network: images (B, 3, H, W) of 0 to 255 -> (B, D), in evaluation mode on `device`.
    aspect_ratios: (N,) height / width, of the boxes where there are any. boxes: the part of each photograph that is
    described, in its pixels; None = all of it. sizes: the (width, height) that each goes to, of `fit_longest_sides`,
    where settings.max_side_px replaces the template.
    On a CPU the bytes do not depend on batch size, loading processes, number of cores, or on which rows are asked for
    together: each image goes through alone, on one thread. (Batches of other sizes pick other kernels, whose sums
    differ in the last bits.) Nor is that slower: one image's maps stay in the cache, and each core has an image.
    Raises PipelineError: an unreadable photograph, a descriptor that is zero or not finite.
    """
    if (sizes is None) == (settings.max_side_px > 0):
        raise ValueError("sizes belong to settings.max_side_px: give both or neither")
    if not len(paths):
        return np.zeros((0, _count_dims(network, device)), np.float32)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = (
        plan_evaluation(aspect_ratios, template_sizes(settings.template), settings.batch_size)
        if sizes is None
        else group_by_size(sizes, settings.batch_size)
    )
    descriptors: np.ndarray | None = None
    with one_thread_each() if device.type == "cpu" else nullcontext() as pool:
        for batch in load_batches(paths, plan, workers=workers, boxes=boxes):
            if pool is None:
                raw = _describe_batch(network, batch.images, settings, device)
            else:
                each = partial(_describe_images, network, settings=settings, device=device)
                raw = torch.cat(list(pool.map(each, batch.images.split(1))))
            if descriptors is None:
                descriptors = np.zeros((len(paths), raw.shape[1]), np.float32)
            descriptors[batch.rows.numpy()] = raw.cpu().numpy()
    assert descriptors is not None
    return _normalise(descriptors, paths)


def describe_split(
    task: TaskContext,
    network: nn.Module,
    split: pd.DataFrame,
    root: Path,
    settings: ExtractSettings,
    device: torch.device,
) -> None:
    """Write descriptors.npy, (N, D) float32, rows as in the split's table of stage 01, in shards.

    root: the data folder. Goes on behind the last shard after a kill.
    """
    paths = [root / path for path in split["path"]]
    ratios = ((split["bottom"] - split["top"]) / (split["right"] - split["left"])).to_numpy()
    boxes = list_boxes(split)
    sizes = fit_longest_sides(split, settings.max_side_px) if settings.max_side_px else None

    def make(start: int, stop: int) -> Arrays:
        at = slice(start, stop)
        parts, own = boxes[at] if boxes else None, None if sizes is None else sizes[at]
        found = describe(network, paths[at], ratios[at], settings, device, task.workers, parts, own)
        return {"descriptors": found}

    write_at(task, len(paths), settings.shard_rows, make, "photographs")


def fit_longest_sides(split: pd.DataFrame, max_side_px: int) -> list[Size]:
    """The (width, height) at scale 1 of the part of each photograph of a split's table that counts.

    The longer side of the whole photograph goes to max_side_px, or stays where it is shorter, and a part keeps the
    scale that it has in the whole (as in DELG's released extraction). Sides are rounded to multiples of 32.
    """
    factors = np.minimum(1.0, max_side_px / split[["width", "height"]].max(axis=1).to_numpy())
    sides = zip(split["right"] - split["left"], split["bottom"] - split["top"], factors, strict=True)
    return [nearest_strides((width, height), factor) for width, height, factor in sides]


def nearest_strides(size: tuple[float, float], factor: float) -> Size:
    """(width, height) times the factor, rounded to multiples of 32, one at least."""
    width, height = (max(round(side * factor / STRIDE), 1) * STRIDE for side in size)
    return width, height


def scaled_size(size: Size, scale: float) -> Size:
    """(width, height) times the scale, rounded down to multiples of 32 and not below 128."""
    width, height = (max(int(side * scale / STRIDE) * STRIDE, MIN_SCALED_SIDE_PX) for side in size)
    return width, height


def _describe_images(network: nn.Module, images: Tensor, settings: ExtractSettings, device: torch.device) -> Tensor:
    """(B, 3, H, W) uint8  ->  (B, D) float32: the average of the network's outputs over the scales."""
    height, width = images.shape[-2:]
    with torch.inference_mode(), mixed_precision(device, settings.precision):
        pixels = images.to(device, non_blocking=True).float()
        # A floor of 128 px would show small crops larger than they are in their photographs.
        scaled = nearest_strides if settings.max_side_px else scaled_size
        outputs = [network(_rescale(pixels, scaled((width, height), scale))) for scale in settings.scales]
        return torch.stack([output.float() for output in outputs]).mean(0)


def _rescale(pixels: Tensor, size: Size) -> Tensor:
    """The images at (width, height), bilinear, corners on corners as in the published extraction."""
    if (pixels.shape[-1], pixels.shape[-2]) == size:
        return pixels
    return F.interpolate(pixels, (size[1], size[0]), mode="bilinear", align_corners=True)


def _describe_batch(network: nn.Module, images: Tensor, settings: ExtractSettings, device: torch.device) -> Tensor:
    """Like _describe_images; a batch that the GPU has no memory for is halved."""
    try:
        return _describe_images(network, images, settings, device)
    except torch.OutOfMemoryError as error:
        if len(images) == 1:
            raise PipelineError(
                "the GPU has not enough memory for a single image",
                f"extract.max_side_px = {settings.max_side_px}, extract.template = {settings.template}",
                "take a smaller template or longest side, or fewer scales above 1",
            ) from error  # fmt: skip
    log.warning("not enough GPU memory for %d images: halved; lower extract.batch_size", len(images))
    torch.cuda.empty_cache()
    return torch.cat([_describe_batch(network, half, settings, device) for half in images.chunk(2)])


def _normalise(descriptors: np.ndarray, paths: Sequence[Path]) -> np.ndarray:
    """Rows of length 1; refuses those that have no direction."""
    lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0.0))
    if len(bad):
        names = ", ".join(Path(paths[row]).stem for row in bad[:5])
        raise PipelineError(
            f"{len(bad)} of {len(paths)} descriptors are zero or not finite", names,
            "look at these photographs; if they are good, the network is not: train again at a lower learning rate, "
            "or extract with precision = 'float32'",
        )  # fmt: skip
    return descriptors / lengths


def _count_dims(network: nn.Module, device: torch.device) -> int:
    with torch.inference_mode():
        return network(torch.zeros(1, 3, MIN_SCALED_SIDE_PX, MIN_SCALED_SIDE_PX, device=device)).shape[1]
