"""Aspect-ratio bucketing: all images of a batch have one size; the order of an epoch.

Every image is resized to the size (width, height) whose aspect ratio is nearest its own, so that buildings are hardly
distorted (Yokoo et al. 2020; worth 20 points of mAP compared with squares of one size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Integers
from pipeline.errors import PipelineError
from pipeline.images.decode import Size

# (width, height) of each bucket, from wide to tall: the released settings of Yokoo et al. 2020.
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
STRIDE = 32  # of the deepest feature map: an image whose sides are not multiples of it would lose its edge


class PlannedBatch(NamedTuple):
    """The images that a loading process reads: their rows, size, and the epoch to augment for (None: not augmented)."""

    rows: np.ndarray
    size: Size
    epoch: int | None = None


def template_sizes(template: str | Sequence[Size]) -> list[Size]:
    """The (width, height) of each bucket, from wide to tall, by a template's name or by an explicit list of any length.

    Raises PipelineError for an unknown name, and for sides that are not multiples of 32.
    """
    if isinstance(template, str) and template not in TEMPLATES:
        raise PipelineError(
            f"there is no template {template!r}",
            "template",
            f"choose one of {', '.join(TEMPLATES)}, or a list of [width, height]",
        )
    sizes = TEMPLATES[template] if isinstance(template, str) else [(int(w), int(h)) for w, h in template]
    for width, height in sizes:
        if width % STRIDE or height % STRIDE:
            fitting = [max(1, round(side / STRIDE)) * STRIDE for side in (width, height)]
            what = f"the size {width} x {height} px does not fit the network"
            raise PipelineError(what, "template", f"sides are multiples of {STRIDE}: [{fitting[0]}, {fitting[1]}]")
    return sorted(sizes, key=lambda size: size[1] / size[0])


def assign_buckets(aspect_ratios: np.ndarray, sizes: Sequence[Size]) -> np.ndarray:
    """The bucket of each image: the size with the nearest aspect ratio, on a logarithmic scale; ties go to the wider.

    aspect_ratios: (N,) height / width  ->  (N,) int64 positions in `sizes`.
    The published code divides the ratios at fixed thresholds, one list for three buckets and one for five. The nearest
    ratio needs no thresholds, works for any number of buckets, assigns the shapes that cameras produce (2:3, 3:4,
    square) to the same buckets, and never distorts more.
    """
    shapes = np.log([height / width for width, height in sizes])
    return np.abs(np.log(aspect_ratios)[:, None] - shapes).argmin(axis=1)


def plan_training_epoch(
    aspect_ratios: np.ndarray, sizes: Sequence[Size], batch_size: int, seed: int, epoch: int, copies: int = 0
) -> list[PlannedBatch]:
    """The batches of one epoch, in an order drawn from (seed, epoch): every image once, every batch of one size.

    Leftovers of a bucket after its full batches are merged into the next (taller) bucket. (The published code drops
    them, which is nothing among millions of images, but a twentieth of a small set.) So at most one batch is not full,
    and a single leftover image joins another batch, because BatchNorm cannot be trained on one image. To resume at step
    n of an epoch, skip the first n batches.
    copies: if > 0, the images are augmented as in the epoch modulo `copies`, and every image keeps its size in all
    epochs: leftovers stay in their bucket.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(aspect_ratios))
    buckets = assign_buckets(np.asarray(aspect_ratios)[order], sizes)
    if copies:
        batches = _cut_buckets(order, buckets, sizes, batch_size, epoch % copies)
    else:
        batches = _fill_buckets(order, buckets, sizes, batch_size, epoch)
    shuffled = np.random.default_rng((seed, epoch, len(batches))).permutation(len(batches))
    return [batches[position] for position in shuffled]


def _fill_buckets(
    order: np.ndarray, buckets: np.ndarray, sizes: Sequence[Size], batch_size: int, epoch: int
) -> list[PlannedBatch]:
    """Full batches, the leftovers of a bucket before the images of the next."""
    batches: list[PlannedBatch] = []
    leftover = order[:0]
    for bucket, size in enumerate(sizes):
        rows = np.concatenate([leftover, order[buckets == bucket]])  # leftovers first: into the next full batch
        full = len(rows) // batch_size * batch_size
        batches += [PlannedBatch(rows[start : start + batch_size], size, epoch) for start in range(0, full, batch_size)]
        leftover = rows[full:]
    if len(leftover) == 1 and batches:
        last = batches.pop()
        batches.append(last._replace(rows=np.concatenate([last.rows, leftover])))
    elif len(leftover):
        batches.append(PlannedBatch(leftover, sizes[-1], epoch))
    return batches


def _cut_buckets(
    order: np.ndarray, buckets: np.ndarray, sizes: Sequence[Size], batch_size: int, copy: int
) -> list[PlannedBatch]:
    """Batches of one bucket each, the last of a bucket smaller, or larger by an image that would be alone.

    An image that is the only one of its bucket is in no batch of its own: it goes to the largest bucket.
    """
    counts = np.bincount(buckets, minlength=len(sizes))
    buckets = np.where(counts[buckets] == 1, counts.argmax(), buckets)
    batches = []
    for bucket, size in enumerate(sizes):
        rows = order[buckets == bucket]
        cuts = [start for start in range(batch_size, len(rows), batch_size) if len(rows) - start > 1]
        batches += [PlannedBatch(part, size, copy) for part in np.split(rows, cuts) if len(part)]
    return batches


def plan_evaluation(aspect_ratios: np.ndarray, sizes: Sequence[Size], batch_size: int) -> list[PlannedBatch]:
    """Batches of all images, bucket by bucket in the order of rows; nothing is dropped and nothing is random."""
    buckets = assign_buckets(np.asarray(aspect_ratios), sizes)
    batches = []
    for bucket, size in enumerate(sizes):
        rows = np.flatnonzero(buckets == bucket)
        batches += [PlannedBatch(rows[start : start + batch_size], size) for start in range(0, len(rows), batch_size)]
    return batches


def group_by_size(sizes: Integers, batch_size: int) -> list[PlannedBatch]:
    """Batches of all images, those of one size together, in the order in which sizes first occur.

    sizes: (N, 2) width and height.
    """
    rows_of: dict[Size, list[int]] = {}
    for row, (width, height) in enumerate(sizes.tolist()):
        rows_of.setdefault((width, height), []).append(row)
    return [
        PlannedBatch(np.array(rows[start : start + batch_size]), size)
        for size, rows in rows_of.items()
        for start in range(0, len(rows), batch_size)
    ]
