"""The clean list as a stage makes it: candidates in shards, and the list with what it was made from beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.competition.train_clean import read_clean_ids, write_clean_list
from pipeline.errors import PipelineError
from pipeline.features.store import Arrays, write_at
from pipeline.matching.blocks import Rows
from pipeline.matching.cleaning import count_supporters, keep_images, pick_same_landmark
from pipeline.matching.knn import search_exact
from pipeline.settings import CleanSettings
from pipeline.task_context import TaskContext

CLEAN_LIST, SUPPORT = "train_clean.csv", "support.parquet"
SHARD_ROWS = 16_384  # queries: what a kill can cost


def find_candidates(
    task: TaskContext, descriptors: Rows, landmarks: NDArray[np.integer], settings: CleanSettings, device: torch.device
) -> None:
    """Write neighbours.npy, (N, candidates) int32: of the nearest of each train image those of its landmark, -1 = none.

    An image is never its own neighbour: it is left out by its row, not by its rank, which an exact copy may take.
    """
    chosen = None if device.type == "cpu" else str(device)

    def make(start: int, stop: int) -> Arrays:
        own = np.arange(start, stop)
        near = search_exact(descriptors[start:stop], descriptors, settings.nearest, exclude=own, device=chosen)
        return {"neighbours": pick_same_landmark(near.rows, own, landmarks, settings.candidates)}

    write_at(task, len(descriptors), SHARD_ROWS, make, "photographs")


def make_clean_list(folder: Path, train: pd.DataFrame, pairs: pd.DataFrame, settings: CleanSettings) -> dict[str, Any]:
    """Write train_clean.csv and support.parquet (supporters, kept; rows as in train); counts of kept and dropped.

    train: the table of stage 01. pairs: the table of `verify_split` over pairs of train images.
    Raises PipelineError where nothing would be left to train on.
    """
    landmarks = train["landmark"].to_numpy()
    asked = pairs[["query", "row"]].to_numpy()
    supporters = count_supporters(asked, pairs["inliers"].to_numpy(), len(train), settings.min_inliers)
    kept = keep_images(landmarks, supporters, settings.min_neighbours)
    if not kept.any():
        raise PipelineError(
            f"cleaning leaves none of {len(train)} photographs: none has {settings.min_neighbours} others of its "
            f"landmark with {settings.min_inliers} inliers",
            folder, "lower clean.min_inliers or clean.min_neighbours, or set clean.source = 'none'",
        )  # fmt: skip
    clean: dict[int, list[str]] = {}
    for landmark, image_id in sorted(zip(landmarks[kept].tolist(), train.loc[kept, "id"], strict=True)):
        clean.setdefault(landmark, []).append(image_id)
    write_clean_list(folder / CLEAN_LIST, clean, set(train["id"]))
    pd.DataFrame({"supporters": supporters.astype(np.int32), "kept": kept}).to_parquet(folder / SUPPORT, index=False)
    return _count(train, kept)


def pass_clean_list_on(folder: Path, given: Path, train: pd.DataFrame, source: str) -> dict[str, Any]:
    """Write train_clean.csv: the given list, or none (`source` "none"); counts of kept and dropped."""
    if source == "none":
        write_clean_list(folder / CLEAN_LIST, {}, set())
        return _count(train, np.ones(len(train), np.bool_))
    ids = read_clean_ids(given)
    if not ids:
        hint = "put train_clean.csv into data.root, or set clean.source = 'auto'"
        raise PipelineError("no clean list came with the data", given, hint)
    shutil.copyfile(given, folder / CLEAN_LIST)
    return _count(train, train["id"].isin(ids).to_numpy())


def _count(train: pd.DataFrame, kept: NDArray[np.bool_]) -> dict[str, Any]:
    landmarks = int(train.loc[kept, "landmark"].nunique())
    return {"kept": int(kept.sum()), "dropped": int((~kept).sum()), "landmarks": landmarks}
