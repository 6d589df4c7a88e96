"""What the report says of near-duplicates between the test photographs and those that were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.report.answers import name_landmark
from pipeline.report.tables import Table

SHOWN = 20  # pairs that the page lists; the file has all
TEXT = (
    "{test} of the test photographs have {train} near-duplicates among the train photographs (similarity from "
    "{limit:g}): what a score owes to them, it owes to memory. Of each test photograph only its nearest train "
    "photographs are compared. data.leave_out = the path of overlap.csv trains without them."
)


def read_overlap(path: Path) -> pd.DataFrame:
    """The pairs that stage 06 listed: test, train, landmark, similarity."""
    return pd.read_csv(path, dtype={"test": str, "train": str}, keep_default_na=False)


def count_overlap(pairs: pd.DataFrame) -> dict[str, int]:
    """How many photographs of either split have a near-duplicate in the other."""
    return {split: int(pairs[split].nunique()) for split in ("test", "train")}


def tabulate_overlap(pairs: pd.DataFrame | None, limit: float, names: Mapping[int, str]) -> Table | None:
    """The most similar pairs, as a table; None where there are none. names: of landmarks, where they have some."""
    if pairs is None or not len(pairs):
        return None
    text = TEXT.format(**count_overlap(pairs), limit=limit)
    if len(pairs) > SHOWN:
        text += f" The {SHOWN} most similar of {len(pairs)} pairs; overlap.csv has all."
    shown = pairs.sort_values("similarity", ascending=False, kind="stable").head(SHOWN)
    rows = [
        [str(row["test"]), str(row["train"]), name_landmark(row["landmark"], names), f"{row['similarity']:.3f}"]
        for row in shown.to_dict("records")
    ]
    return Table("Near-duplicates in train", text, list(pairs.columns), rows, True)
