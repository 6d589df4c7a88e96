"""How training went: losses and accuracies by epoch, from the history.csv of each phase."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pipeline.report.charts import Chart, Titles, draw_lines

LOSSES = {"train_loss": "train", "validation_loss": "validation"}
ACCURACIES = {"train_accuracy": "train", "validation_top1": "validation"}


def draw_histories(histories: Mapping[str, pd.DataFrame]) -> list[Chart]:
    """Two charts for each history (title -> a row per epoch): losses, and the share of images classified rightly."""
    charts = []
    for title, history in histories.items():
        for columns, words, span in ((LOSSES, "loss", None), (ACCURACIES, "share classified rightly", (0.0, 1.0))):
            lines = {name: _points(history, column) for column, name in columns.items() if column in history}
            titles = Titles(title, f"{words[0].upper()}{words[1:]} by epoch.", "epoch", words)
            charts.append(draw_lines(titles, lines, span))
    return [chart for chart in charts if chart is not None]


def _points(history: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    return list(zip(history["epoch"].astype(float), pd.to_numeric(history[column], errors="coerce"), strict=True))
