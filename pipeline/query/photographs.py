"""Photographs that no stage has seen, as a split, and what the networks of a run make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import layout
from pipeline.arrays import Floats, Labels
from pipeline.competition.dataset import SplitListing
from pipeline.competition.listing import list_photographs
from pipeline.config import Config
from pipeline.device import choose_device
from pipeline.errors import PipelineError
from pipeline.features.ensemble import JoinedDescriptors
from pipeline.features.global_descriptors import InputImages, extract_descriptors
from pipeline.features.local_batches import LocalExtractor, LocalNetwork
from pipeline.features.local_features import extract_local, read_threshold
from pipeline.features.local_store import LocalFeatures, as_stored
from pipeline.features.pyramid_cells import ImageRegions
from pipeline.features.whitened import load_whitening
from pipeline.images.inspection import Limits, inspect_photograph
from pipeline.images.split import Split
from pipeline.images.split_table import divide_split
from pipeline.network.checkpoint import load_network
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.ranking.prediction import Classifier
from pipeline.settings import DataSettings
from pipeline.task_context import TaskContext

FEW = 32  # photographs that are decoded sooner than loader processes are started


def list_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and the photographs below the folders, in their order. Raises PipelineError for what is not there."""
    files: list[Path] = []
    for path in paths:
        found = [path / name for name in list_photographs(path)] if path.is_dir() else [path]
        if not found or not (path.is_dir() or path.exists()):
            what = "no photograph below this folder" if path.is_dir() else "there is no such file"
            raise PipelineError(what, path, "give photographs, or folders of them")
        files += found
    return files


def inspect_files(paths: Sequence[Path], data: DataSettings) -> tuple[Split, dict[Path, str]]:
    """The photographs as a split, decoded once to see that they are whole, and the reason for each that is not."""
    limits = Limits(data.min_side_px, data.max_side_px, data.max_pixels)
    found = [inspect_photograph(path, limits, decode=True) for path in paths]
    sizes = np.array([(one.width, one.height, one.bytes) for one in found], np.int64).reshape(-1, 3)
    reasons = {at: one.reason for at, one in enumerate(found) if one.reason}
    names = [str(path.absolute()) for path in paths]
    table, _ = divide_split(Path("/"), SplitListing(names, names), sizes, reasons)
    return Split(table, Path("/")), {paths[at]: reason for at, reason in reasons.items()}


@dataclass(frozen=True)
class Described:
    """Q photographs: vectors (Q, D) as they are searched, and per model (Q, Di), in the order of the models."""

    vectors: Floats
    by_model: list[Floats]


@dataclass(frozen=True)
class _Directions:
    """The classifier of a model: directions (C, D) or (C, K, D), landmark_ids (C,)."""

    directions: Floats
    landmark_ids: Labels


class Describer:
    """The networks of a run, loaded once."""

    def __init__(self, task: TaskContext, config: Config):
        self._config, self._workers, self.device = config, task.workers, choose_device(config.runtime.device)
        self._embeddings, self._classifiers = [], []
        self._extractor: LocalExtractor | None = None
        for name, settings in config.models.items():
            network = load_network(task.input(layout.final_network(name)), settings)
            self._embeddings.append(fold_for_evaluation(network.embedding, self.device, config.extract.precision))
            if config.recognition.head_power:
                weight = network.head.weight.detach().numpy()
                self._classifiers.append(_Directions(weight, network.landmark_ids))
            if config.verified_splits and name == config.local_model:
                self._open_local(task, network)
        self._whitening = load_whitening(task.input(layout.WHITENING)) if config.search.whiten_dims else None

    def _open_local(self, task: TaskContext, network: LandmarkNetwork) -> None:
        local = self._config.local
        folded = fold_for_evaluation(LocalNetwork(network), self.device, local.precision)
        self._extractor = LocalExtractor(folded, local, self.device)
        self._min_attention = read_threshold(task.input(layout.attention_threshold(self._config.local_model)))

    def describe(self, photographs: Split) -> Described:
        """The descriptors of photographs, as stages 05 and 06 make them."""
        images, extract = InputImages.from_split(photographs, self._config.extract), self._config.extract
        workers = self._count_workers(photographs)
        parts = [extract_descriptors(network, images, extract, self.device, workers) for network in self._embeddings]
        joined = JoinedDescriptors(parts, [model.weight for model in self._config.models.values()])[:]
        return Described(self._whitening.apply(joined) if self._whitening else joined, parts)

    def classifiers(self, described: Described) -> list[Classifier]:
        """The classifiers of the models with these photographs' descriptors; empty where recognition uses none."""
        weights = [model.weight for model in self._config.models.values()]
        return [
            Classifier(vectors, one.directions, one.landmark_ids, weight)
            for vectors, one, weight in zip(described.by_model, self._classifiers, weights, strict=False)
        ]

    def extract(self, photographs: Split) -> list[LocalFeatures]:
        """The local features of photographs, as a store gives them back; empty where the run compares nothing."""
        if self._extractor is None:
            return []
        regions, workers = ImageRegions.from_split(photographs), self._count_workers(photographs)
        found = extract_local(self._extractor, regions, self._min_attention, workers)
        return [as_stored(features, self._config.local.storage) for features in found]

    def _count_workers(self, photographs: Split) -> int:
        return self._workers if len(photographs) > FEW else 0
