"""The clean train list as an artifact: candidates for verification in shards, and the list with its evidence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.arrays import AnyIntegers, Integers, Labels, Mask, Rows, Vectors
from pipeline.competition.train_clean import read_clean_ids, write_clean_list
from pipeline.errors import PipelineError
from pipeline.features.store import Arrays, write_sharded
from pipeline.matching.cleaning import (
    correct_labels,
    count_supporters,
    keep_images,
    most_inliers,
    pick_other_landmarks,
    pick_same_landmark,
)
from pipeline.matching.gaps import NO_ROWS, Gaps
from pipeline.matching.knn import search_exact
from pipeline.settings import CleanSettings
from pipeline.task_context import TaskContext

CLEAN_LIST, SUPPORT, LABELS = "train_clean.csv", "support.parquet", "labels.npy"
SHARD_ROWS = 16_384  # queries of a shard: the work that a kill can cost


def write_candidates(
    task: TaskContext,
    descriptors: Vectors,
    landmarks: AnyIntegers,
    settings: CleanSettings,
    device: torch.device,
    missing: AnyIntegers = NO_ROWS,
) -> None:
    """Write neighbours.npy, (N, candidates) int32: the nearest train images with the same landmark, -1 = none.

    An image is never its own neighbour: it is left out by its row, since an exact copy may rank before it.
    missing: the rows of images without a descriptor, which have no neighbours and are nobody's.
    """
    pick = partial(pick_same_landmark, landmarks=landmarks, count=settings.candidates)
    _write_picked(task, descriptors, Gaps(missing, missing), pick, settings.nearest, device)


def write_other_candidates(
    task: TaskContext,
    descriptors: Vectors,
    landmarks: AnyIntegers,
    settings: CleanSettings,
    device: torch.device,
    gaps: Gaps,
) -> None:
    """Write neighbours.npy, (N, other_candidates) int32: the nearest kept images of other landmarks, -1 = none.

    gaps: of the queries all images but the dropped ones, whose lists stay empty; of the base all but the kept ones.
    """
    pick = partial(pick_other_landmarks, landmarks=landmarks, count=settings.other_candidates)
    _write_picked(task, descriptors, gaps, pick, settings.nearest, device)


def make_clean_list(folder: Path, train: pd.DataFrame, pairs: pd.DataFrame, settings: CleanSettings) -> dict[str, Any]:
    """Write train_clean.csv and support.parquet (supporters, kept; rows as in train); return the counts.

    train: the table of train images. pairs: the table of `write_verified_pairs` over pairs of train images.
    Raises PipelineError if no image would be left to train on.
    """
    landmarks = train["landmark"].to_numpy()
    rows, inliers = pairs[["query", "row"]].to_numpy(), pairs["inliers"].to_numpy()
    supporters = count_supporters(rows, inliers, len(train), settings.min_inliers)
    kept = keep_images(landmarks, supporters, settings.min_neighbours)
    if not kept.any():
        raise PipelineError(
            f"cleaning leaves none of {len(train)} photographs: none has {settings.min_neighbours} others of its "
            f"landmark with {settings.min_inliers} inliers",
            folder, "lower clean.min_inliers or clean.min_neighbours, or set clean.source = 'none'",
        )  # fmt: skip
    _write_kept(folder, train, landmarks, kept)
    pd.DataFrame({"supporters": supporters.astype(np.int32), "kept": kept}).to_parquet(folder / SUPPORT, index=False)
    return _count(train, kept)


def write_corrected(
    folder: Path, train: pd.DataFrame, kept: Mask, pairs: pd.DataFrame, others: pd.DataFrame, settings: CleanSettings
) -> dict[str, Any]:
    """Write labels.npy, the landmark of each train image, some of them corrected, and train_clean.csv, to which the
    corrected images are added; return the counts.

    kept: (N,), of the clean list that was made from `pairs`. others: pairs of dropped images with kept ones of other
    landmarks.
    """
    landmarks = train["landmark"].to_numpy()
    (within, own), (across, inliers) = (
        (table[["query", "row"]].to_numpy(), table["inliers"].to_numpy()) for table in (pairs, others)
    )
    corrected = correct_labels(landmarks, most_inliers(within, own, len(train)), across, inliers, settings)
    changed = corrected != landmarks
    _write_kept(folder, train, corrected, kept | changed)
    np.save(folder / LABELS, corrected)
    return {"corrected": int(changed.sum())}


def copy_clean_list(folder: Path, given: Path, train: pd.DataFrame, source: str) -> dict[str, Any]:
    """Write train_clean.csv: a copy of the given list, or an empty one (`source` "none"); return the counts.

    Raises PipelineError if the given list is missing or empty.
    """
    if source == "none":
        write_clean_list(folder / CLEAN_LIST, {}, set())
        return _count(train, np.ones(len(train), np.bool_))
    ids = read_clean_ids(given)
    if not ids:
        hint = "put train_clean.csv into data.root, or set clean.source = 'auto'"
        raise PipelineError("no clean list came with the data", given, hint)
    shutil.copyfile(given, folder / CLEAN_LIST)
    return _count(train, train["id"].isin(ids).to_numpy())


def _write_picked(
    task: TaskContext,
    descriptors: Vectors,
    gaps: Gaps,
    pick: Callable[[Rows, Integers], Rows],
    nearest: int,
    device: torch.device,
) -> None:
    """Write neighbours.npy: what `pick` picks of the nearest of each image (rows (Q, k), own rows (Q,))."""
    find = partial(search_exact, device=device)

    def make(start: int, stop: int) -> Arrays:
        own = np.arange(start, stop)
        near = gaps.within(start, stop).search(find, descriptors[start:stop], descriptors, nearest, own)
        return {"neighbours": pick(near.rows, own)}

    write_sharded(task, len(descriptors), SHARD_ROWS, make, "photographs")


def _write_kept(folder: Path, train: pd.DataFrame, landmarks: Labels, kept: Mask) -> None:
    clean: dict[int, list[str]] = {}
    for landmark, image_id in sorted(zip(landmarks[kept].tolist(), train.loc[kept, "id"], strict=True)):
        clean.setdefault(landmark, []).append(image_id)
    write_clean_list(folder / CLEAN_LIST, clean, set(train["id"]))


def _count(train: pd.DataFrame, kept: Mask) -> dict[str, Any]:
    landmarks = int(train.loc[kept, "landmark"].nunique())
    return {"kept": int(kept.sum()), "dropped": int((~kept).sum()), "landmarks": landmarks}
