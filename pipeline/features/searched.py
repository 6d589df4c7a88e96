"""What is searched of a split: the descriptors of all models joined, and whitened where a setting asks for it.

Whitened descriptors are written once: a search reads its base twice, and every step of a recipe reads the index again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.features.ensemble import JoinedDescriptors
from pipeline.features.store import Arrays, write_at
from pipeline.features.whitening import Whitening, fit_whitening
from pipeline.settings import SearchSettings
from pipeline.task_context import TaskContext

Find = Callable[[str], Path]  # "06_build_knn/test_index" or "09_predict_landmarks:index.parquet" -> where it is
Searched = JoinedDescriptors | NDArray[np.float32]  # (N, D) float32, rows of length 1, not in memory as a whole

WHITENING, WHITENED = "06_build_knn/whitening", "06_build_knn/whitened"
SHARD_ROWS = 8_192  # what a kill can cost


def name_descriptors(config: Config, split: str) -> list[str]:
    """The artifacts that `open_descriptors` reads."""
    return [f"{WHITENED}/{split}"] if config.search.whiten_dims else name_joined(config, split)


def name_joined(config: Config, split: str) -> list[str]:
    """The artifacts that `open_joined` reads: one a model."""
    return [f"05_extract_global/{name}/{split}" for name in config.models]


def open_descriptors(find: Find, config: Config, split: str) -> Searched:
    """The descriptors of a split as they are searched, rows as in stage 01."""
    if config.search.whiten_dims:
        return np.load(find(f"{WHITENED}/{split}") / "descriptors.npy", mmap_mode="r")
    return open_joined(find, config, split)


def open_joined(find: Find, config: Config, split: str) -> JoinedDescriptors:
    """The descriptors of all models as one, not whitened."""
    mapped = [np.load(find(name) / "descriptors.npy", mmap_mode="r") for name in name_joined(config, split)]
    return JoinedDescriptors(mapped, [model.weight for model in config.models.values()])


def write_whitening(folder: Path, train: JoinedDescriptors, settings: SearchSettings) -> Whitening:
    """Fit on the train photographs; also written, as mean.npy, projection.npy and explained.npy, float64.

    Raises PipelineError where it cannot be fitted.
    """
    try:
        whitening = fit_whitening(train, settings.whiten_dims, settings.whiten_power)
    except ValueError as error:
        hint = "set search.whiten_dims = 0 to search without, or add train photographs"
        raise PipelineError(
            f"the whitening cannot be fitted on {len(train)} train photographs: {error}",
            f"search.whiten_dims = {settings.whiten_dims}", hint,
        ) from error  # fmt: skip
    for name, value in whitening._asdict().items():
        np.save(folder / f"{name}.npy", value)
    return whitening


def write_whitened(task: TaskContext, whitening: Path, joined: JoinedDescriptors) -> None:
    """Write descriptors.npy, (N, dims) float32: the split whitened by what `write_whitening` left in a folder."""
    fitted = Whitening(
        np.load(whitening / "mean.npy"),
        np.load(whitening / "projection.npy"),
        float(np.load(whitening / "explained.npy")),
    )

    def make(start: int, stop: int) -> Arrays:
        return {"descriptors": fitted.apply(joined[start:stop])}

    write_at(task, len(joined), SHARD_ROWS, make, "photographs")
