"""How each landmark fares: how well its test images find others of it, how often and for what they are mistaken."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.arrays import NO_LABEL, Doubles, Labels
from pipeline.competition.evaluation import Part
from pipeline.report.answers import name_landmark
from pipeline.report.tables import Table

COLUMNS = ["landmark", "test_images", "map_at_100", "recognised", "mistaken_for", "mistaken"]
SHOWN = 15  # landmarks in the report, the hardest


def measure_landmarks(part: Part, labels: Labels, precisions: Doubles | None) -> pd.DataFrame:
    """A row for each landmark of the recognition solution, the hardest first, with the COLUMNS.

    part: its test rows and their landmarks. labels (T,): the answers by test row. precisions (T,): the average
    precision of each test row by the recipe, NaN where it is not scored; None = retrieval is not scored.
    recognised: the share of its test images that were given it. mistaken_for: the landmark that the others were given
    most often, NO_LABEL for none; mistaken: how many were given that.
    """
    image = np.repeat(part.queries, part.truth.counts)  # -1: could not be read, and so has no answer
    known = image >= 0
    shown = pd.DataFrame({"landmark": part.truth.values})
    shown["answer"] = np.where(known, labels[image], NO_LABEL) if len(labels) else NO_LABEL
    shown["precision"] = np.where(known, precisions[image], np.nan) if precisions is not None else np.nan
    shown["right"] = shown["answer"] == shown["landmark"]
    groups = shown.groupby("landmark")
    table = groups.agg(test_images=("right", "size"), map_at_100=("precision", "mean"), recognised=("right", "mean"))
    wrong = shown[~shown["right"]].groupby(["landmark", "answer"]).size().rename("mistaken").reset_index()
    wrong = wrong.sort_values(["landmark", "mistaken", "answer"], ascending=[True, False, True])
    first = wrong.drop_duplicates("landmark").rename(columns={"answer": "mistaken_for"}).set_index("landmark")
    table = table.join(first).fillna({"mistaken_for": NO_LABEL, "mistaken": 0}).reset_index()
    table = table.astype({"mistaken_for": np.int64, "mistaken": np.int64})[COLUMNS]
    return table.sort_values(["map_at_100", "recognised", "landmark"], ignore_index=True)


def tabulate_landmarks(measured: pd.DataFrame, names: Mapping[int, str]) -> Table:
    """The hardest landmarks for the report."""
    text = (
        "The landmarks whose test photographs find others of theirs the worst. Recognised is the share of them that "
        "was given the landmark; the last column says what the others were taken for most often. All are in "
        "landmarks.csv."
    )
    rows = []
    for one in measured.head(SHOWN).to_dict("records"):
        mistaken = "no landmark" if one["mistaken_for"] == NO_LABEL else name_landmark(one["mistaken_for"], names)
        precision = "" if np.isnan(one["map_at_100"]) else f"{one['map_at_100']:.3f}"
        taken = f"{mistaken} ({one['mistaken']})" if one["mistaken"] else ""
        name = name_landmark(one["landmark"], names)
        rows.append([name, str(one["test_images"]), precision, f"{one['recognised']:.2f}", taken])
    columns = ["landmark", "test photographs", "mAP@100", "recognised", "mistaken for"]
    return Table("Landmarks", text, columns, rows)
