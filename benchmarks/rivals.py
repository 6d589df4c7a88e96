"""Rivals timed in one process, in turn and on one thread, so that a busy machine slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import cv2
import torch
from threadpoolctl import threadpool_limits


def use_one_thread() -> None:
    """Limit torch, OpenCV, and the linear algebra of NumPy and SciPy to one thread, in all of this process.

    OpenBLAS lets its idle threads spin for a while, which a clock of processor time would charge to the next rival.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1)


def best_seconds(methods: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor time of each method over the rounds, in seconds."""
    best = dict.fromkeys(methods, math.inf)
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.process_time()
            method()
            best[name] = min(best[name], time.process_time() - start)
    return best
