"""Local features: keypoints with attention and a descriptor each, over an image pyramid (DELG, section 3.4).

The image goes through the network up to the shallow map at each of several scales. Every cell is a candidate: its
keypoint is the centre of its receptive field in pixels of the image, its descriptor the L2-normalised code. The cells
of all scales with the greatest attention are kept.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.arrays import Integers, Mask
from pipeline.artifacts import write_json
from pipeline.features.image_shards import write_image_shards
from pipeline.features.local_batches import LocalExtractor, extract_batch
from pipeline.features.local_store import NO_FEATURES, LocalFeatures, pack
from pipeline.features.pyramid_cells import (
    EVERYTHING,
    ImageRegions,
    Kept,
    fit_size,
)
from pipeline.features.store import Arrays
from pipeline.images.batch_loader import BatchLoader, OnBad, by_position
from pipeline.images.batches import PlannedBatch, group_by_size
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.images.plan_ahead import PlanAhead
from pipeline.images.rejection import Rejections
from pipeline.images.split import Split
from pipeline.network.even_batches import MOST_IMAGES
from pipeline.processes import map_ahead, one_thread_each
from pipeline.task_context import TaskContext

THRESHOLD = "threshold.json"


def write_threshold(task: TaskContext, extractor: LocalExtractor, split: Split, seed: int) -> None:
    """Write threshold.json: the attention that a feature must exceed, calibrated on a random sample of the split.

    Images that cannot be read are listed in rejected.csv.
    """
    drawn = np.random.default_rng(seed).permutation(len(split))[: extractor.settings.calibration_photographs]
    sample = split.take(np.sort(drawn))
    rejections = Rejections(sample, task.folder)
    value = calibrate_attention(extractor, ImageRegions.from_split(sample), task.workers, rejections.add)
    read = len(sample) - len(rejections.reasons)
    write_json(task.folder / THRESHOLD, {"min_attention": value, "photographs": read})
    rejections.write(task)


def read_threshold(folder: Path) -> float:
    """The attention that `write_threshold` wrote to a folder."""
    return json.loads((folder / THRESHOLD).read_text())["min_attention"]


def write_local_features(
    task: TaskContext, extractor: LocalExtractor, split: Split, wanted: Mask, min_attention: float
) -> None:
    """Write a `LocalStore` of a split in shards; images that are not wanted (N,) have no features.

    Nor have images that cannot be read; rejected.csv lists them. Resumes after the last finished shard.
    """
    settings = extractor.settings
    with RegionImages(ImageRegions.from_split(split), extractor, task.workers, wanted) as images:

        def make(rows: Integers, on_bad: OnBad) -> Arrays:
            """The packed features of some rows; those that are not wanted have none."""
            found = _extract_rows(extractor, images, rows[wanted[rows]], min_attention, by_position(rows, on_bad))
            return pack([found.get(row, NO_FEATURES) for row in rows.tolist()], settings.storage)

        write_image_shards(task, split, settings.shard_rows, make, ragged=True, wanted=wanted)


class RegionImages:
    """The images of some regions, loaded in batches of one size; the loading processes live until it is closed.

    wanted: (N,), which of them are asked for in all; None = all.
    """

    def __init__(self, regions: ImageRegions, extractor: LocalExtractor, workers: int = 0, wanted: Mask | None = None):
        self.regions, self._settings, self._cells = regions, extractor.settings, extractor.network.cells
        self._loader = BatchLoader(regions.paths, None, workers, regions.boxes)
        rows = np.arange(len(regions)) if wanted is None else np.flatnonzero(wanted)
        self._plans = PlanAhead(self._plan, rows, self._settings.shard_rows)

    def __enter__(self) -> RegionImages:
        return self

    def __exit__(self, *error: object) -> None:
        self._loader.close()

    def load(self, rows: Integers, on_bad: OnBad | None) -> Iterator[LoadedBatch]:
        """The batches of these images (n,), ascending, without those that cannot be read."""
        plan, following = self._plans.plan(rows)
        return (batch for batch in self._loader.load(plan, on_bad, following) if len(batch.rows))

    def _plan(self, rows: Integers) -> list[PlannedBatch]:
        sizes = [fit_size(self.regions[row], self._settings.max_side_px, self._cells) for row in rows.tolist()]
        plan = group_by_size(np.array(sizes, np.int64).reshape(-1, 2), self._settings.batch_size)
        return [batch._replace(rows=rows[batch.rows]) for batch in plan]


def extract_local(
    extractor: LocalExtractor,
    regions: ImageRegions,
    min_attention: float,
    workers: int = 0,
    on_bad: OnBad | None = None,
) -> list[LocalFeatures]:
    """The local features of each region: at most max_features, in descending order of attention, possibly none.

    The points are in pixels of the whole image. Boxes are resized by the same factor as their whole image.
    min_attention: the value that a feature must exceed, see `calibrate_attention`.
    On a CPU the bytes do not depend on cores, loading processes, batches, or on which images are extracted together.
    on_bad: called with the position and the reason of an image that cannot be read, which has no features.
    Raises PipelineError: an unreadable image without `on_bad`, attention or codes that are not finite.
    """
    with RegionImages(regions, extractor, workers) as images:
        found = _extract_rows(extractor, images, np.arange(len(regions)), min_attention, on_bad)
    return [found.get(row, NO_FEATURES) for row in range(len(regions))]


def calibrate_attention(
    extractor: LocalExtractor, regions: ImageRegions, workers: int = 0, on_bad: OnBad | None = None
) -> float:
    """The `attention_quantile` of the attention of all cells of these images; 0 without images.

    The range of attention differs between networks by factors of hundreds: a threshold is only valid for the network
    that it was calibrated with. on_bad: as for `extract_local`.
    """
    unsuppressed = extractor.settings.model_copy(update={"suppression_cells": 0})
    extractor = replace(extractor, settings=unsuppressed)
    with RegionImages(regions, extractor, workers) as images:
        cells = _extract(extractor, EVERYTHING, images, np.arange(len(regions)), on_bad)
        attention = [found.attention for _, found in cells]
    return float(np.quantile(np.concatenate(attention), unsuppressed.attention_quantile)) if attention else 0.0


def _extract_rows(
    extractor: LocalExtractor, images: RegionImages, rows: Integers, min_attention: float, on_bad: OnBad | None
) -> dict[int, LocalFeatures]:
    """The features of each of these images that can be read, by row."""
    return dict(_extract(extractor, Kept(min_attention, extractor.settings.max_features), images, rows, on_bad))


def _extract(
    extractor: LocalExtractor, kept: Kept, images: RegionImages, rows: Integers, on_bad: OnBad | None
) -> Iterator[tuple[int, LocalFeatures]]:
    """(row, the cells that are kept) of every image: on a CPU a few images per thread, elsewhere in batches."""
    device, regions = extractor.device, images.regions
    extractor.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = copy_ahead(images.load(rows, on_bad), device)
    extract = partial(extract_batch, extractor, kept=kept, regions=regions)
    if device.type != "cpu":
        yield from itertools.chain.from_iterable(map(extract, batches))
        return
    parts = (part for batch in batches for part in batch.split(MOST_IMAGES))
    with one_thread_each() as pool:
        yield from itertools.chain.from_iterable(map_ahead(pool, extract, parts))
