"""Local features: keypoints with attention and a descriptor each, over an image pyramid (DELG, section 3.4).

The photograph goes through the network up to the shallow map at each of several scales. Every cell is a candidate: its
keypoint is the centre of its receptive field in pixels of the photograph, its descriptor the code at length 1. Those
with the most attention are kept, and the scales compete for it.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.artifacts import write_json
from pipeline.competition.dataset import Box
from pipeline.device import mixed_precision
from pipeline.errors import PipelineError
from pipeline.features.local_store import NO_FEATURES, LocalFeatures, pack
from pipeline.features.store import Arrays, write_at
from pipeline.images.batches import LoadedBatch, PlannedBatch, group_by_size, load_batches
from pipeline.images.decode import Size
from pipeline.images.inspection import list_boxes
from pipeline.network.backbone import MIN_SIDE_PX, STRIDES, ShallowBackbone
from pipeline.network.delg import LocalBranch
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.processes import available_cores, one_thread_each
from pipeline.settings import LocalSettings
from pipeline.task_context import TaskContext

STRIDE = STRIDES["shallow"]
THRESHOLD = "threshold.json"


class View(NamedTuple):
    """What is seen of a photograph: its file, its (width, height) as displayed, and the part in a box; None = all."""

    path: Path
    size: Size
    box: Box | None = None


class LocalNetwork(nn.Module):
    """What local features need of a trained network, in evaluation mode. ValueError where it has no local branch."""

    def __init__(self, network: LandmarkNetwork):
        super().__init__()
        if network.local is None:
            raise ValueError("this network was trained without a local branch")
        self.shallow = ShallowBackbone(network.embedding.backbone)
        self.branch: LocalBranch = network.local
        self.cell_centre_px = network.embedding.backbone.cell_centre_px
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB of 0 to 255  ->  codes (B, 128, h, w), attention (B, 1, h, w), both float32."""
        maps = self.branch(self.shallow(images))
        return maps.codes.float(), maps.attention.float()


def calibrate_split(
    task: TaskContext,
    network: LocalNetwork,
    train: pd.DataFrame,
    root: Path,
    settings: LocalSettings,
    seed: int,
    device: torch.device,
) -> None:
    """Write threshold.json: the attention that a feature has to exceed, found on some photographs of train.

    train: the table of stage 01; root: the data folder.
    """
    drawn = np.random.default_rng(seed).permutation(len(train))[: settings.calibration_photographs]
    views = _list_views(train.iloc[np.sort(drawn)], root)
    value = calibrate_attention(network, views, settings, device, task.workers)
    write_json(task.folder / THRESHOLD, {"min_attention": value, "photographs": len(views)})


def extract_split(
    task: TaskContext,
    network: LocalNetwork,
    split: pd.DataFrame,
    wanted: NDArray[np.bool_],
    root: Path,
    settings: LocalSettings,
    threshold: Path,
    device: torch.device,
) -> None:
    """Write a `LocalStore` of the wanted (N,) photographs of a split's table of stage 01, in shards; others are empty.

    root: the data folder; threshold: the folder that `calibrate_split` wrote to. Goes on behind the last shard after a
    kill.
    """
    min_attention = json.loads((threshold / THRESHOLD).read_text())["min_attention"]
    views = _list_views(split, root)

    def make(start: int, stop: int) -> Arrays:
        chosen = [views[row] for row in range(start, stop) if wanted[row]]
        found = iter(extract_local(network, chosen, settings, min_attention, device, task.workers))
        return pack([next(found) if wanted[row] else NO_FEATURES for row in range(start, stop)], settings.storage)

    write_at(task, len(split), settings.shard_rows, make, "photographs", ragged=True)


def extract_local(
    network: LocalNetwork,
    views: Sequence[View],
    settings: LocalSettings,
    min_attention: float,
    device: torch.device,
    workers: int = 0,
) -> list[LocalFeatures]:
    """The local features of each view, at most max_features, those of most attention first.

    The points are in pixels of the whole photograph. A part of one is seen at the scale at which the whole would be.
    min_attention: what a feature has to exceed; see `calibrate_attention`. A photograph may have no features at all.
    On a CPU the bytes do not depend on cores, loading processes, batches, or on what else is asked for.
    Raises PipelineError: an unreadable photograph, attention or codes that are not finite.
    """
    features: list[LocalFeatures | None] = [None] * len(views)
    for row, cells in _see_photographs(network, views, settings, device, workers):
        features[row] = select_features(cells, min_attention, settings.max_features)
    return [found for found in features if found is not None]


def calibrate_attention(
    network: LocalNetwork,
    views: Sequence[View],
    settings: LocalSettings,
    device: torch.device,
    workers: int = 0,
) -> float:
    """The attention that a share `attention_quantile` of all cells of these photographs does not exceed; 0 without any.

    What values attention takes differs from network to network, by factors of hundreds: a threshold is worth nothing
    without the network that it was found with.
    """
    every = settings.model_copy(update={"suppression_cells": 0})
    seen = [cells.attention for _, cells in _see_photographs(network, views, every, device, workers)]
    return float(np.quantile(np.concatenate(seen), settings.attention_quantile)) if seen else 0.0


def select_features(cells: LocalFeatures, min_attention: float, count: int) -> LocalFeatures:
    """The `count` cells of most attention among those above `min_attention`, ties by place in the list."""
    order = np.argsort(-cells.attention, kind="stable")[:count]
    kept = order[cells.attention[order] > min_attention]
    return LocalFeatures(*(values[kept] for values in cells))


def fit_size(view: View, max_side_px: int) -> Size:
    """(width, height) of a view at scale 1: the photograph's longer side is max_side_px, or as it is when smaller."""
    left, top, right, bottom = view.box or (0, 0, *view.size)
    return _whole_cells((right - left, bottom - top), min(1.0, max_side_px / max(view.size)))


def _whole_cells(size: tuple[float, float], factor: float) -> Size:
    """The size times a factor, in whole cells, and 32 px at least."""
    width, height = (max(round(side * factor / STRIDE) * STRIDE, MIN_SIDE_PX) for side in size)
    return width, height


def locate_cells(cells: Size, centre_px: int, scaled: Size, view: View) -> NDArray[np.float32]:
    """(rows * columns, 2) x, y of the centres of the cells' receptive fields, in pixels of the photograph, row by row.

    cells: (columns, rows) of the map that the view, at the size `scaled`, gave. centre_px: see Backbone.cell_centre_px.

    Pixels are counted from 0 at the centre of the first one, so that pixel x of a picture of width W lies at
    (x + 0.5) w / W - 0.5 in one of width w.
    """
    # The whole pixels that a box touches are what was cropped.
    box = view.box or (0.0, 0.0, *view.size)
    starts, ends = [math.floor(side) for side in box[:2]], [math.ceil(side) for side in box[2:]]
    x, y = (
        start + (STRIDE * np.arange(count) + centre_px + 0.5) * ((end - start) / part) - 0.5
        for count, start, end, part in zip(cells, starts, ends, scaled, strict=True)
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


def _list_views(split: pd.DataFrame, root: Path) -> list[View]:
    """The photographs of a split's table of stage 01, or the parts of them that count."""
    paths, sizes = [root / path for path in split["path"]], zip(split["width"], split["height"], strict=True)
    boxes: Sequence[Box | None] = list_boxes(split) or [None] * len(split)
    return [View(path, (int(w), int(h)), box) for path, (w, h), box in zip(paths, sizes, boxes, strict=True)]


def _see_photographs(
    network: LocalNetwork,
    views: Sequence[View],
    settings: LocalSettings,
    device: torch.device,
    workers: int,
) -> Iterator[tuple[int, LocalFeatures]]:
    """(row, all cells of all scales) of every view: on a CPU each one alone on a thread, elsewhere in batches."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    boxes = [view.box or (0.0, 0.0, *view.size) for view in views] if any(view.box for view in views) else None
    batches = load_batches([view.path for view in views], _plan(views, settings), workers=workers, boxes=boxes)
    with one_thread_each() if device.type == "cpu" else nullcontext() as pool:
        if pool is None:
            for batch in batches:
                yield from _see_batch(network, batch, views, settings, device)
            return
        waiting: deque[Future] = deque()
        for batch in batches:
            for images, rows in zip(batch.images.split(1), batch.rows.split(1), strict=True):
                waiting.append(pool.submit(_see_batch, network, LoadedBatch(images, rows), views, settings, device))
            while len(waiting) > 2 * available_cores():
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _plan(views: Sequence[View], settings: LocalSettings) -> list[PlannedBatch]:
    """Batches of views that are seen at one and the same size."""
    return group_by_size([fit_size(view, settings.max_side_px) for view in views], settings.batch_size)


def _see_batch(
    network: LocalNetwork, batch: LoadedBatch, views: Sequence[View], settings: LocalSettings, device: torch.device
) -> list[tuple[int, LocalFeatures]]:
    """(row, all cells) of each image of a batch; one that the GPU has no memory for is halved."""
    try:
        return _see_images(network, batch, views, settings, device)
    except torch.OutOfMemoryError as error:
        if len(batch.rows) == 1:
            raise PipelineError(
                "the GPU has not enough memory for a single photograph", f"local.max_side_px = {settings.max_side_px}",
                "lower it, or leave out the largest of local.scales",
            ) from error  # fmt: skip
    torch.cuda.empty_cache()
    halves = zip(batch.images.chunk(2), batch.rows.chunk(2), strict=True)
    return [seen for half in halves for seen in _see_batch(network, LoadedBatch(*half), views, settings, device)]


@torch.inference_mode()
def _see_images(
    network: LocalNetwork, batch: LoadedBatch, views: Sequence[View], settings: LocalSettings, device: torch.device
) -> list[tuple[int, LocalFeatures]]:
    rows, (height, width) = batch.rows.tolist(), batch.images.shape[-2:]
    parts: list[list[LocalFeatures]] = [[] for _ in rows]
    for scale in settings.scales:
        scaled = _whole_cells((width, height), scale)
        with mixed_precision(device, settings.precision):
            codes, attention = network(_resize(batch.images.to(device, non_blocking=True), scaled))
        attention = _suppress(attention, settings.suppression_cells)
        descriptors = F.normalize(codes, dim=1).flatten(2).transpose(1, 2).cpu().numpy()
        flat = attention.flatten(1).cpu().numpy()
        for at, row in enumerate(rows):
            points = locate_cells((codes.shape[-1], codes.shape[-2]), network.cell_centre_px, scaled, views[row])
            scales = np.full(len(points), scale, np.float32)
            parts[at].append(LocalFeatures(points, scales, flat[at], descriptors[at]))
    joined = [LocalFeatures(*map(np.concatenate, zip(*part, strict=True))) for part in parts]
    for row, cells in zip(rows, joined, strict=True):
        if not (np.isfinite(cells.attention).all() and np.isfinite(cells.descriptors).all()):
            raise PipelineError(
                "attention or descriptors that are not finite", views[row].path,
                "the network has gone bad: train again at a lower learning rate, or set local.precision = 'float32'",
            )  # fmt: skip
    return list(zip(rows, joined, strict=True))


def _resize(images: Tensor, size: Size) -> Tensor:
    """The images at (width, height), averaged over areas where they shrink."""
    if (images.shape[-1], images.shape[-2]) == size:
        return images
    return F.interpolate(images.float(), (size[1], size[0]), mode="bilinear", antialias=True)


def _suppress(attention: Tensor, cells: int) -> Tensor:
    """Attention (B, 1, h, w), 0 where a cell at most `cells` away has more."""
    if cells == 0:
        return attention
    greatest = F.max_pool2d(attention, 2 * cells + 1, stride=1, padding=cells)
    return torch.where(attention < greatest, 0.0, attention)  # and what is not a number stays so
