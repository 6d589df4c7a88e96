"""The whitening of a run on disk, and descriptors whitened by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.arrays import Vectors
from pipeline.errors import PipelineError
from pipeline.features.store import Arrays, write_sharded
from pipeline.features.whitening import Whitening, fit_whitening
from pipeline.images.rejection import REJECTED, combine_rejected
from pipeline.settings import SearchSettings
from pipeline.task_context import TaskContext

SHARD_ROWS = 8_192  # rows that a kill can cost


def write_whitening(folder: Path, sample: Vectors, settings: SearchSettings) -> Whitening:
    """Fit the whitening; also written, as mean.npy, projection.npy, explained.npy, float64.

    sample: the descriptors of the split that settings.whiten_on names.

    Raises PipelineError where it cannot be fitted.
    """
    try:
        whitening = fit_whitening(sample, settings.whiten_dims, settings.whiten_power)
    except ValueError as error:
        raise PipelineError(
            f"the whitening cannot be fitted on {len(sample)} {settings.whiten_on} photographs: {error}",
            f"search.whiten_dims = {settings.whiten_dims}",
            "set search.whiten_dims = 0 to search without, or add photographs",
        ) from error
    for name, value in whitening._asdict().items():
        np.save(folder / f"{name}.npy", value)
    return whitening


def load_whitening(folder: Path) -> Whitening:
    """The whitening that `write_whitening` wrote to a folder."""
    mean, projection, explained = (np.load(folder / f"{name}.npy") for name in Whitening._fields)
    return Whitening(mean, projection, float(explained))


def write_whitened(task: TaskContext, whitening: Path, descriptors: Vectors, sources: Sequence[Path]) -> None:
    """Write descriptors.npy, (N, dims) float32: whitened by what `write_whitening` wrote to a folder.

    sources: the artifacts that the descriptors come from. The images that one of them left out have zeros, and are
    listed in rejected.csv.
    """
    rejected = combine_rejected(sources)
    missing = rejected["row"].to_numpy()
    rejected.to_csv(task.folder / REJECTED, index=False, lineterminator="\n")
    fitted = load_whitening(whitening)

    def make(start: int, stop: int) -> Arrays:
        whitened = fitted.apply(descriptors[start:stop])
        whitened[missing[(missing >= start) & (missing < stop)] - start] = 0.0
        return {"descriptors": whitened}

    write_sharded(task, len(descriptors), SHARD_ROWS, make, "photographs")
