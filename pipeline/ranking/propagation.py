"""Labels spread through the graph of train and index: a landmark reaches images that no train photograph resembles.

Soft voting reads the direct train neighbours of an image. Here every image also passes on what it has: along the edges
to its nearest neighbours, of train and index alike, less with each step (Zhou et al. 2004, "Learning with local and
global consistency"; with descriptors Iscen et al. 2019). An index image that joins two sides of a building hands the
label of one side to the other. Queries are not in the graph: each receives from its own neighbours, so that no answer
depends on which other photographs are asked.

    F = sum over i of (alpha S)^i Y      Y (N, L): 1 where a train image has its label; S: the normalised graph

Edges are sharpened as votes are (voting.sharpen): a neighbour counts for less the farther it is than the nearest. Pairs
that were compared geometrically count for more by their inliers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.arrays import NO_LABEL, NONE, AnyIntegers, Doubles, Integers, Labels, Mask, Rows
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.evidence import DescriptorPair, PropagatedLabels, TrainNeighbours
from pipeline.ranking.label_vector import LabelVectors, label_score_step, make_label_vectors
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step
from pipeline.settings import Positive, PropagationSettings, Settings

if TYPE_CHECKING:
    from scipy import sparse

STEPS_TAKEN = 12  # of the sum: with alpha = 0.75 what is left out is 3 % of it
BLOCK_ROWS = 16_384  # of the graph multiplied at a time
SMALLEST = 1e-6  # a strength that is dropped
TICKS = 10**7  # strengths are whole numbers of 1 / this, so that equal sums are equal


class PropagationStepSettings(Settings):
    """The step propagation."""

    weight: Annotated[float, Field(ge=0.0)] = 1.5  # weight of the product of the propagated labels
    direct_weight: Annotated[float, Field(ge=0.0)] = 0.75  # weight of the product of the label vectors; 0 = none
    votes: Positive = 5  # nearest train images that a label vector is made of
    sharpness: Annotated[float, Field(ge=1.0)] = 10.0  # exponent that favours nearer of them; 1 = plain cosines


class Spread(NamedTuple):
    """The labels of N images of a graph. labels: (N, L) float64, sparse. degrees: (N,), the sums of their edges."""

    labels: sparse.csr_array
    degrees: Doubles


def edge_weights(near: Neighbours, settings: PropagationSettings, inliers: AnyIntegers | None = None) -> Doubles:
    """The weight of the edge from each image to each of its neighbours, (Q, k) float64; 0 where there is none.

    Edge i of an image: s_i r_i / sum(r), with r_i = (s_i / s_1)^(sharpness - 1) * (1 + inlier_weight * share of
    max_inliers that the pair has); s are similarities, below 0 counted as 0. inliers: (Q, k), 0 for pairs that were not
    compared.
    """
    similarities = np.where(near.rows == NONE, 0.0, near.similarities).clip(0.0).astype(np.float64)
    if not similarities.shape[1]:
        return similarities
    nearest = similarities[:, :1]
    relative = np.divide(similarities, nearest, out=np.zeros_like(similarities), where=nearest > 0)
    relative = relative ** (settings.sharpness - 1.0) if settings.sharpness > 1.0 else (relative > 0).astype(np.float64)
    if inliers is not None:
        relative *= 1.0 + settings.inlier_weight * np.minimum(inliers, settings.max_inliers) / settings.max_inliers
    total = relative.sum(axis=1, keepdims=True)
    return similarities * np.divide(relative, total, out=np.zeros_like(relative), where=total > 0)


def propagate_labels(
    rows: Rows, weights: Doubles, labels: Labels, landmarks: Labels, alpha: float, kept: int
) -> Spread:
    """The labels that spread from the labelled images of a graph to all N images.

    rows, weights (N, k): the neighbours of every image and the weights of the edges to them, which count half in each
    direction. labels (N,): NO_LABEL = none of its own. landmarks (L,): ascending, all labels. alpha: what is passed on,
    from 0 to below 1. kept: at most so many labels of an image, the strongest; equal ones by landmark.
    O(N k kept) time for each of 12 steps, memory O(N (k + kept)). Raises ValueError for alpha outside [0, 1).
    """
    from scipy import sparse

    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"alpha={alpha}; at least 0 and below 1 is needed")
    edges = _to_matrix(rows, weights, len(rows))
    edges = sparse.csr_array((edges + edges.T) / 2)
    degrees = np.asarray(edges.sum(axis=1)).ravel()
    scale = sparse.diags_array(_inverse_roots(degrees))
    graph = sparse.csr_array(scale @ edges @ scale)
    own = np.flatnonzero(labels != NO_LABEL)
    columns = np.searchsorted(landmarks, labels[own])
    start = sparse.csr_array((np.ones(len(own)), (own, columns)), shape=(len(labels), len(landmarks)))
    spread = start
    for _ in range(STEPS_TAKEN):
        spread = _multiply(graph, spread, alpha, start, kept)
    return Spread(spread, degrees)


def receive_labels(rows: Rows, weights: Doubles, spread: Spread, kept: int) -> sparse.csr_array:
    """The labels (Q, L) that images outside of the graph receive from their neighbours in it; rows, weights (Q, k)."""
    from scipy import sparse

    edges = _to_matrix(rows, weights, len(spread.degrees)) @ sparse.diags_array(_inverse_roots(spread.degrees))
    return _multiply(sparse.csr_array(edges), spread.labels, 1.0, None, kept)


def join_lists(lists: Sequence[Neighbours], starts: Sequence[int], k: int) -> Neighbours:
    """The k nearest of several lists per image (Q, k_i), whose rows begin at `starts` in the graph; ties by row."""
    rows = np.concatenate(
        [np.where(near.rows == NONE, NONE, near.rows + start) for near, start in zip(lists, starts, strict=True)],
        axis=1,
    )
    similarities = np.concatenate([near.similarities for near in lists], axis=1)
    order = np.lexsort((rows, -similarities, rows == NONE), axis=1)[:, :k]
    return Neighbours(*(np.take_along_axis(values, order, axis=1) for values in (rows.astype(np.int32), similarities)))


def strongest_labels(labels: sparse.csr_array, landmarks: Labels, count: int) -> tuple[Labels, Doubles]:
    """The `count` strongest labels of each image and their strengths, (Q, count); NO_LABEL and 0 fill the end."""
    names = np.full((labels.shape[0], count), NO_LABEL, np.int64)
    strengths = np.zeros(names.shape)
    images = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    order = np.lexsort((labels.indices, -labels.data, images))
    position = np.arange(len(order)) - labels.indptr[images[order]]
    chosen, at = order[position < count], position[position < count]
    names[images[chosen], at] = landmarks[labels.indices[chosen]]
    strengths[images[chosen], at] = labels.data[chosen]
    return names, strengths


def returned_strengths(rows: Rows, weights: Doubles, degrees: Doubles, alpha: float, images: Integers) -> Doubles:
    """How much of an image's own label comes back to it over its neighbours, (I,), if it receives as a query does.

    rows, weights (N, k), degrees (N,): of the graph. images (I,): rows. Only the way to a neighbour and back counts: a
    longer one carries little, because alpha and an edge are factors of each step.
    """
    from scipy import sparse

    edges, roots = _to_matrix(rows, weights, len(rows)), sparse.diags_array(_inverse_roots(degrees))
    sent = sparse.csr_array((edges[images] + edges.T.tocsr()[images]) / 2) @ roots
    received = sparse.csr_array(edges[images] @ roots)
    return alpha * np.asarray(received.multiply(sent).sum(axis=1)).ravel() * _inverse_roots(degrees)[images]


def lower_labels(labels: sparse.csr_array, columns: Integers, amounts: Doubles) -> sparse.csr_array:
    """The labels (Q, L), in each row that of `columns` (Q,) weaker by `amounts` (Q,), though not below 0."""
    lowered = labels.copy()
    images = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    own = labels.indices == columns[images]
    lowered.data = np.where(own, np.maximum(labels.data - amounts[images], 0.0), labels.data)
    lowered.eliminate_zeros()
    return lowered


def propagation_step(
    ranking: Ranking,
    descriptors: DescriptorPair,
    labels: PropagatedLabels,
    settings: PropagationStepSettings,
    train: TrainNeighbours | None = None,
    top_k: int = 100,
) -> Ranking:
    """The best `top_k` of the images listed and of all that share a label with the query, by
    cos(q, x) + weight * (propagated labels of q · of x) + direct_weight * (label vectors of q · of x).

    `label_score_step` with labels of the whole graph beside those of direct train neighbours, which are stronger where
    an image's neighbours in the graph are mostly index images. train: None = without the latter.
    """
    sides = [[math.sqrt(settings.weight) * side] for side in (labels.queries, labels.index)]
    if train is not None and settings.direct_weight:
        scale = math.sqrt(settings.direct_weight) / settings.votes
        for side, direct in zip(sides, make_label_vectors(train, settings.votes, settings.sharpness), strict=True):
            side.append(scale * direct)
    vectors = LabelVectors(*(_side_by_side(parts) for parts in sides))
    return label_score_step(ranking, descriptors, vectors, alpha=1.0, top_k=top_k)


def _side_by_side(parts: list[sparse.csr_array]) -> sparse.csr_array:
    from scipy import sparse

    return sparse.csr_array(sparse.hstack(parts, format="csr"))


def _to_matrix(rows: Rows, weights: Doubles, count: int) -> sparse.csr_array:
    from scipy import sparse

    present: Mask = (rows != NONE) & (weights > 0)
    images, positions = np.nonzero(present)
    columns = rows[images, positions]
    return sparse.csr_array((weights[images, positions], (images, columns)), shape=(len(rows), count))


def _inverse_roots(degrees: Doubles) -> Doubles:
    return np.divide(1.0, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)


def _multiply(
    graph: sparse.csr_array, labels: sparse.csr_array, alpha: float, start: sparse.csr_array | None, kept: int
) -> sparse.csr_array:
    """alpha * graph @ labels + start, block by block of rows, each row pruned to its strongest labels."""
    from scipy import sparse

    blocks = []
    for at in range(0, max(graph.shape[0], 1), BLOCK_ROWS):
        part = alpha * (graph[at : at + BLOCK_ROWS] @ labels)
        part = part if start is None else part + start[at : at + BLOCK_ROWS]
        blocks.append(_prune(sparse.csr_array(part), kept))
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def _prune(labels: sparse.csr_array, kept: int) -> sparse.csr_array:
    """The `kept` greatest values of every row, rounded to 7 decimals; equal ones by column. Columns ascend.

    Row, value and column are sorted as one number each, five times as fast as by three keys.
    """
    from scipy import sparse

    rows, columns = labels.shape
    ticks = np.rint(labels.data * TICKS).astype(np.int64)
    levels = int(ticks.max(initial=0)) + 1
    if rows > 1 and rows * levels * columns >= 1 << 63:
        halves = [_prune(labels[part], kept) for part in (slice(rows // 2), slice(rows // 2, None))]
        return sparse.csr_array(sparse.vstack(halves, format="csr"))
    counts = np.diff(labels.indptr)
    keys = np.repeat(np.arange(rows), counts) * levels + (levels - 1 - ticks)
    keys = np.sort(keys * columns + labels.indices)
    position = np.arange(len(keys)) - np.repeat(labels.indptr[:-1], counts)
    above, column = np.divmod(keys[position < kept], max(columns, 1))
    row, below = np.divmod(above, levels)
    tick = levels - 1 - below
    strong = tick > SMALLEST * TICKS
    return sparse.csr_array((tick[strong] / TICKS, (row[strong], column[strong])), shape=labels.shape)


def _apply(
    ranking: Ranking,
    settings: PropagationStepSettings,
    top_k: int,
    descriptors: DescriptorPair,
    labels: PropagatedLabels,
    train: TrainNeighbours | None = None,
) -> Ranking:
    return propagation_step(ranking, descriptors, labels, settings, train, top_k)


STEP = Step(
    "propagation",
    "similarity plus agreement of labels, spread through the graph of train and index and of direct train neighbours",
    _apply,
    lambda settings: (DescriptorPair, PropagatedLabels) + (TrainNeighbours,) * (settings.direct_weight > 0),
    PropagationStepSettings,
    reads_similarities=True,
    tunable={"weight": (0.25, 0.5, 1.0, 1.5, 3.0, 6.0), "direct_weight": (0.0, 0.35, 0.75, 1.5, 3.0)},
)
