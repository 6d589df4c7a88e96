"""A backbone that is not trained: folded for evaluation, on a CPU with one thread per core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pipeline.device import mixed_precision
from pipeline.network.backbone import Backbone
from pipeline.network.data_parallel import Maps
from pipeline.network.even_batches import images_at_once
from pipeline.network.folding import fold_for_evaluation
from pipeline.processes import open_thread_pool


class FrozenBackbone:
    """The maps of images without gradients. Open it before it is called: on a CPU, its threads live until it is closed.

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

    def __call__(self, images: Tensor) -> Maps:
        """images: (B, 3, H, W) uint8 on the device, B > 0  ->  the maps of the backbone for them."""
        if self._pool is None:
            return self._compute(images)
        parts = list(self._pool.map(self._compute, images.split(images_at_once(images.shape[-2], images.shape[-1]))))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def _compute(self, images: Tensor) -> Maps:
        with mixed_precision(self._device, self._precision):
            return self._folded(images)
