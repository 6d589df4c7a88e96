"""Batches on the device that computes on them, the next one copied while this one is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.images.loaded_batch import LoadedBatch

AHEAD = 2  # batches that a GPU may be behind: then it never waits for the next one, nor holds the pixels of many


def copy_ahead(batches: Iterator[LoadedBatch], device: torch.device) -> Iterator[LoadedBatch]:
    """The batches with their images on the device, in their order; the rows stay. On a CPU the batches as they are.

    On a GPU the copies have a stream of their own: before a batch is yielded, the one after it is loaded and its copy
    begun. The caller is held back once the device is two batches behind.
    """
    if device.type == "cpu":
        yield from batches
        return
    copies = _Copies(device)
    for batch in batches:
        copies.begin(batch)
        if len(copies.begun) > 1:
            yield copies.finish()
            copies.limit_lag()
    if copies.begun:
        yield copies.finish()


class _Copies:
    """Copies of batches to a device, on a stream beside the one that computes where the device has streams."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._used: deque[Any] = deque()  # an event per batch, behind all that the caller computes from it
        self.begun: deque[tuple[LoadedBatch, Any]] = deque()  # and an event behind its copy

    def begin(self, batch: LoadedBatch) -> None:
        """Begin the copy of a batch. Page-locked pixels are copied without waiting."""
        with torch.cuda.stream(self._stream):
            copied = batch._replace(images=batch.images.to(self._device, non_blocking=True))
        self.begun.append((copied, self._stream.record_event() if self._stream else None))

    def finish(self) -> LoadedBatch:
        """The first batch that was begun; the computing stream waits for its copy."""
        batch, arrived = self.begun.popleft()
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(arrived)
            batch.images.record_stream(current)  # its memory is not used again before the computing stream has read it
        return batch

    def limit_lag(self) -> None:
        """Wait until the device has computed all but the last batches that were used."""
        if self._stream is not None:
            self._used.append(torch.cuda.current_stream(self._device).record_event())
            if len(self._used) > AHEAD:
                self._used.popleft().synchronize()
