"""The judgements of a benchmark as a table: one record per judged pair of a query and an image, in every setup."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.arrays import Integers, Mask
from pipeline.competition.dataset import Dataset
from pipeline.competition.junk import Judgements
from pipeline.competition.metrics import Truth

JUDGEMENTS = "judgements.parquet"
COLUMNS = ("setup", "query", "image", "junk")


def renumber(judged: Judgements, kept_queries: Mask, kept_images: Mask) -> Judgements:
    """The judgements by rows of the split tables, which lack the photographs that could not be read.

    kept_queries (Q,), kept_images (N,): which photographs are in the tables. The others are numbered after all of
    those: a positive that no list can hold still counts as one to find, and a query without a list has found nothing.
    """
    new_query, new_image = _new_rows(kept_queries), _new_rows(kept_images)

    def move(truth: Truth) -> Truth:
        query = np.repeat(np.arange(len(truth)), truth.counts)
        return Truth.from_pairs(new_query[query], new_image[truth.values], len(truth))

    return Judgements(move(judged.positives), move(judged.junk))


def write_kept_judgements(
    folder: Path, setups: Mapping[str, Judgements], dataset: Dataset, rejected: Collection[str]
) -> None:
    """Write judgements.parquet by rows of the tables, which lack the `rejected` ids; nothing without setups."""
    kept = {name: np.array([i not in rejected for i in split.ids], bool) for name, split in dataset.splits.items()}
    if setups:
        renumbered = {name: renumber(judged, kept["test"], kept["index"]) for name, judged in setups.items()}
        write_judgements(folder / JUDGEMENTS, renumbered)


def write_judgements(path: Path, setups: Mapping[str, Judgements]) -> None:
    """Write the judgements of one or more setups, with the columns setup, query, image, junk."""
    parts = []
    for name, judged in setups.items():
        for junk, truth in ((False, judged.positives), (True, judged.junk)):
            queries = np.repeat(np.arange(len(truth)), truth.counts)
            parts.append(pd.DataFrame({"setup": name, "query": queries, "image": truth.values, "junk": junk}))
    table = pd.concat(parts, ignore_index=True)
    table.to_parquet(path, index=False)


def read_judgements(path: Path, queries: int) -> dict[str, Judgements]:
    """The judgements of each setup, in the order in which they were written.

    queries: the number of lists; the judgements may cover further queries after those.
    """
    table = pd.read_parquet(path, columns=list(COLUMNS))
    count = max(queries, int(table["query"].max()) + 1)
    setups = {}
    for name, records in table.groupby("setup", sort=False):
        parts = (records[records["junk"] == junk] for junk in (False, True))
        truths = [Truth.from_pairs(part["query"].to_numpy(), part["image"].to_numpy(), count) for part in parts]
        setups[str(name)] = Judgements(*truths)
    return setups


def _new_rows(kept: Mask) -> Integers:
    """The new row of every old one, (N,) int64: those kept first, in their order, then the others."""
    rows = np.empty(len(kept), np.int64)
    rows[np.argsort(~kept, kind="stable")] = np.arange(len(kept))
    return rows
