"""Photographs in batches of one size: aspect-ratio groups, the order of an epoch, and the loading processes.

A batch has one size, (width, height), and every photograph goes to the size whose shape is nearest its own, so that
buildings are hardly squashed (Yokoo et al. 2020; worth 20 points of mAP against squares of one size).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.competition.tables import Box
from pipeline.errors import PipelineError
from pipeline.images.augment import Augmenter
from pipeline.images.decode import Size, UndecodableImage, crop_photograph, decode_photograph, resize_photograph

# (width, height) of each group, from wide to tall: the released settings of Yokoo et al. 2020.
TEMPLATES: dict[str, list[Size]] = {
    "SS": [(384, 256), (256, 256), (256, 384)],
    "SS2": [(480, 320), (480, 352), (384, 384), (352, 480), (320, 480)],
    "S": [(512, 384), (448, 448), (384, 512)],
    "S2": [(512, 352), (512, 384), (448, 448), (384, 512), (352, 512)],
    "SM2": [(736, 512), (704, 544), (608, 608), (544, 704), (512, 736)],
    "M": [(800, 608), (704, 704), (608, 800)],
    "M2": [(800, 544), (800, 608), (704, 704), (608, 800), (544, 800)],
    "L": [(800, 608), (800, 800), (608, 800)],
    "L2": [(800, 544), (800, 608), (800, 800), (608, 800), (544, 800)],
}
STRIDE = 32  # of the deepest feature map: a side that is no multiple of it would lose its edge


class PlannedBatch(NamedTuple):
    """What a loading process has to do: these rows, at this size, changed as in this epoch (None: not changed)."""

    rows: np.ndarray
    size: Size
    epoch: int | None = None


class LoadedBatch(NamedTuple):
    """images (B, 3, H, W) uint8 RGB, channels last in memory; rows (B,) int64, the row numbers of the photographs."""

    images: Tensor
    rows: Tensor


def template_sizes(template: str | Sequence[Size]) -> list[Size]:
    """The (width, height) of each group, from wide to tall, of a template's name or of an explicit list of any length.

    Raises PipelineError for an unknown name, and for sides that are no multiple of 32.
    """
    if isinstance(template, str) and template not in TEMPLATES:
        raise PipelineError(
            f"there is no template {template!r}",
            "template",
            f"take one of {', '.join(TEMPLATES)}, or a list of [width, height]",
        )
    sizes = TEMPLATES[template] if isinstance(template, str) else [(int(w), int(h)) for w, h in template]
    for width, height in sizes:
        if width % STRIDE or height % STRIDE:
            fitting = [max(1, round(side / STRIDE)) * STRIDE for side in (width, height)]
            raise PipelineError(
                f"the size {width} x {height} px does not fit the network", "template",
                f"sides are multiples of {STRIDE}: [{fitting[0]}, {fitting[1]}]",
            )  # fmt: skip
    return sorted(sizes, key=lambda size: size[1] / size[0])


def assign_groups(aspect_ratios: np.ndarray, sizes: Sequence[Size]) -> np.ndarray:
    """The group of each photograph: the size whose height / width is nearest by ratio; ties go to the wider.

    aspect_ratios: (N,) height / width  ->  (N,) int64 positions in `sizes`.
    The published code cuts the ratios at fixed bins, one list for three groups and one for five. The nearest ratio
    needs none, serves any number of groups, sends the shapes that cameras make (2:3, 3:4, square) where the bins do,
    and never squashes more than they.
    """
    shapes = np.log([height / width for width, height in sizes])
    return np.abs(np.log(aspect_ratios)[:, None] - shapes).argmin(axis=1)


def plan_training_epoch(
    aspect_ratios: np.ndarray, sizes: Sequence[Size], batch_size: int, seed: int, epoch: int
) -> list[PlannedBatch]:
    """The batches of one epoch, in an order made of (seed, epoch): every photograph once, every batch of one size.

    What is left of a group when its full batches are taken rides with the next taller group. (The published code drops
    it: nothing among millions of images, a twentieth of a small set.) So all batches are full but the last of all,
    and a single photograph joins another batch: BatchNorm cannot learn from one.
    To go on at step n of an epoch, skip the first n batches.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(aspect_ratios))
    groups = assign_groups(np.asarray(aspect_ratios)[order], sizes)
    batches: list[PlannedBatch] = []
    rest = order[:0]
    for group, size in enumerate(sizes):
        rows = np.concatenate([rest, order[groups == group]])  # those that rode along are first: they ride once
        full = len(rows) // batch_size * batch_size
        batches += [PlannedBatch(rows[at : at + batch_size], size, epoch) for at in range(0, full, batch_size)]
        rest = rows[full:]
    if len(rest) == 1 and batches:
        last = batches.pop()
        batches.append(last._replace(rows=np.concatenate([last.rows, rest])))
    elif len(rest):
        batches.append(PlannedBatch(rest, sizes[-1], epoch))
    shuffled = np.random.default_rng((seed, epoch, len(batches))).permutation(len(batches))
    return [batches[at] for at in shuffled]


def plan_evaluation(aspect_ratios: np.ndarray, sizes: Sequence[Size], batch_size: int) -> list[PlannedBatch]:
    """All photographs once, group by group in row order, nothing dropped and nothing random."""
    groups = assign_groups(np.asarray(aspect_ratios), sizes)
    plan = []
    for group, size in enumerate(sizes):
        rows = np.flatnonzero(groups == group)
        plan += [PlannedBatch(rows[at : at + batch_size], size) for at in range(0, len(rows), batch_size)]
    return plan


def group_by_size(sizes: Sequence[Size], batch_size: int) -> list[PlannedBatch]:
    """All photographs once, those of one (width, height) together, sizes in the order in which they first occur."""
    groups: dict[Size, list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(size, []).append(row)
    return [
        PlannedBatch(np.array(rows[start : start + batch_size]), size)
        for size, rows in groups.items()
        for start in range(0, len(rows), batch_size)
    ]


def load_batches(
    paths: Sequence[Path],
    plan: Iterable[PlannedBatch],
    augmenter: Augmenter | None = None,
    workers: int = 0,
    boxes: Sequence[Box] | None = None,
) -> Iterator[LoadedBatch]:
    """The planned batches, loaded, in the order of the plan, whatever the number of loading processes.

    boxes: the part of each photograph that is loaded, in its pixels; None = all of it.

    A whole batch is loaded by one process: no collation, and the plan travels with the request, so that one set of
    processes serves all epochs. Raises PipelineError (exit code 3) that names a file that does not decode.
    """
    loader = DataLoader(
        _Photographs(paths, augmenter, boxes),
        sampler=plan,  # any iterable: torch reads it a few batches ahead
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # its own, or making a loader would advance the global one
    )
    try:
        for batch in loader:
            if isinstance(batch, PipelineError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise PipelineError(
            f"a loading process died: {str(error).splitlines()[0]}",
            "runtime.workers",
            "it was short of memory or of /dev/shm: lower runtime.workers, then run the same command again",
            exit_code=1,
        ) from error


@dataclass(frozen=True)
class _Photographs(Dataset):
    """Indexed by a PlannedBatch. What goes wrong is returned as a value: raised, torch would lose its type."""

    paths: Sequence[Path]
    augmenter: Augmenter | None
    boxes: Sequence[Box] | None = None

    def __getitem__(self, planned: PlannedBatch) -> LoadedBatch | PipelineError:
        try:
            images = np.stack([self._load(int(row), planned) for row in planned.rows])
        except PipelineError as error:
            return error
        rows = planned.rows.astype(np.int64)
        return LoadedBatch(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(rows))

    def _load(self, row: int, planned: PlannedBatch) -> np.ndarray:
        path = Path(self.paths[row])
        try:
            if self.boxes is None:
                image = decode_photograph(path, wanted=planned.size)
            else:
                image = crop_photograph(decode_photograph(path), self.boxes[row])
            image = resize_photograph(image, planned.size)
        except UndecodableImage as error:
            raise PipelineError(
                f"a photograph that was readable no longer is: {error}", path,
                "restore the file, or run stage 01 again so that it is listed as rejected", exit_code=3,
            ) from None  # fmt: skip
        if self.augmenter is None or planned.epoch is None:
            return image
        return self.augmenter(image, planned.epoch, row)


def _unchanged(batch: object) -> object:
    return batch


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(0)  # the processes are the parallelism: threads inside each would only compete
