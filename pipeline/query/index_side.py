"""What a run knows of its index and train images: descriptors on the disk, landmarks, votes, and the lists of index."""

from __future__ import annotations

from functools import partial

import numpy as np

from pipeline import layout
from pipeline.arrays import Floats, Vectors
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.features.local_store import LocalStore
from pipeline.images.rejection import read_rejected
from pipeline.matching.gaps import Gaps
from pipeline.matching.knn import SearchOptions, search, search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.query.compared_features import ComparedFeatures
from pipeline.query.photographs import Describer
from pipeline.ranking.evidence import (
    DescriptorPair,
    IndexGraph,
    LabelledNeighbours,
    LandmarkVotes,
    PropagatedLabels,
    TrainNeighbours,
)
from pipeline.ranking.voting import Votes, neighbour_labels
from pipeline.settings import NON_LANDMARK
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import (
    compared_references,
    descriptor_references,
    open_descriptors,
    open_split,
    read_compared,
    read_labelled_neighbours,
    read_neighbours,
    read_votes,
)
from pipeline.tasks.propagation import read_propagated, read_spread, receive
from pipeline.tasks.train_labels import label_references, read_labels


def list_references(config: Config) -> list[str]:
    """What a query reads of a run. Raises PipelineError for a run that cannot describe a new photograph."""
    external = [name for name, model in config.models.items() if not model.is_network]
    if external:
        what = f"the descriptors of the model {external[0]} came from elsewhere, and no network here can add to them"
        raise PipelineError(what, f"models.{external[0]}.descriptors", "ask a run whose models are all networks")
    needs, bases = config.rerank.needs(config.rerank.recipe), list_bases(config)
    references = [*(layout.images(split) for split in ("index", "train")), layout.LANDMARK_NAMES]
    references += label_references(config)
    references += [layout.votes("index"), layout.RECOGNITION, layout.UNKNOWN]
    references += [layout.final_network(name) for name in config.models]
    references += [name for base in bases for name in descriptor_references(config, base)]
    references += [layout.WHITENING] * (config.search.whiten_dims > 0)
    references += [layout.neighbours("index", "index")] * (IndexGraph in needs)
    references += [layout.neighbours("index", "train")] * (TrainNeighbours in needs)
    references += [layout.PROPAGATE] * needs_spread(config)
    references += [layout.neighbours("train", NON_LANDMARK)] * (NON_LANDMARK in bases)
    for split in config.verified_splits:
        references += [layout.local_features(config.local_model, split), *compared_references(config, split)]
    return references + [layout.attention_threshold(config.local_model)] * bool(config.verified_splits)


def needs_spread(config: Config) -> bool:
    """Whether an answer reads labels that have spread through the graph of train and index."""
    return PropagatedLabels in config.rerank.needs(config.rerank.recipe) or config.recognition.propagation > 0


def list_bases(config: Config) -> list[str]:
    """The splits that photographs are searched in."""
    return ["index", "train"] + [NON_LANDMARK] * config.recognition.non_landmarks


class IndexSide:
    """The searched splits of a run. Descriptors and local features stay on the disk until they are read."""

    def __init__(self, task: TaskContext, config: Config, describer: Describer):
        self._task, self._config, self._device = task, config, describer.device
        bases, needs = list_bases(config), config.rerank.needs(config.rerank.recipe)
        self.vectors = {base: open_descriptors(task, config, base) for base in bases}
        folders = {base: map(task.input, descriptor_references(config, base)) for base in bases}
        self._gaps = {base: Gaps(base=read_rejected(sources)) for base, sources in folders.items()}
        self.landmarks, self.votes = read_labels(task, config), read_votes(task, "index")
        self.images = {split: open_split(task, config, split) for split in ("index", "train")}
        compared = tuple(self.images) if config.verified_splits else ()
        self.compared = {split: self._open_compared(split, describer) for split in compared}
        self._graph = [IndexGraph(read_neighbours(task, "index", "index"))] if IndexGraph in needs else []
        labelled = TrainNeighbours in needs
        self._spread = read_spread(task) if needs_spread(config) else None
        self._of_index = read_propagated(task, config) if needs_spread(config) else None
        self._labelled = [read_labelled_neighbours(task, "index", self.landmarks)] if labelled else []

    def _open_compared(self, split: str, describer: Describer) -> ComparedFeatures:
        images, stored, store = self.images[split], np.zeros(len(self.images[split]), np.bool_), None
        if split in self._config.verified_splits:
            store = LocalStore(self._task.input(layout.local_features(self._config.local_model, split)))
            stored[read_compared(self._task, self._config, split)[:, 1]] = True
        return ComparedFeatures(images, stored, store, describer.extract, self._config.verify)

    def search(self, queries: Floats, base: str) -> Neighbours:
        """The nearest images of a split, found as in stage 06."""
        settings, k = self._config.search, self._config.count_neighbours("test", base)
        options = SearchOptions(settings.index_factory, settings.nprobe, self._device)
        return self._gaps[base].search(partial(search, options=options), queries, self.vectors[base], k)

    def search_again(self, queries: Vectors, index: Vectors, k: int) -> Neighbours:
        """The nearest index images by descriptors that a step moved, found as in stage 10."""
        return self._gaps["index"].search(partial(search_exact, device=self._device), queries, index, k)

    def propagate(self, lists: list[Neighbours], inliers: PairTable | None) -> PropagatedLabels | None:
        """The labels that photographs receive from their neighbours in train and index; None if nothing asks."""
        if self._spread is None or self._of_index is None:
            return None
        received = receive(self._spread, lists, self._config, inliers, len(self.landmarks))
        return PropagatedLabels(received, self._of_index.index, self._of_index.landmarks)

    def read_likeness(self) -> Neighbours:
        """The images of no landmark nearest to each train image."""
        return read_neighbours(self._task, "train", NON_LANDMARK, mapped=True)

    def label(self, near: Neighbours) -> LabelledNeighbours:
        """Train neighbours with their landmarks."""
        return LabelledNeighbours(near.similarities, neighbour_labels(near.rows, self.landmarks))

    def list_evidence(self, queries: Floats, near: LabelledNeighbours, votes: Votes) -> list[object]:
        """What the steps of the recipe read of photographs and index, but for verified pairs."""
        known = [TrainNeighbours(near, of_index, np.unique(self.landmarks)) for of_index in self._labelled]
        return [LandmarkVotes(votes, self.votes), DescriptorPair(queries, self.vectors["index"]), *self._graph, *known]
