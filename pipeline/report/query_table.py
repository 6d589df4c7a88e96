"""All test images in one table: what each shows, what it was taken for, and how well its list is; for queries.csv and
the search on the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.arrays import NO_LABEL
from pipeline.competition.metrics import Truth
from pipeline.images.split import Split
from pipeline.ranking.calibration import Calibration, to_probabilities
from pipeline.ranking.recognition import Recognition
from pipeline.report.answers import name_landmark
from pipeline.report.charts import Chart, Titles, draw_bars
from pipeline.report.measures import JudgedRanking

BARS = 400  # of the chart of gains
GAINS_TEXT = (
    "Points of average precision that a query gained from the recipe's first step to its last, sorted. A bright bar "
    "leads to its query."
)


def tabulate_queries(
    test: Split,
    judged: JudgedRanking | None,
    recognition: Recognition | None,
    right: Truth | None,
    calibration: Calibration = Calibration(None),
) -> pd.DataFrame:
    """A row per test image: id, shows (landmarks, spaces between), taken_for, confidence, probability (of being right),
    to_find, ap_first, ap_last.

    Columns that nobody knows are left out; a query that is not scored has no precisions.
    """
    columns: dict[str, Any] = {"id": test.table["id"].to_numpy()}
    if right is not None:
        columns["shows"] = [" ".join(map(str, right.of(row).tolist())) for row in range(len(test))]
    if recognition is not None:
        columns["taken_for"] = ["" if label == NO_LABEL else str(label) for label in recognition.labels.tolist()]
        columns["confidence"] = recognition.scores
        if calibration.slope is not None:
            chances = to_probabilities(recognition.scores, calibration)
            columns["probability"] = np.where(recognition.labels == NO_LABEL, 0.0, chances)
    if judged is not None:
        columns["to_find"] = judged.truth.counts[: len(test)]
        columns["ap_first"], columns["ap_last"] = (judged.steps[at].precisions for at in (0, -1))
    return pd.DataFrame(columns)


def list_found(queries: pd.DataFrame, names: Mapping[int, str], shown: Collection[int], limit: int) -> dict[str, Any]:
    """The first `limit` rows for the search on the page, as plain JSON values; landmarks by name.

    shown: the test rows that the page has photographs of, at #q<row>.
    """
    few = queries.head(limit)
    lists: dict[str, list[Any]] = {}
    for column in map(str, few):
        values = few[column].tolist()
        if column in ("shows", "taken_for"):
            values = [", ".join(name_landmark(int(one), names) for one in text.split()) for text in values]
        elif column not in ("id", "to_find"):
            values = [None if np.isnan(value) else round(value, 3) for value in values]
        lists[column] = values
    return {"columns": list(lists), "rows": list(zip(*lists.values(), strict=True)), "shown": sorted(shown)}


def draw_gains(judged: JudgedRanking, test: Split, shown: Collection[int]) -> Chart | None:
    """A bar per query, of its gain; of more than BARS queries, evenly spaced ones and all that are shown."""
    first, last = judged.steps[0].precisions, judged.steps[-1].precisions
    change = 100 * (last - first)
    scored = np.flatnonzero(np.isfinite(change))
    order = scored[np.argsort(-change[scored], kind="stable")]
    spaced = np.linspace(0, len(order) - 1, min(BARS, len(order))).round().astype(int)
    order = order[np.isin(order, [*order[spaced].tolist(), *shown])]
    ids = test.table["id"]
    texts = [f"{ids.iloc[row]}: {change[row]:+.1f} points, AP {last[row]:.2f}" for row in order.tolist()]
    links = [f"q{row}" if row in shown else "" for row in order.tolist()]
    count = f"{len(order)} of {len(scored)} queries" if len(order) < len(scored) else f"{len(scored)} queries"
    return draw_bars(Titles("Gain per query", GAINS_TEXT, count, "points"), change[order], texts, links)
