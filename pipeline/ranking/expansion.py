"""Query expansion and database augmentation: descriptors move towards their neighbours, then queries search again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.arrays import NO_LABEL, NONE, Floats, Labels, Rows, Vectors, round_similarity
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.evidence import DescriptorPair, IndexGraph, LandmarkVotes
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import check_descriptors, gather
from pipeline.ranking.step import Step, always
from pipeline.settings import Positive, Settings

BLOCK_VALUES = 4 << 20  # components of neighbours held at a time
SHORTEST = 1e-6  # a sum shorter than this is what rounding left of vectors that cancel: it has no direction


class AverageExpansionSettings(Settings):
    """The step aqe."""

    k: Positive = 5  # images averaged with the query


class AlphaExpansionSettings(Settings):
    """The step alpha_qe."""

    k: Positive = 10  # images averaged with the query
    alpha: Annotated[float, Field(ge=0.0)] = 3.0  # exponent of the cosine that weights each image


class DatabaseSettings(Settings):
    """The step dba."""

    k: Positive = 5  # neighbours averaged with an index image
    alpha: Annotated[float, Field(ge=0.0)] = 3.0  # exponent of the cosine that weights each neighbour
    supervised: bool = False  # only towards images that soft voting gives the same landmark


def expand_queries(descriptors: DescriptorPair, ranking: Ranking, k: int = 10, alpha: float = 3.0) -> Floats:
    """The queries moved towards the first k images of their lists, (Q, D) float32, L2-normalised.

    q' = normalise(q + sum over i <= k of w_i x_i), w_i = max(cos(q, x_i), 0)^alpha (Radenovic et al. 2018, alpha query
    expansion). alpha = 0 makes every w_i 1: average query expansion (Chum et al. 2007), which also adds images whose
    cosine is negative.

    Cosines are computed again, rounded to 6 decimals: the scores of a list need not be cosines. Empty positions add
    nothing; k may exceed the list. A sum of zero has no direction: the query stays unchanged. O(Q k D) time; memory
    O(Q D), and one block of neighbours.
    """
    queries, index = descriptors.queries, descriptors.index
    check_descriptors(ranking.rows, descriptors)
    _check_parameters(k, alpha)
    moved = np.empty(queries.shape, np.float32)
    for at in _blocks(len(moved), k, moved.shape[1]):
        moved[at] = _moved(queries[at], index, ranking.rows[at, :k], alpha)
    return moved


def augment_database(
    index: Vectors, neighbours: Neighbours, k: int = 5, alpha: float = 3.0, labels: Labels | None = None
) -> Floats:
    """The index images moved towards their own k nearest, (N, D) float32, L2-normalised.

    `expand_queries` for the database. Averages over an image's neighbours: Turcot & Lowe 2009, Arandjelovic & Zisserman
    2012; the weights are those of `expand_queries`. All images move at once, from their original descriptors.

    index: (N, D), L2-normalised. neighbours: (N, K) of each image among the others, the image itself left out (search
    with `exclude`); positions without a neighbour add nothing.
    labels: (N,); with them an image moves only towards images of its own label (supervised), the first k such among its
    K neighbours. An image with NO_LABEL stays, and no image moves towards it.
    O(N k D) time; memory O(N D) for the answer, and one block of neighbours.
    """
    check_descriptors(neighbours.rows, DescriptorPair(index, index))
    _check_parameters(k, alpha)
    if labels is not None and labels.shape != (len(index),):
        raise ValueError(f"labels of shape {labels.shape} for {len(index)} index rows")
    moved = np.empty(index.shape, np.float32)
    for at in _blocks(len(moved), k, moved.shape[1]):
        rows = neighbours.rows[at]
        itself = rows == np.arange(at.start, at.start + len(rows))[:, None]
        if itself.any():
            row = at.start + int(itself.any(axis=1).argmax())
            raise ValueError(f"row {row} is among its own neighbours: search with exclude")
        if labels is not None:
            rows = _agreeing(rows, labels[at], labels)
        moved[at] = _moved(index[at], index, rows[:, :k], alpha)
    return moved


def _moved(own: NDArray[np.floating], index: Vectors, rows: Rows, alpha: float) -> Floats:
    """B vectors (B, D) moved towards the index rows (B, k). Sums run in list order: no block changes a bit."""
    wide = np.ascontiguousarray(own, np.float64)
    neighbours, total = gather(index, rows), wide.copy()
    for position in range(rows.shape[1]):
        vectors = neighbours[:, position].astype(np.float64)
        weights = np.maximum(round_similarity((wide * vectors).sum(axis=1)), 0.0) ** alpha  # 0^0 = 1
        total += weights[:, None] * vectors  # zeros at an empty position
    length = np.sqrt((total * total).sum(axis=1, keepdims=True))
    return np.where(length > SHORTEST, total / np.maximum(length, SHORTEST), wide).astype(np.float32)


def _agreeing(rows: Rows, own_labels: Labels, labels: Labels) -> Rows:
    """The neighbours (B, K) of the image's own label, in their order, padded with NONE."""
    if not rows.size:
        return rows
    agree = (rows != NONE) & (labels[rows] == own_labels[:, None]) & (own_labels != NO_LABEL)[:, None]
    order = np.argsort(~agree, axis=1, kind="stable")
    return np.take_along_axis(np.where(agree, rows, NONE), order, axis=1).astype(np.int32)


def _blocks(count: int, k: int, width: int) -> Iterator[slice]:
    size = max(1, BLOCK_VALUES // max(1, (k + 1) * width))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _check_parameters(k: int, alpha: float) -> None:
    if k < 0 or not alpha >= 0.0:
        raise ValueError(f"k={k}, alpha={alpha}: neither may be below 0")


def _apply_aqe(
    ranking: Ranking, settings: AverageExpansionSettings, top_k: int, descriptors: DescriptorPair
) -> DescriptorPair:
    return DescriptorPair(expand_queries(descriptors, ranking, settings.k, 0.0), descriptors.index)


def _apply_alpha_qe(
    ranking: Ranking, settings: AlphaExpansionSettings, top_k: int, descriptors: DescriptorPair
) -> DescriptorPair:
    return DescriptorPair(expand_queries(descriptors, ranking, settings.k, settings.alpha), descriptors.index)


def _apply_dba(
    ranking: Ranking, settings: DatabaseSettings, top_k: int, *evidence: DescriptorPair | IndexGraph | LandmarkVotes
) -> DescriptorPair:
    descriptors, graph, *votes = evidence
    assert isinstance(descriptors, DescriptorPair) and isinstance(graph, IndexGraph)
    labels = votes[0].index.labels if votes and isinstance(votes[0], LandmarkVotes) else None
    moved = augment_database(descriptors.index, graph.neighbours, settings.k, settings.alpha, labels)
    return DescriptorPair(descriptors.queries, moved)


_K_TRIED, _ALPHA_TRIED = (1, 2, 3, 5, 7, 10, 15, 20), (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
AQE = Step(
    "aqe",
    "average query expansion: the query becomes the mean of itself and its nearest images, then searches again",
    _apply_aqe,
    always(DescriptorPair),
    AverageExpansionSettings,
)
ALPHA_QE = Step(
    "alpha_qe",
    "alpha query expansion: the same, each image weighted by its cosine to a power",
    _apply_alpha_qe,
    always(DescriptorPair),
    AlphaExpansionSettings,
    tunable={"k": _K_TRIED, "alpha": _ALPHA_TRIED},
)
DBA = Step(
    "dba",
    "database augmentation: every index image moves towards its nearest, then the queries search again",
    _apply_dba,
    lambda settings: (DescriptorPair, IndexGraph) + (LandmarkVotes,) * settings.supervised,
    DatabaseSettings,
    moves_index=True,
    tunable={"k": _K_TRIED, "alpha": _ALPHA_TRIED},
)
