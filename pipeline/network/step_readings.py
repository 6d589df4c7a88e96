"""What a training step computed, read without waiting for the GPU: there one step later."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.network.landmark_network import Losses


class Reading(NamedTuple):
    """The values of a part of a step. rows: of its images in the training set. images: how many of them count here."""

    loss: float
    local: float
    correct: int
    rows: list[int]
    images: int


class StepReadings:
    """Copies of the losses of each step, which are read when the device has computed them anyway."""

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._copied: tuple[Tensor, list[list[int]], bool, torch.cuda.Event | None] | None = None

    def exchange(self, parts: list[tuple[Losses, list[int]]], counted: bool = True) -> list[Reading]:
        """The readings of the parts of this step, each with its rows; on a GPU those of the step before.

        counted: whether the images count here, or are another rank's too, where they do.
        """
        values = torch.stack([torch.stack([one.double() for one in losses]).detach() for losses, _ in parts])
        before = self.finish() if self._on_gpu else []
        event = None
        if self._on_gpu:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._copied = values, [rows for _, rows in parts], counted, event
        return before if self._on_gpu else self.finish()

    def finish(self) -> list[Reading]:
        """What has not been read yet."""
        if self._copied is None:
            return []
        (values, rows, counted, event), self._copied = self._copied, None
        if event is not None:
            event.synchronize()
        return [
            Reading(loss, local, int(correct) * counted, own, len(own) * counted)
            for (loss, local, correct), own in zip(values.tolist(), rows, strict=True)
        ]
