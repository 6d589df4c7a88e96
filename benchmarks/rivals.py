"""Rivals timed in one process, in turn, so that a busy machine slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping


def best_seconds(methods: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor time of each method over the rounds, in seconds."""
    best = dict.fromkeys(methods, math.inf)
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.process_time()
            method()
            best[name] = min(best[name], time.process_time() - start)
    return best
