"""The task that verifies pairs of images by their local features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import batch_key, device_key
from pipeline.tasks.inputs import read_images

if TYPE_CHECKING:
    from pipeline.arrays import Integers


@dataclass(frozen=True)
class PairSelection:
    """Which pairs are verified: the stores of local features of both sides, the split of the base, and `list_pairs`.

    list_pairs: (task, configuration) -> (P, 2) rows of both stores, reading the given inputs.
    """

    queries: str
    base: str
    split: str
    list_pairs: Callable[[TaskContext, Config], Integers]
    references: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def comparison_task(artifact: str, selection: PairSelection, config: Config) -> Task:
    """Write pairs.parquet: query row, split, row, matches, inliers."""
    settings = {"verify": config.verify.pair_settings} | selection.settings | device_key(config)
    settings |= batch_key(config, config.verify, "shard_pairs")
    stores = dict.fromkeys((selection.queries, selection.base))
    inputs = (*stores, layout.images(selection.split), *selection.references)
    return Task(artifact, partial(_compare, selection=selection), settings, inputs, saves_on_stop=True, shared=True)


def _compare(task: TaskContext, config: Config, selection: PairSelection) -> None:
    import numpy as np

    from pipeline.device import choose_device
    from pipeline.features.local_store import LocalStore
    from pipeline.matching.verified_pairs import Comparison, write_verified_pairs

    stores = {side: LocalStore(task.input(side)) for side in {selection.queries, selection.base}}
    longer_sides = read_images(task, selection.split)[["width", "height"]].max(axis=1).to_numpy()
    pairs = selection.list_pairs(task, config)
    comparison = Comparison(stores[selection.queries], stores[selection.base], pairs, longer_sides)
    device = choose_device(config.runtime.device)
    inliers = write_verified_pairs(task, comparison, selection.split, config.verify, device)
    median = float(np.median(inliers)) if len(inliers) else 0.0
    task.facts |= {"pairs": len(inliers), "median_inliers": median}
    log.info("%s: %d pairs verified", task.published.name, len(inliers))
