"""Memory of planning for millions of images: training and extraction, with their loading processes.

    python -m benchmarks.planning
    python -m benchmarks.planning --images 1000000 --loaders 4

A synthetic table as large as the train set of Google Landmarks v2, in a Parquet file as stage 01 writes it, is read by
a new process that plans an epoch of training, or an extraction, and loads its first batches. Every path leads to one
small photograph. Memory is the proportional set size (PSS) of Linux: shared pages count once, divided among the
processes that share them. "before" is the process with its libraries, before it reads the table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from benchmarks.record import add_json_argument, measure_apart, publish
from pipeline.features.global_descriptors import InputImages
from pipeline.features.row_reuse import key_rows
from pipeline.images.batch_loader import BatchLoader
from pipeline.images.batches import plan_evaluation, template_sizes
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.images.split import Split
from pipeline.memory import read_peak
from pipeline.network.batch_plan import BatchPlan
from pipeline.network.training_set import TrainingSet
from pipeline.settings import ExtractSettings, PhaseSettings

READ = 64  # batches


def write_table(folder: Path, images: int) -> None:
    """train.parquet with so many images of GLDv2's shape, and the photograph that all of them are."""
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "photograph.jpg"), np.full((48, 64, 3), 99, np.uint8))
    for name in "0123456789abcdef":
        (folder / name).symlink_to(folder, target_is_directory=True)
    ids = [f"{value:016x}" for value in rng.integers(0, 1 << 63, images)]
    paths = [f"{one[0]}/{one[1]}/{one[2]}/photograph.jpg" for one in ids]
    width, height = rng.integers(48, 1600, images), rng.integers(48, 1600, images)
    zero = np.zeros(images)
    table = {"id": ids, "path": paths, "width": width, "height": height, "bytes": width, "left": zero, "top": zero}
    table |= {
        "right": width.astype(float),
        "bottom": height.astype(float),
        "landmark": rng.integers(0, 203_094, images),
    }
    pd.DataFrame(table).to_parquet(folder / "train.parquet")


def open_training(split: Split, loaders: int) -> tuple[BatchLoader, Iterator[LoadedBatch]]:
    """The first batches of a training, as stage 02 plans them."""
    images = TrainingSet.from_split(split)
    plan = BatchPlan(images, PhaseSettings(epochs=2, template=[(64, 32), (32, 32), (32, 64)]), 0)
    loader = BatchLoader(images.paths, workers=loaders)
    return loader, loader.load(part for parts in plan.remaining_steps(0, 0) for part in parts)


def open_extraction(split: Split, loaders: int) -> tuple[BatchLoader, Iterator[LoadedBatch]]:
    """The first batches of an extraction, as stage 05 plans them: a shard of them, after the keys of all rows."""
    images, settings = InputImages.from_split(split, ExtractSettings()), ExtractSettings()
    key_rows(replace(split, digests=[f"{row:064x}" for row in range(len(split))]))
    ratios, sizes = np.asarray(images.aspect_ratios)[: settings.shard_rows], template_sizes([(64, 32), (32, 64)])
    loader = BatchLoader(images.paths, workers=loaders, boxes=images.boxes)
    return loader, loader.load(plan_evaluation(ratios, sizes, settings.batch_size))


WORKS = {"training": open_training, "extraction": open_extraction}


def proportional_mb(pid: int) -> float:
    """The proportional set size of a process, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0]) / 1e3


def measure(work: str, folder: Path, loaders: int) -> dict[str, Any]:
    """Plan and read in this process; its memory."""
    torch.zeros(1)
    before, start = proportional_mb(os.getpid()), time.perf_counter()
    split = Split(pd.read_parquet(folder / "train.parquet"), folder)
    loader, batches = WORKS[work](split, loaders)
    with loader:
        images = sum(len(batch.rows) for batch in islice(batches, READ))
        seconds = time.perf_counter() - start
        own = proportional_mb(os.getpid())
        children = [proportional_mb(one.pid) for one in multiprocessing.active_children() if one.pid]
        peak = read_peak() / 1e6
    return {
        "work": work, "images": len(split), "seconds": seconds, "before, MB": before, "after, MB": own,
        "at its peak (resident), MB": peak, "each loader, MB": max(children, default=0.0),
        "all, MB": own + sum(children), "images read": images,
    }  # fmt: skip


def main() -> None:
    """Write the table, and measure each work in a new process."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planning", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--images", type=int, default=4_132_914)
    parser.add_argument("--loaders", type=int, default=4)
    add_json_argument(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder), options.images)
        found = [measure_apart(measure, work, Path(folder), options.loaders) for work in WORKS]
    publish({"planning": found}, options.json)


if __name__ == "__main__":
    main()
