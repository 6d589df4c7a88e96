"""Scalars of the training for TensorBoard, beside the artifacts of a run, where runtime.tensorboard asks for them."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

FOLDER = "tensorboard"  # below outputs/<run>/


def require_tensorboard() -> None:
    """Raise PipelineError unless the package is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise PipelineError(
            "runtime.tensorboard needs the package tensorboard, which is not installed",
            "runtime.tensorboard",
            "pip install tensorboard, or set runtime.tensorboard = false",
        )


class Scalars:
    """The values of one artifact by step and by epoch: `tensorboard --logdir outputs/<run>/tensorboard` shows them."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))
        self._known = 0  # rows of the history

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add values at a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def follow(self, history: Path) -> None:
        """Add what a table with a row per epoch has got since the last call."""
        if not history.exists():
            return
        with open(history, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows[self._known :]:
            self.add(
                {f"epoch/{name}": float(value) for name, value in row.items() if value and name != "epoch"},
                int(row["epoch"]),
            )
        self._known = len(rows)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
