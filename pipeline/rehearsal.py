"""A rehearsal: the settings of a run on a few photographs of each split, through all stages, in a folder of its own.

What would stop a run in its fifth hour (a backbone that does not fit the memory, a step that lacks its evidence, a
file in the wrong format) stops the rehearsal in its first minute. Its scores say nothing.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.competition.dataset import Dataset, SplitListing
from pipeline.competition.gldv2 import BOXES
from pipeline.competition.sources import read_source
from pipeline.competition.train_clean import CLEAN_LIST, write_clean_list
from pipeline.config import Config
from pipeline.errors import PipelineError

SUFFIX = "-rehearsal"  # of the name of the run
DATA = "data"  # the folder of the links to photographs, in the folder of the rehearsal
LANDMARKS, TRAIN_EACH = 6, 8  # of train: more than one batch of 32
OTHERS = {"index": 24, "test": 16, "non_landmark": 16}  # photographs of the other splits
WORLD = {"landmarks": LANDMARKS, "train_images": LANDMARKS * TRAIN_EACH, "index_images": 24, "test_images": 16}


def prepare_rehearsal(config: Config) -> Config:
    """The configuration of the rehearsal, whose data folder it makes. Raises PipelineError for a benchmark."""
    if config.data.is_benchmark:
        raise PipelineError(
            f"data.source = {config.data.source} cannot be rehearsed: its ground truth names every photograph",
            "command line",
            "rehearse with data.source = gldv2 or folders: all other settings may stay",
        )
    folder = config.runtime.outputs.absolute() / (config.run + SUFFIX) / DATA
    if config.data.source != "demo":
        dataset, _ = read_source(config.data, config.splits)
        link_photographs(draw_few(dataset, config.seed), config.data.root.absolute(), folder)
    return shorten(config, folder)


def shorten(config: Config, folder: Path) -> Config:
    """The same settings, but for the data, one epoch a phase (two where the last is at a larger size), and thresholds
    that few photographs could not meet."""
    values: dict[str, Any] = config.model_dump(exclude_unset=True)
    values["run"] = config.run + SUFFIX
    own = {"root": folder, "follow_links": True, "check_archives": False, "max_bad_fraction": 0.5}
    values["data"] = values.get("data", {}) | own
    if config.data.source == "demo":
        values["demo"] = values.get("demo", {}) | WORLD
    values["search"] = values.get("search", {}) | {"index_factory": "Flat"}  # trained ones need more rows
    values["clean"] = values.get("clean", {}) | {"min_inliers": 1, "min_neighbours": 1}
    for name, model in config.models.items():
        for phase in ("base", "final") if model.is_trained_here else ():
            epochs, large = getattr(model, phase).epochs, getattr(model, phase).large_epochs
            few = {"epochs": min(epochs, 1 + (0 < large < epochs)), "large_epochs": min(large, 1), "stop_after": 0}
            few |= {} if large else {"large_epochs": 0}
            values["models"][name][phase] = values["models"][name].get(phase, {}) | few
    return Config.model_validate(values)


def draw_few(dataset: Dataset, seed: int) -> Dataset:
    """A few photographs of each split, drawn at random; of train a few landmarks, on the clean list if there is one."""
    rng = np.random.default_rng(seed)
    splits = dict(dataset.splits)
    if splits["index"] is splits["test"]:  # searched in itself
        few = _take(splits["index"], _draw(rng, len(splits["index"].ids), OTHERS["index"]))
        splits |= {"index": few, "test": few}
    for name, count in OTHERS.items():
        if name in splits and splits[name] is dataset.splits[name]:
            splits[name] = _take(splits[name], _draw(rng, len(splits[name].ids), count))
    train = dataset.splits["train"]
    landmarks = np.array(train.landmarks or [], np.int64)
    known, counts = np.unique(landmarks, return_counts=True)
    listed = np.isin(known, list(dataset.clean_list)) if dataset.clean_list else counts > 0
    largest = np.flatnonzero(listed)[np.argsort(-counts[listed], kind="stable")][: 20 * LANDMARKS]
    chosen = known[largest[_draw(rng, len(largest), LANDMARKS)]]
    rows = [row for one in chosen for row in _draw_of(rng, np.flatnonzero(landmarks == one), TRAIN_EACH)]
    splits["train"] = _take(train, rows)
    return replace(dataset, splits=splits)


def link_photographs(few: Dataset, root: Path, folder: Path) -> None:
    """Make `folder` anew: links to the photographs at the same paths, and the tables of GLDv2's format."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, split in few.splits.items():
        for path in split.paths:
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():  # test and index may be the same
                link.symlink_to(root / path)
        columns: list[Sequence[object]] = [split.ids, *([split.landmarks] if split.landmarks is not None else [])]
        _write(folder / f"{name}.csv", ("id", "landmark_id")[: len(columns)], zip(*columns, strict=True))
    boxes = {image: box for split in few.splits.values() for image, box in split.boxes.items()}
    if boxes:
        records = ((image, *box) for image, box in boxes.items())
        _write(folder / BOXES, ("id", "left", "top", "right", "bottom"), records)
    if few.clean_list:
        write_clean_list(folder / CLEAN_LIST, few.clean_list, set(few.splits["train"].ids))


def _take(split: SplitListing, rows: Sequence[int]) -> SplitListing:
    ids = [split.ids[row] for row in rows]
    landmarks = None if split.landmarks is None else [split.landmarks[row] for row in rows]
    boxes = {image: split.boxes[image] for image in ids if image in split.boxes}
    return SplitListing(ids, [split.paths[row] for row in rows], landmarks, boxes)


def _draw(rng: np.random.Generator, size: int, count: int) -> list[int]:
    """At most `count` of `size` rows, ascending."""
    return np.sort(rng.permutation(size)[:count]).tolist()


def _draw_of(rng: np.random.Generator, rows: np.ndarray, count: int) -> list[int]:
    return rows[_draw(rng, len(rows), count)].tolist()


def _write(path: Path, columns: Sequence[str], records: Iterable[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(records)
