"""Which weights a training leaves: the last ones, their moving average, or those of the epoch that validates best."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.settings import PhaseSettings

WARM_UP_STEPS = 10  # of the average, which starts as a plain mean of the first steps


class KeptWeights:
    """The moving average of a network's weights, if the phase asks for one, and the best epoch's, likewise.

    The average of weights w is a, after each step a + (1 - d)(w - a), BatchNorm statistics included; d is
    average_decay, or (1 + t) / (10 + t) in the first steps t, where that is less (as in TensorFlow's). The best epoch
    is that of the highest top-1 accuracy, of the lower loss where equal, of the earlier one where both are.
    """

    def __init__(self, network: nn.Module, phase: PhaseSettings):
        self._network, self._decay, self._keeps_best = network, phase.average_decay, phase.keep == "best"
        self._average = self._copy() if self._decay else None
        self._best: dict[str, Tensor] = {}
        self._score: list[float] = []  # top-1 accuracy and negative loss of the best epoch

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take the weights after so many optimiser steps into the average."""
        if self._average is None:
            return
        decay = min(self._decay, (1 + steps) / (WARM_UP_STEPS + steps))
        for name, value in self._network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1.0 - decay)
            else:
                self._average[name].copy_(value)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The network has the averaged weights inside, and its own again after."""
        if self._average is None:
            yield
            return
        own = self._copy()
        self._network.load_state_dict(self._average)
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def judge(self, loss: float | None, top1: float | None) -> None:
        """Keep the weights of the epoch that has just been validated if it is the best so far."""
        if not self._keeps_best or loss is None or top1 is None:
            return
        score = [top1, -loss]
        if not self._score or score > self._score:
            weights = self._copy() if self._average is None else self._average
            self._best = {name: value.cpu().clone() for name, value in weights.items()}
            self._score = score

    def finish(self) -> None:
        """Give the network the weights to keep."""
        kept = self._best or self._average
        if kept:
            self._network.load_state_dict(kept)

    def state(self) -> dict[str, Any]:
        """What a training state has to hold of it."""
        return {"average": self._average or {}, "best": self._best, "score": self._score}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        for name, value in state["average"].items():
            if self._average is not None:
                self._average[name].copy_(value)
        self._best, self._score = state["best"], state["score"]

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._network.state_dict().items()}
