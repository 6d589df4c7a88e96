"""Copies of arrays on a device, by way of page-locked memory where the device is a GPU: a copy from there waits for
nothing, so that the next piece is read while one travels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Vectors
from pipeline.matching.blocks import as_tensor

PIECE_BYTES = 64 << 20


class Staging:
    """Two page-locked buffers for pieces of an array, used in turns."""

    def __init__(self, device: torch.device, shape: tuple[int, ...], dtype: torch.dtype):
        self._locks = device.type == "cuda"
        self._buffers = [torch.empty(shape, dtype=dtype, pin_memory=self._locks) for _ in range(2)]
        self._copied: list[Any] = [None, None]

    def next(self, length: int) -> Tensor:
        """The first `length` rows of the buffer whose turn it is, once its last copy has arrived."""
        self._buffers.reverse()
        self._copied.reverse()
        if self._copied[0] is not None:
            self._copied[0].synchronize()
        return self._buffers[0][:length]

    def send(self, piece: Tensor, target: Tensor) -> None:
        """Copy what `next` gave, filled, to the target on the device, on the current stream."""
        target.copy_(piece, non_blocking=True)
        if self._locks:
            self._copied[0] = torch.cuda.Event()
            self._copied[0].record()


def fill_rows(target: Tensor, vectors: Vectors, start: int) -> None:
    """Copy the rows of `vectors` from `start` on into the target (n, D) float32 on a device, read in pieces."""
    width = target.shape[1]
    rows = max(1, PIECE_BYTES // (4 * max(1, width)))
    staging = Staging(target.device, (min(rows, len(target)), width), target.dtype)
    for first in range(0, len(target), rows):
        stop = min(first + rows, len(target))
        piece = staging.next(stop - first)
        np.copyto(piece.numpy(), vectors[start + first : start + stop], casting="same_kind")
        staging.send(piece, target[first:stop])


def upload(values: NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device."""
    return as_tensor(values).to(device)
