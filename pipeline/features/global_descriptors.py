"""Global descriptors: one L2-normalised vector per image, averaged over several scales (Yokoo et al. 2020).

The image, or the box that counts of it, is resized to the size of its aspect-ratio group, or keeps its shape with a
given longest side (the protocol of Revisited Oxford and Paris). `multi_scale` describes it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.arrays import Doubles, Floats, Integers
from pipeline.device_memory import MemoryLimit
from pipeline.errors import PipelineError
from pipeline.features.image_shards import write_image_shards
from pipeline.features.multi_scale import STRIDE, count_dims, embed_batch
from pipeline.features.store import Arrays
from pipeline.images.batch_loader import BatchLoader, OnBad, by_position
from pipeline.images.batches import PlannedBatch, group_by_size, plan_evaluation, template_sizes
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.images.plan_ahead import PlanAhead
from pipeline.images.split import Split
from pipeline.network.even_batches import MOST_IMAGES
from pipeline.processes import map_ahead, one_thread_each
from pipeline.settings import ExtractSettings
from pipeline.task_context import TaskContext


@dataclass(frozen=True)
class InputImages:
    """N images to describe.

    aspect_ratios: (N,) height / width, of the boxes where there are any. boxes: (N, 4), the part of each image that is
    described, in its pixels; None = the whole image. sizes: (N, 2), the width and height that each is resized to, from
    `fit_longest_sides`; None = the sizes of the template.
    """

    paths: Sequence[Path]
    aspect_ratios: NDArray[np.floating]
    boxes: Doubles | None = None
    sizes: Integers | None = None

    @classmethod
    def from_split(cls, split: Split, settings: ExtractSettings) -> InputImages:
        """The images of a split, at the longest side of the settings if they have one."""
        sizes = fit_longest_sides(split, settings.max_side_px) if settings.max_side_px else None
        return cls(split.paths, split.aspect_ratios, split.boxes, sizes)

    def __len__(self) -> int:
        return len(self.paths)


class Describer:
    """A network and the images that it describes, some rows at a time; the loading processes live until it is closed.

    network: images (B, 3, H, W) from 0 to 255 -> (B, D), in evaluation mode on `device`. Raises ValueError for images
    with sizes where settings.max_side_px is 0, or the reverse.
    """

    def __init__(
        self,
        network: nn.Module,
        images: InputImages,
        settings: ExtractSettings,
        device: torch.device,
        workers: int = 0,
    ):
        if (images.sizes is None) == (settings.max_side_px > 0):
            raise ValueError("sizes belong to settings.max_side_px: give both or neither")
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._images, self._settings, self._device, self._limit = images, settings, device, MemoryLimit()
        self._loader = BatchLoader(images.paths, None, workers, images.boxes)
        plan = partial(_plan_batches, images, settings=settings)
        self._plans = PlanAhead(plan, np.arange(len(images)), settings.shard_rows)

    def __enter__(self) -> Describer:
        return self

    def __exit__(self, *error: object) -> None:
        self._loader.close()

    def describe(self, rows: Integers, on_bad: OnBad | None = None) -> Floats:
        """(n, D) float32: the descriptors of these images, as `extract_descriptors` says, in the order of `rows`.

        rows: (n,) ascending. On a GPU nothing waits for it before the last batch.
        """
        plan, following = self._plans.plan(rows)
        loaded = copy_ahead(self._loader.load(plan, on_bad, following), self._device)
        batches = (batch for batch in loaded if len(batch.rows))
        if self._device.type == "cpu":
            with one_thread_each() as pool:
                parts = (part for batch in batches for part in batch.split(MOST_IMAGES))
                found = list(map_ahead(pool, self._embed, parts))
        else:
            found = list(map(self._embed, batches))
        if not found:
            return np.zeros((len(rows), count_dims(self._network, self._settings, self._device)), np.float32)
        known = torch.cat([rows for rows, _ in found]).numpy()
        raw = torch.cat([outputs for _, outputs in found])
        described = _normalise(raw.cpu().numpy(), [self._images.paths[row] for row in known.tolist()])
        descriptors = np.zeros((len(rows), described.shape[1]), np.float32)
        descriptors[np.searchsorted(rows, known)] = described
        return descriptors

    def _embed(self, batch: LoadedBatch) -> tuple[Tensor, Tensor]:
        """The rows of a batch, and the outputs of the network for them, on the device."""
        return batch.rows, embed_batch(self._network, batch.images, self._settings, self._device, self._limit)


def extract_descriptors(
    network: nn.Module,
    images: InputImages,
    settings: ExtractSettings,
    device: torch.device,
    workers: int = 0,
    on_bad: OnBad | None = None,
) -> Floats:
    """(N, D) float32 descriptors, L2-normalised, in the order of the images.

    network: see `Describer`, which describes parts of many images.
    On a CPU the bytes do not depend on batch size, loading processes, number of cores, or on which images are described
    together: see `run_in_even_batches`; each batch is computed by one thread.
    on_bad: called with the row and the reason of an image that cannot be read, whose descriptor is zero.
    Raises PipelineError: an unreadable image without `on_bad`, a descriptor that is zero or not finite.
    """
    with Describer(network, images, settings, device, workers) as describer:
        return describer.describe(np.arange(len(images)), on_bad)


def write_descriptors(
    task: TaskContext, network: nn.Module, split: Split, settings: ExtractSettings, device: torch.device
) -> None:
    """Write descriptors.npy, (N, D) float32, rows as in the split, in shards. Resumes after the last finished shard.

    The descriptor of an image that cannot be read is zero; rejected.csv lists these images.
    """
    with Describer(network, InputImages.from_split(split, settings), settings, device, task.workers) as describer:

        def make(rows: Integers, on_bad: OnBad) -> Arrays:
            return {"descriptors": describer.describe(rows, by_position(rows, on_bad))}

        write_image_shards(task, split, settings.shard_rows, make)


def fit_longest_sides(split: Split, max_side_px: int) -> Integers:
    """(N, 2) width and height of the box of each image at scale 1, rounded to multiples of 32.

    The whole image is shrunk until its longer side is max_side_px; smaller images keep their size. Boxes are resized by
    the same factor as their whole image (as in the released extraction of DELG).
    """
    factors = np.minimum(1.0, max_side_px / split.longer_sides)
    strides = np.maximum(np.round(split.box_sizes * factors[:, None] / STRIDE), 1)
    return strides.astype(np.int64) * STRIDE


def _plan_batches(images: InputImages, rows: Integers, settings: ExtractSettings) -> list[PlannedBatch]:
    if images.sizes is not None:
        plan = group_by_size(images.sizes[rows], settings.batch_size)
    else:
        sizes = template_sizes(settings.template)
        plan = plan_evaluation(np.asarray(images.aspect_ratios)[rows], sizes, settings.batch_size)
    return [planned._replace(rows=rows[planned.rows]) for planned in plan]


def _normalise(descriptors: Floats, paths: Sequence[Path]) -> Floats:
    """L2-normalised rows; raises PipelineError for rows that are zero or not finite."""
    lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0.0))
    if len(bad):
        names = ", ".join(Path(paths[row]).stem for row in bad[:5])
        raise PipelineError(
            f"{len(bad)} of {len(paths)} descriptors are zero or not finite", names,
            "look at these photographs; if they are good, the network has diverged: train again at a lower learning "
            "rate, or extract with precision = 'float32'",
        )  # fmt: skip
    return descriptors / lengths
