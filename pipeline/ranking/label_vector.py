"""Label-vector re-ranking: images that resemble the same landmarks of the training set belong together.

Soft voting predicts one landmark per image; a label vector keeps all landmarks of its nearest train images, each with
its similarity. An image between two landmarks is then near both, and no decision is forced.
(13th place, Google Landmark Retrieval 2021.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.arrays import DECIMALS, NO_LABEL, NONE, Doubles, Floats, Integers, Labels
from pipeline.ranking.candidates import (
    Candidates,
    Merged,
    best_of_each,
    check_counts,
    fill_similarities,
    merge,
    query_blocks,
)
from pipeline.ranking.evidence import DescriptorPair, TrainNeighbours
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.ranking.voting import VOTES_TRIED, WEIGHT_POWERS_TRIED, sharpen
from pipeline.settings import Positive, Settings

if TYPE_CHECKING:  # loaded where it is used: the settings below are read where nothing is computed
    from scipy import sparse


class LabelVectorSettings(Settings):
    """The step label_vector."""

    votes: Positive = 5  # nearest train images that a label vector is made of


class LabelScoreSettings(Settings):
    """The step label_score: soft with all landmarks of an image's neighbours instead of one."""

    votes: Positive = 5  # nearest train images that a label vector is made of
    sharpness: Annotated[float, Field(ge=1.0)] = 10.0  # exponent that favours nearer neighbours; 1 = plain cosines
    alpha: Annotated[float, Field(ge=0.0)] = 3.0  # weight of the product of the label vectors


class LabelVectors(NamedTuple):
    """The label vectors of queries (Q, L) and index images (N, L), float64, sparse, over the same landmarks."""

    queries: sparse.csr_array
    index: sparse.csr_array


def label_vectors(similarities: Floats, labels: Labels, landmarks: Labels) -> sparse.csr_array:
    """The label vector of each image: the similarities of its train neighbours summed by landmark, (Q, L) float64.

    similarities (Q, k), or what `sharpen` makes of them, labels (Q, k): of the nearest train images, 5 in the
    published solution; NO_LABEL = no neighbour or no label. landmarks: (L,) ascending, all that occur: column l stands
    for landmarks[l].
    A negative similarity counts as 0: two of them would multiply to an agreement.
    Raises ValueError for a label that `landmarks` lacks. O(Q k log L).
    """
    if similarities.ndim != 2 or similarities.shape != labels.shape:
        raise ValueError(f"similarities and labels need one shape (Q, k), not {similarities.shape} and {labels.shape}")
    if (np.diff(landmarks) <= 0).any():
        raise ValueError("landmarks need to be distinct and ascending")
    images, positions = np.nonzero((labels != NO_LABEL) & (similarities > 0))
    present = labels[images, positions]
    columns = np.searchsorted(landmarks, present)
    known = np.isin(present, landmarks)
    if not known.all():
        raise ValueError(f"label {present[~known][0]} is not among the {len(landmarks)} landmarks")
    values = similarities[images, positions].astype(np.float64)
    from scipy import sparse

    return sparse.csr_array((values, (images, columns)), shape=(len(labels), len(landmarks)))


def label_vector_step(ranking: Ranking, vectors: LabelVectors, *, top_k: int = 100) -> Ranking:
    """All images with a label in common with the query, by the product of their label vectors, then the other listed.

    vectors: from `label_vectors` with the same landmarks. An image is ranked by its product if that, rounded to 6
    decimals, is above 0; equal products by smaller row. The images of the list without one follow in their order; cut
    to `top_k`. A listed image keeps its score, an added one gets its product.

    Time grows with the number of pairs that share a landmark; memory O(Q (K + top_k) + N k) and one block of pairs.
    """
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for at, merged, products in _merge_agreeing(ranking, vectors):
        ties = np.where(products > 0, merged.pairs.rows, merged.positions)
        rows[at], scores[at] = best_of_each(merged.pairs, products, ties, len(rows[at]), top_k)
    return Ranking(rows, scores, ranking.count)


def label_score_step(
    ranking: Ranking, descriptors: DescriptorPair, vectors: LabelVectors, *, alpha: float = 3.0, top_k: int = 100
) -> Ranking:
    """The best `top_k` of the images listed and all with a label in common with the query, by
    cos(q, x) + alpha * (label vector of q · label vector of x).

    Similarity keeps its influence, as in the step soft, and no image has to show one landmark only, as in the step
    label_vector. (2nd place, Google Landmark Retrieval 2021, adds such a label score to the similarity.) Ordered by
    score, rounded to 6 decimals; ties by smaller row. The scores returned are similarities, of added images too.

    ranking: as searched, its scores are the similarities. descriptors: those it was searched with. vectors: from
    `label_vectors`; of sharpened votes divided by their number they lie between 0 and 1, whatever that number is.
    Time and memory as `label_vector_step`, and one block of descriptors.
    """
    check_counts(ranking, len(descriptors.queries), len(descriptors.index))
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for at, merged, products in _merge_agreeing(ranking, vectors):
        pairs = fill_similarities(merged, descriptors.queries[at], descriptors.index)
        values = (pairs.scores.astype(np.float64) + alpha * products).round(DECIMALS)
        rows[at], scores[at] = best_of_each(pairs, values, pairs.rows, len(rows[at]), top_k)
    return Ranking(rows, scores, ranking.count)


def _merge_agreeing(ranking: Ranking, vectors: LabelVectors) -> Iterator[tuple[slice, Merged, Doubles]]:
    """Block by block of queries: the listed and the agreeing images, and the product of each pair, 0 = no agreement."""
    queries, index = vectors
    check_counts(ranking, queries.shape[0], index.shape[0])
    if queries.shape[1] != index.shape[1]:
        raise ValueError(f"label vectors of {queries.shape[1]} and of {index.shape[1]} landmarks")
    by_landmark = index.T.tocsr()
    for at in query_blocks(_most_shared(queries, by_landmark) + ranking.rows.shape[1]):
        found, products = _agreeing(queries[at], by_landmark)
        merged = merge(ranking.rows[at], ranking.scores[at], found)
        values = np.zeros(len(merged.positions))
        values[merged.found] = products
        yield at, merged, values


def _most_shared(query_vectors: sparse.csr_array, by_landmark: Any) -> Integers:
    """(Q,) int64: how many images a query shares landmarks with, one that shares two counted twice."""
    images = np.diff(by_landmark.indptr).astype(np.int64)
    ones = np.ones(query_vectors.nnz, dtype=np.int64)
    from scipy import sparse

    pattern = sparse.csr_array((ones, query_vectors.indices, query_vectors.indptr), shape=query_vectors.shape)
    return pattern @ images


def _agreeing(query_vectors: sparse.csr_array, by_landmark: Any) -> tuple[Candidates, Doubles]:
    """The pairs with a positive product, and the products, (F,) float64, rounded to 6 decimals."""
    products = (query_vectors @ by_landmark).tocoo()
    queries, images = products.coords
    values = products.data.round(DECIMALS)
    above = values > 0
    queries, images, values = queries[above].astype(np.int64), images[above].astype(np.int32), values[above]
    return Candidates(queries, images, values.astype(np.float32)), values


def make_label_vectors(train: TrainNeighbours, votes: int, sharpness: float = 1.0) -> LabelVectors:
    """The label vectors of queries and index images by their first `votes` train neighbours, sharpened."""
    queries, index = (
        label_vectors(sharpen(near.similarities[:, :votes], sharpness), near.labels[:, :votes], train.landmarks)
        for near in (train.queries, train.index)
    )
    return LabelVectors(queries, index)


def _apply_vector(ranking: Ranking, settings: LabelVectorSettings, top_k: int, train: TrainNeighbours) -> Ranking:
    return label_vector_step(ranking, make_label_vectors(train, settings.votes), top_k=top_k)


def _apply_score(
    ranking: Ranking, settings: LabelScoreSettings, top_k: int, descriptors: DescriptorPair, train: TrainNeighbours
) -> Ranking:
    queries, index = (part / settings.votes for part in make_label_vectors(train, settings.votes, settings.sharpness))
    return label_score_step(ranking, descriptors, LabelVectors(queries, index), alpha=settings.alpha, top_k=top_k)


LABEL_VECTOR = Step(
    "label_vector",
    "images that share landmarks among their train neighbours, by the product of their label vectors",
    _apply_vector,
    always(TrainNeighbours),
    LabelVectorSettings,
    adds_other_scores=True,
    tunable={"votes": VOTES_TRIED},
)
LABEL_SCORE = Step(
    "label_score",
    "similarity plus the product of the label vectors",
    _apply_score,
    always(DescriptorPair, TrainNeighbours),
    LabelScoreSettings,
    reads_similarities=True,
    tunable={"votes": VOTES_TRIED, "sharpness": WEIGHT_POWERS_TRIED, "alpha": (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)},
)
