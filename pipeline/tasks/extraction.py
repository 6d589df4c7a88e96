"""Tasks that run a network over a split: global descriptors, the threshold of attention, local features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import batch_key, device_key, precision_key
from pipeline.tasks.inputs import open_split, split_references

if TYPE_CHECKING:
    from pipeline.arrays import Mask
    from pipeline.features.local_features import LocalExtractor


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
    return Task(artifact, work, settings, extraction.references, saves_on_stop=True)


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
    return Task(artifact, work, settings, inputs, saves_on_stop=True)


def _extract_global(task: TaskContext, config: Config, extraction: Extraction) -> None:
    from pipeline.device import choose_device
    from pipeline.features.global_descriptors import write_descriptors
    from pipeline.network.checkpoint import load_network

    device = choose_device(config.runtime.device)
    network = load_network(task.input(extraction.network), config.models[extraction.model])
    split = open_split(task, config, extraction.split)
    write_descriptors(task, network.embedding.to(device), split, config.extract, device)
    task.facts["rows"] = len(split)


def _open_extractor(task: TaskContext, config: Config, extraction: Extraction) -> LocalExtractor:
    from pipeline.device import choose_device
    from pipeline.features.local_features import LocalExtractor, LocalNetwork
    from pipeline.network.checkpoint import load_network

    network = load_network(task.input(extraction.network), config.models[extraction.model])
    return LocalExtractor(LocalNetwork(network), config.local, choose_device(config.runtime.device))


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

    split = open_split(task, config, extraction.split)
    wanted, min_attention = choose(task, config, len(split)), read_threshold(task.input(threshold))
    write_local_features(task, _open_extractor(task, config, extraction), split, wanted, min_attention)
    task.facts |= {"rows": len(split), "photographs": int(wanted.sum())}
