"""Readers of the evidence that ranking steps need: one entry per kind, so that no more is read than a recipe asks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from pipeline import layout
from pipeline.config import Config
from pipeline.ranking.evidence import (
    DescriptorPair,
    Evidence,
    IndexGraph,
    Junk,
    LandmarkVotes,
    PropagatedLabels,
    TrainNeighbours,
    VerifiedPairs,
)
from pipeline.ranking.recipe import Search
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import (
    descriptor_references,
    junk_references,
    open_descriptors,
    read_gaps,
    read_labelled_neighbours,
    read_neighbours,
    read_pairs,
    read_votes,
)
from pipeline.tasks.propagation import read_propagated
from pipeline.tasks.train_labels import label_references, read_labels

SIDES = ("test", "index")  # queries, index images


class Source(NamedTuple):
    """Where a kind of evidence comes from: the references to declare, the function that reads it, and the settings
    that affect it (part of the cache key)."""

    references: Callable[[Config], list[str]]
    read: Callable[[TaskContext, Config], Any]
    settings: Callable[[Config], dict[str, Any]] = lambda config: {}


def _read_votes(task: TaskContext, config: Config) -> LandmarkVotes:
    return LandmarkVotes(*(read_votes(task, split) for split in SIDES))


def _read_train_neighbours(task: TaskContext, config: Config) -> TrainNeighbours:
    import numpy as np

    landmarks = read_labels(task, config)
    queries, index = (read_labelled_neighbours(task, split, landmarks) for split in SIDES)
    return TrainNeighbours(queries, index, np.unique(landmarks))


SOURCES: dict[type, Source] = {
    LandmarkVotes: Source(lambda config: [layout.votes(split) for split in SIDES], _read_votes),
    DescriptorPair: Source(
        lambda config: [name for split in SIDES for name in descriptor_references(config, split)],
        lambda task, config: DescriptorPair(*(open_descriptors(task, config, split) for split in SIDES)),
        lambda config: {"weights": {name: model.weight for name, model in config.models.items()}},
    ),
    IndexGraph: Source(
        lambda config: [layout.neighbours("index", "index")],
        lambda task, config: IndexGraph(read_neighbours(task, "index", "index")),
    ),
    TrainNeighbours: Source(
        lambda config: [*(layout.neighbours(split, "train") for split in SIDES), *label_references(config)],
        _read_train_neighbours,
    ),
    PropagatedLabels: Source(lambda config: [layout.PROPAGATE], read_propagated),
    VerifiedPairs: Source(
        lambda config: [layout.verified_pairs("index")],
        lambda task, config: VerifiedPairs(read_pairs(task, "index"), config.verify.index_k),
        lambda config: {"compared": config.verify.index_k},
    ),
    Junk: Source(junk_references, lambda task, config: Junk()),  # of each setup: stage 10 replaces it
}


def evidence_references(config: Config, kinds: Collection[type]) -> list[str]:
    """The references that `read_evidence` reads for these kinds."""
    return [name for kind, source in SOURCES.items() if kind in kinds for name in source.references(config)]


def evidence_settings(config: Config, kinds: Collection[type]) -> dict[str, Any]:
    """The settings that affect these kinds of evidence (part of the cache key)."""
    return {key: value for kind in SOURCES if kind in kinds for key, value in SOURCES[kind].settings(config).items()}


def read_evidence(task: TaskContext, config: Config, kinds: Collection[type]) -> Evidence:
    """The evidence of these kinds."""
    return Evidence(*(source.read(task, config) for kind, source in SOURCES.items() if kind in kinds))


def open_search(task: TaskContext, config: Config, kinds: Collection[type]) -> Search:
    """The search for steps that move descriptors: among the images that have one."""
    from pipeline.device import choose_device
    from pipeline.matching.gaps import Gaps
    from pipeline.matching.knn import search_exact

    gaps = read_gaps(task, config, *SIDES) if DescriptorPair in kinds else Gaps()
    return partial(gaps.search, partial(search_exact, device=choose_device(config.runtime.device)))
