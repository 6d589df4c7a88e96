"""Tasks that fit the whitening on train or index and apply it to every split.

Whitened descriptors are written once: a search reads its base twice, and every step of a recipe reads the index again.
"""

from __future__ import annotations

from functools import partial

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import joined_references, open_joined


def whitening_tasks(config: Config) -> list[Task]:
    """The whitening and the whitened splits; nothing where search.whiten_dims is 0."""
    if not config.search.whiten_dims:
        return []
    weights = {"weights": {name: model.weight for name, model in config.models.items()}}
    fitted = config.search.model_dump(include={"whiten_dims", "whiten_power"}) | weights
    fit = Task(layout.WHITENING, _fit, fitted, tuple(joined_references(config, config.search.whiten_on)))
    return [fit, *(_whiten_task(config, split, weights) for split in config.splits)]


def _whiten_task(config: Config, split: str, settings: dict[str, dict[str, float]]) -> Task:
    inputs = (layout.WHITENING, *joined_references(config, split))
    return Task(layout.whitened(split), partial(_whiten, split=split), settings, inputs, saves_on_stop=True)


def _fit(task: TaskContext, config: Config) -> None:
    """Write mean.npy, projection.npy and explained.npy."""
    from pipeline.features.present_rows import PresentRows
    from pipeline.features.whitened import write_whitening
    from pipeline.images.rejection import read_rejected

    split = config.search.whiten_on
    missing = read_rejected(map(task.input, joined_references(config, split)))
    sample = PresentRows(open_joined(task, config, split), missing)
    whitening = write_whitening(task.folder, sample, config.search)
    kept, share = whitening.projection.shape[1], whitening.explained
    task.facts |= {"rows": len(sample), "dims": kept, "explained": share}
    log.info("%d of %d components hold %.1f %% of the variance", kept, sample.shape[1], 100 * share)


def _whiten(task: TaskContext, config: Config, split: str) -> None:
    """Write descriptors.npy, (N, dims) float32, and rejected.csv."""
    from pipeline.features.whitened import write_whitened

    sources = [task.input(reference) for reference in joined_references(config, split)]
    write_whitened(task, task.input(layout.WHITENING), open_joined(task, config, split), sources)
