"""The photographs that a run left out: refused by the inspection of stage 01, or unreadable in the work after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.images.inspection import Tolerance
from pipeline.report.tables import Table

COLUMNS = ["split", "path", "stage", "reason"]
SHOWN = 100  # photographs that the page lists; the files have all
TEXT = (
    "Photographs that could not be used, and are in no training and in no list. {counts}. "
    "Restored files are used when the same command runs again."
)


class LeftOutFile(NamedTuple):
    """A rejected.csv of the run. stage: which work left the images out. split: None where the file names it."""

    path: Path
    stage: str
    split: str | None = None


class LeftOut(NamedTuple):
    """images: split, id, path, reason, and the stages that left the image out, as text.

    counts: for each split how many of its files were left out, of how many, and the share that is tolerated.
    """

    images: pd.DataFrame
    counts: dict[str, dict[str, int | float]]

    def describe(self) -> str:
        """How many files of each split were left out, in words; empty where none was."""
        return ", ".join(
            f"{one['left_out']} of {one['files']} {split} files (allowed: {100 * one['max_bad_fraction']:g} %)"
            for split, one in self.counts.items()
            if one["left_out"]
        )


NOTHING_LEFT_OUT = LeftOut(pd.DataFrame(columns=["split", "id", "path", "reason", "stage"], dtype=str), {})


def read_left_out(files: Sequence[LeftOutFile], tolerances: Sequence[Tolerance]) -> LeftOut:
    """Every image that was left out, counted for the splits of the tolerances.

    An image that several works could not read is one row, with the reason of the first and the stages of all.
    """
    read = []
    for file in files:
        table = pd.read_csv(file.path, dtype=str, keep_default_na=False).assign(stage=file.stage)
        read.append(table if file.split is None else table.assign(split=file.split))
    by_image = pd.concat([NOTHING_LEFT_OUT.images, *read]).groupby(["split", "id"], sort=False)
    images = by_image.agg({"path": "first", "reason": "first", "stage": _join_names}).reset_index()
    found = images["split"].value_counts()
    counts = {
        one.split: {"left_out": int(found.get(one.split, 0)), "files": one.files, "max_bad_fraction": one.max_fraction}
        for one in tolerances
    }
    return LeftOut(images, counts)


def tabulate_left_out(left_out: LeftOut) -> Table | None:
    """The first images that were left out, as a table; None where none was."""
    images = left_out.images
    if not len(images):
        return None
    text = TEXT.format(counts=left_out.describe())
    if len(images) > SHOWN:
        text += f" The first {SHOWN} of {len(images)}; every artifact lists its own in rejected.csv."
    return Table("Photographs left out", text, COLUMNS, images[COLUMNS].head(SHOWN).values.tolist(), True)


def _join_names(names: pd.Series) -> str:
    return ", ".join(dict.fromkeys(names))
