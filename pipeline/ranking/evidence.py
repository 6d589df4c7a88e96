"""What ranking steps may read besides the ranking: one small type per kind of evidence.

Q queries (test images), N index images. A step declares the kinds it needs; nothing else is read for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pipeline.arrays import Floats, Labels, Vectors
from pipeline.competition.metrics import Truth
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.landmark_groups import LandmarkGroups, group_by_landmark
from pipeline.ranking.voting import Votes

if TYPE_CHECKING:
    from scipy import sparse

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class LandmarkVotes:
    """Landmarks and confidences by soft voting, of the queries and of the index images."""

    queries: Votes
    index: Votes

    @cached_property
    def groups(self) -> LandmarkGroups:
        """The index images of each landmark, computed when a step first asks."""
        return group_by_landmark(self.index)


@dataclass(frozen=True)
class DescriptorPair:
    """L2-normalised descriptors: queries (Q, D), index (N, D)."""

    queries: Vectors
    index: Vectors


@dataclass(frozen=True)
class IndexGraph:
    """The nearest neighbours of each index image in the index itself, (N, k), the image left out."""

    neighbours: Neighbours


class LabelledNeighbours(NamedTuple):
    """The nearest train images of each image: similarities (Q, k), labels (Q, k), NO_LABEL where there is none."""

    similarities: Floats
    labels: Labels


@dataclass(frozen=True)
class TrainNeighbours:
    """The nearest train images of queries and of index images. landmarks: (L,) all labels of train, ascending."""

    queries: LabelledNeighbours
    index: LabelledNeighbours
    landmarks: Labels


@dataclass(frozen=True)
class PropagatedLabels:
    """Labels that have spread through the graph of train and index, sparse float64: queries (Q, L), index (N, L).

    landmarks: (L,) ascending, what the columns stand for.
    """

    queries: sparse.csr_array
    index: sparse.csr_array
    landmarks: Labels


@dataclass(frozen=True)
class VerifiedPairs:
    """The inliers of verified pairs of queries and index images; `first` images of each list were compared."""

    table: PairTable
    first: int


@dataclass(frozen=True)
class Junk:
    """The index rows that no list of a query may hold and no step may read; None = no junk."""

    rows: Truth | None = None


class Evidence:
    """The evidence of one run: at most one value of each kind."""

    def __init__(self, *values: object):
        self._values: dict[type, object] = {Junk: Junk()} | {type(value): value for value in values}

    def get(self, kind: type[Kind]) -> Kind:
        """The value of this kind. Raises ValueError where the evidence lacks it."""
        value = self._values.get(kind)
        if not isinstance(value, kind):
            raise ValueError(f"a step needs {kind.__name__}, which the evidence lacks")
        return value

    def replace(self, *values: object) -> Evidence:
        """The same evidence with other values of these kinds."""
        return Evidence(*(self._values | {type(value): value for value in values}).values())
