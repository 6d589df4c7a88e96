"""A backbone that is not trained: folded for evaluation, on a CPU with one thread per core."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.device import mixed_precision
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.network.backbone import Backbone
from pipeline.network.backbones.body import Maps
from pipeline.network.even_batches import images_at_once
from pipeline.network.folding import fold_for_evaluation
from pipeline.processes import open_thread_pool


class ComputedBatch(NamedTuple):
    """A loaded batch with what the backbone made of its pixels. maps: (B, ...) each, by name; none for no images."""

    maps: Maps
    rows: Tensor
    bad: tuple[tuple[int, str], ...] = ()


class FrozenBackbone:
    """The maps of images without gradients. Open it before it is used: on a CPU, its threads live until it is closed.

    Threads that compute small batches of their own need less time than threads that share every layer.
    """

    def __init__(self, backbone: Backbone, device: torch.device, precision: str):
        self._folded = fold_for_evaluation(backbone, device, precision)
        self._device, self._precision = device, precision
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> FrozenBackbone:
        if self._device.type == "cpu":
            self._pool = open_thread_pool()
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def run_ahead(self, batches: Iterator[LoadedBatch]) -> Iterator[ComputedBatch]:
        """The batches with their maps, on the device, in their order.

        On a CPU the maps of the next batch are begun before one is yielded: no core waits while the caller uses it.
        """
        begun: deque[tuple[LoadedBatch, Callable[[], Maps]]] = deque()
        for batch in copy_ahead(batches, self._device):
            begun.append((batch, self._begin(batch.images)))
            if len(begun) > 1:
                yield _finish(*begun.popleft())
        if begun:
            yield _finish(*begun.popleft())

    def _begin(self, images: Tensor) -> Callable[[], Maps]:
        """What gives the maps of images (B, 3, H, W) uint8."""
        if not len(images):
            return dict
        if self._pool is None:
            return partial(self._compute, images)
        parts = images.split(images_at_once(images.shape[-2], images.shape[-1]))
        futures = [self._pool.submit(self._compute, part) for part in parts]
        return lambda: _join([future.result() for future in futures])

    @torch.no_grad()
    def _compute(self, images: Tensor) -> Maps:
        with mixed_precision(self._device, self._precision):
            return self._folded(images)


def _finish(batch: LoadedBatch, compute: Callable[[], Maps]) -> ComputedBatch:
    return ComputedBatch(compute(), batch.rows, batch.bad)


def _join(parts: list[Maps]) -> Maps:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
