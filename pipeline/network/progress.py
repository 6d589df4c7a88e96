"""Where a training stands, and its history as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

COLUMNS = (
    "epoch",
    "steps",
    "train_loss",
    "local_loss",
    "train_accuracy",
    "validation_loss",
    "validation_top1",
    "learning_rate",
)


@dataclass
class Progress:
    """Where a training stands; with the tensors, all that a checkpoint has to hold."""

    epoch: int = 0
    step: int = 0  # within the epoch
    loss_sum: float = 0.0  # over the epoch's photographs so far
    local_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)


def history_csv(history: list[dict[str, float | int | None]]) -> str:
    """The history as CSV: no times in it, so that equal trainings write equal bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in history:
        values = (row[name] for name in COLUMNS)
        writer.writerow("" if v is None else v if isinstance(v, int) else f"{v:.6g}" for v in values)
    return text.getvalue()
