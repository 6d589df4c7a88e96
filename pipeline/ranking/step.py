"""What a ranking step is: its function, its settings, the evidence it needs and what it refuses to follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.ranking.evidence import DescriptorPair, LandmarkVotes, PropagatedLabels, TrainNeighbours
from pipeline.ranking.ranking import Ranking
from pipeline.settings import Settings

LABEL_EVIDENCE = (LandmarkVotes, TrainNeighbours, PropagatedLabels)  # what a labelled train set gives


def always(*kinds: type) -> Callable[[Any], tuple[type, ...]]:
    """Needs that do not depend on the step's settings."""
    return lambda settings: kinds


NOTHING = always()


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    apply: (ranking, settings, top_k, *evidence) -> the new ranking; or moved descriptors, with which the queries search
    again. evidence: one value for each kind in `needs(settings)`, in that order. top_k: the length of the
    lists handed in, for steps that add images.
    summary: one line for the documentation. settings: the class of the section [rerank.<name>].
    reads_similarities: the scores of the lists have to be similarities, so the step cannot follow one that adds images
    with other scores (adds_other_scores).
    moves_index: the step moves the descriptors of index images and no query decides how, nor is any moved.
    tunable: values that `benchmarks.tune` tries of each setting.
    """

    name: str
    summary: str
    apply: Callable[..., Ranking | DescriptorPair]
    needs: Callable[[Any], tuple[type, ...]] = NOTHING
    settings: type[Settings] = Settings
    reads_similarities: bool = False
    adds_other_scores: bool = False
    moves_index: bool = False
    tunable: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def needs_labels(self, settings: Settings) -> bool:
        """Whether the step needs a labelled train set under these settings."""
        return any(kind in LABEL_EVIDENCE for kind in self.needs(settings))
