"""The memory of a device: how much is free, and how much of a kind of work fits into it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")
ASSUMED_FREE = 4 << 30  # bytes, for devices that cannot be asked


def count_free_bytes(device: torch.device) -> int:
    """The bytes that can still be allocated on the device, those that torch holds unused included."""
    if device.type != "cuda":
        return ASSUMED_FREE
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class MemoryLimit:
    """The greatest amount of one kind of work that is tried at once: halved by what did not fit, and then kept."""

    def __init__(self) -> None:
        self.most = float("inf")

    def run(self, work: Callable[[slice], Result], count: int, amount_each: float = 1.0) -> list[Result]:
        """The results of `work` on `count` items, in order, in as few parts as are thought to fit.

        amount_each: of an item, in the unit that all calls share, such as pixels. A part that does not fit is halved,
        and no later part of any call is as large. Raises torch.OutOfMemoryError if a single item does not fit.
        """
        results: list[Result] = []
        start = 0
        while start < count:
            size = int(max(1, min(count - start, self.most / amount_each)))
            try:
                results.append(work(slice(start, start + size)))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            else:
                start += size
                continue
            # Not in the except clause: the error holds on to the tensors of the part.
            self.most = size * amount_each / 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results
