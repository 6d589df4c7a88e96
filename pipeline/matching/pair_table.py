"""Compared pairs of photographs as a table: query row, split, row, matches, inliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.competition.judgement_table import JUDGEMENTS, read_judgements
from pipeline.competition.junk import remove_junk
from pipeline.competition.metrics import Truth
from pipeline.config import Config
from pipeline.features.store import Arrays, write_in_shards
from pipeline.matching.verification import FeatureRows, verify_pairs
from pipeline.settings import VerifySettings
from pipeline.task_context import TaskContext

PAIRS = "pairs.parquet"


def verify_split(
    task: TaskContext,
    queries: FeatureRows,
    base: FeatureRows,
    pairs: NDArray[np.integer],
    longer_sides: NDArray[np.number],
    split: str,
    settings: VerifySettings,
    device: torch.device,
) -> NDArray[np.int32]:
    """The inliers (P,) of the pairs (P, 2) of query and base rows, also written with the matches as pairs.parquet.

    longer_sides: (N,) px of the base photographs, of which `inlier_threshold` is a share. split: what the base is. Goes on
    behind the last shard after a kill.
    """
    limits = settings.inlier_threshold * longer_sides

    def make(start: int, stop: int) -> Arrays:
        asked = pairs[start:stop]
        found = verify_pairs(
            queries, base, asked, limits[asked[:, 1]],
            min_similarity=settings.min_similarity,
            max_ratio=settings.max_ratio if settings.max_ratio < 1.0 else None,
            max_iterations=settings.max_iterations,
            device=None if device.type == "cpu" else device,
        )  # fmt: skip
        return found._asdict()

    with task.progress(len(pairs), "pairs") as bar:
        write_in_shards(
            task.scratch, task.scratch, len(pairs), settings.shard_pairs, make, bar.update, task.should_stop
        )
    counts = {name: np.load(task.scratch / f"{name}.npy") for name in ("matches", "inliers")}
    query, row = (pairs[:, side].astype(np.int32) for side in (0, 1))
    splits = pd.Categorical.from_codes(np.zeros(len(pairs), np.int8), pd.Index([split]))  # also where there is no pair
    table = pd.DataFrame({"query": query, "split": splits, "row": row, **counts})
    table.to_parquet(task.folder / PAIRS, index=False)
    return counts["inliers"]


def list_neighbours(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """The pairs (P, 2) of query and neighbour of the lists rows (Q, k), -1 = none, in their order."""
    queries, places = np.nonzero(rows >= 0)
    return np.stack([queries, rows[queries, places]], axis=1).astype(np.int64)


def list_first_neighbours(rows: NDArray[np.integer], first: int, setups: Sequence[Truth] = ()) -> NDArray[np.int64]:
    """The pairs (P, 2) of query and each of its `first` nearest of the lists rows (Q, k), in their order.

    setups: the junk of each setup of a benchmark. Then they are the first of every setup's lists without junk, so that
    each can verify as many, ordered by query and row, each pair once.
    """
    if not setups:
        return list_neighbours(rows[:, :first])
    parts = [list_neighbours(remove_junk(rows, junk)[:, :first]) for junk in setups]
    return np.unique(np.concatenate(parts), axis=0)


def read_compared(find: Callable[[str], Path], config: Config, split: str) -> NDArray[np.int64]:
    """The pairs (P, 2) of a test photograph and one of `split` that are compared. find: an input's name -> its path."""
    rows = np.load(find(f"06_build_knn/test_{split}:rows.npy"))
    setups = []
    if split == "index" and config.data.is_benchmark:
        judged = read_judgements(find(f"01_prepare_data:{JUDGEMENTS}"), len(rows))
        setups = [one.junk for one in judged.values()]
    return list_first_neighbours(rows, config.verify.first(split), setups)


class PairTable:
    """The inliers of compared pairs, looked up by query and row."""

    def __init__(self, queries: NDArray[np.integer], rows: NDArray[np.integer], inliers: NDArray[np.integer]):
        """All (P,); a pair at most once."""
        keys = _key(queries, rows)
        order = np.argsort(keys, kind="stable")
        self._keys, self._inliers = keys[order], inliers[order].astype(np.int32)

    @classmethod
    def read(cls, path: Path) -> PairTable:
        """The table that `verify_split` wrote."""
        table = pd.read_parquet(path, columns=["query", "row", "inliers"])
        return cls(table["query"].to_numpy(), table["row"].to_numpy(), table["inliers"].to_numpy())

    def __len__(self) -> int:
        return len(self._keys)

    def look_up(self, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """The inliers of the rows (Q, K) in each query's list, (Q, K) int32; 0 where a pair was not compared."""
        if len(self) == 0:
            return np.zeros(rows.shape, np.int32)
        keys = _key(np.arange(len(rows))[:, None], rows)
        at = np.searchsorted(self._keys, keys).clip(max=len(self) - 1)
        return np.where((self._keys[at] == keys) & (rows >= 0), self._inliers[at], 0)


def _key(queries: NDArray[np.integer], rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number a pair."""
    return (queries.astype(np.int64) << 32) + rows
