"""Tasks that run a network over a split: global descriptors, the threshold of attention, local features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import batch_key, device_key, precision_key
from pipeline.tasks.inputs import explain_restored, open_digested_split, open_split, read_images, split_references

if TYPE_CHECKING:
    from pipeline.arrays import Mask
    from pipeline.features.local_batches import LocalExtractor


@dataclass(frozen=True)
class Extraction:
    """Which network runs over which split: the reference of its artifact, its model's name, the split."""

    network: str
    model: str
    split: str

    @property
    def references(self) -> tuple[str, ...]:
        """What every extraction reads."""
        return self.network, *split_references(self.split)


@dataclass(frozen=True)
class LocalSelection:
    """The images of a split that get local features: `choose` says which, (N,) bool, reading the given inputs."""

    choose: Callable[[TaskContext, Config, int], Mask]
    references: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def global_task(artifact: str, extraction: Extraction, config: Config) -> Task:
    """Write descriptors.npy, (N, D) float32, L2-normalised, rows as in stage 01, and rejected.csv."""
    work, extract = partial(_extract_global, extraction=extraction), config.extract
    settings = extract.descriptor_settings | precision_key(config, extract) | device_key(config)
    settings |= batch_key(config, extract, "batch_size", "shard_rows")
    doubt = partial(explain_restored, config=config)
    by_row = split_references(extraction.split)
    return Task(
        artifact, work, settings, extraction.references, saves_on_stop=True, by_row=by_row, doubt=doubt, shared=True
    )


def external_task(artifact: str, name: str, split: str, config: Config) -> Task:
    """Write what `global_task` writes, out of the folder of descriptors that a model names."""
    folder = config.models[name].descriptors
    assert folder is not None
    inputs = (layout.images(split), layout.REJECTED)
    work = partial(_take_descriptors, folder=folder, split=split)
    return Task(artifact, work, {}, inputs, lambda: {f"models.{name}.descriptors": folder}, saves_on_stop=True)


def same_images_task(artifact: str, source: str) -> Task:
    """Copy the features of one split to those of another that consists of the same images."""
    return Task(artifact, partial(_copy_features, source=source), {}, (source,))


def threshold_task(artifact: str, extraction: Extraction, config: Config) -> Task:
    """Write threshold.json: the attention that a local feature has to exceed."""
    local = (
        config.local.threshold_settings
        | precision_key(config, config.local)
        | batch_key(config, config.local, "batch_size")
    )
    settings = {"local": local, "seed": config.seed} | device_key(config)
    return Task(artifact, partial(_calibrate, extraction=extraction), settings, extraction.references)


def local_task(
    artifact: str, extraction: Extraction, threshold: str, selection: LocalSelection, config: Config
) -> Task:
    """Write the store of local features of a split; images that are not selected have none."""
    local = config.local.feature_settings | precision_key(config, config.local)
    local |= batch_key(config, config.local, "batch_size", "shard_rows")
    settings = {"local": local} | device_key(config) | selection.settings
    inputs = (*extraction.references, threshold, *selection.references)
    work = partial(_extract_local, extraction=extraction, threshold=threshold, choose=selection.choose)
    by_row = (*split_references(extraction.split), *selection.references)
    doubt = partial(explain_restored, config=config)
    return Task(artifact, work, settings, inputs, saves_on_stop=True, by_row=by_row, doubt=doubt, shared=True)


def _extract_global(task: TaskContext, config: Config, extraction: Extraction) -> None:
    from pipeline.device import choose_device
    from pipeline.features.global_descriptors import write_descriptors
    from pipeline.network.checkpoint import load_network
    from pipeline.network.folding import fold_for_evaluation

    device = choose_device(config.runtime.device)
    network = load_network(task.input(extraction.network), config.models[extraction.model])
    embedding = fold_for_evaluation(network.embedding, device, config.extract.precision)
    if config.runtime.compile:
        embedding.compile()
    split = open_digested_split(task, config, extraction.split)
    write_descriptors(task, embedding, split, config.extract, device)
    task.facts["rows"] = len(split)


def _copy_features(task: TaskContext, config: Config, source: str) -> None:
    import shutil

    for path in task.input(source).iterdir():
        if path.suffix in (".npy", ".csv"):
            shutil.copyfile(path, task.folder / path.name)


def _take_descriptors(task: TaskContext, config: Config, folder: Path, split: str) -> None:
    import pandas as pd

    from pipeline.features.external import write_external_descriptors

    rejected = pd.read_csv(task.input(layout.REJECTED), dtype=str, keep_default_na=False)
    ids = read_images(task, split)["id"].tolist()
    write_external_descriptors(task, folder, split, config.splits, ids, set(rejected["id"]))


def _open_extractor(task: TaskContext, config: Config, extraction: Extraction) -> LocalExtractor:
    from pipeline.device import choose_device
    from pipeline.features.local_batches import LocalExtractor, LocalNetwork
    from pipeline.network.checkpoint import load_network
    from pipeline.network.folding import fold_for_evaluation

    device = choose_device(config.runtime.device)
    network = LocalNetwork(load_network(task.input(extraction.network), config.models[extraction.model]))
    network = fold_for_evaluation(network, device, config.local.precision)
    if config.runtime.compile:
        network.compile()
    return LocalExtractor(network, config.local, device)


def _calibrate(task: TaskContext, config: Config, extraction: Extraction) -> None:
    from pipeline.features.local_features import write_threshold

    split = open_split(task, config, extraction.split)
    write_threshold(task, _open_extractor(task, config, extraction), split, config.seed)


def _extract_local(
    task: TaskContext,
    config: Config,
    extraction: Extraction,
    threshold: str,
    choose: Callable[[TaskContext, Config, int], Mask],
) -> None:
    from pipeline.features.local_features import read_threshold, write_local_features

    split = open_digested_split(task, config, extraction.split)
    wanted, min_attention = choose(task, config, len(split)), read_threshold(task.input(threshold))
    write_local_features(task, _open_extractor(task, config, extraction), split, wanted, min_attention)
    task.facts |= {"rows": len(split), "photographs": int(wanted.sum())}
