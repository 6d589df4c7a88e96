"""Pairs of images verified in shards, as an artifact: one table of matches and inliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.features.store import Arrays, RankTurns, write_in_shards
from pipeline.matching.verification import FeatureRows, MatchOptions, verify_pairs
from pipeline.settings import VerifySettings
from pipeline.task_context import TaskContext

PAIRS = "pairs.parquet"


@dataclass(frozen=True)
class Comparison:
    """Which images are compared: pairs (P, 2) of rows of `queries` and `base`.

    longer_sides: (N,) pixels of the base images, of which the inlier threshold is a fraction.
    """

    queries: FeatureRows
    base: FeatureRows
    pairs: NDArray[np.integer]
    longer_sides: NDArray[np.number]


def write_verified_pairs(
    task: TaskContext, comparison: Comparison, split: str, settings: VerifySettings, device: torch.device
) -> NDArray[np.int32]:
    """The inliers (P,) of the pairs, also written with the matches as pairs.parquet.

    split: the name of the split that the base images are. Resumes after the last finished shard. On other ranks than
    the first it ends in PartDone.
    """
    pairs, options = comparison.pairs, MatchOptions.from_settings(settings)
    thresholds_px = settings.inlier_threshold * comparison.longer_sides

    def make(start: int, stop: int) -> Arrays:
        shard = pairs[start:stop]
        thresholds = thresholds_px[shard[:, 1]]
        return verify_pairs(comparison.queries, comparison.base, shard, thresholds, options, device)._asdict()

    with task.progress(len(pairs), "pairs") as bar:
        turns = RankTurns(task, bar)
        write_in_shards(task.scratch, task.scratch, len(pairs), settings.shard_pairs, make, turns)
    counts = {name: np.load(task.scratch / f"{name}.npy") for name in ("matches", "inliers")}
    query, row = (pairs[:, side].astype(np.int32) for side in (0, 1))
    splits = pd.Categorical.from_codes(np.zeros(len(pairs), np.int8), pd.Index([split]))  # also if there is no pair
    table = pd.DataFrame({"query": query, "split": splits, "row": row, **counts})
    table.to_parquet(task.folder / PAIRS, index=False)
    return counts["inliers"]
