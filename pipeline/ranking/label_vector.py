"""Label-vector re-ranking: images that resemble the same landmarks of the training set belong together.

Soft voting keeps one landmark of an image; a label vector keeps all that its nearest training photographs show, each
with its similarity. So an image that lies between two landmarks is near both, and nothing has to be decided.
(13th place, Google Landmark Retrieval 2021.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.matching.blocks import Rows
from pipeline.ranking.candidates import (
    Candidates,
    Merged,
    best_of_each,
    check_counts,
    fill_similarities,
    merge,
    query_blocks,
)
from pipeline.ranking.ranking import NONE, Ranking
from pipeline.ranking.voting import DECIMALS, NO_LABEL, Floats, Labels


def label_vectors(similarities: Floats, labels: Labels, landmarks: Labels) -> sparse.csr_array:
    """For each image the sum of its training neighbours' similarities by landmark: (Q, L) float64, sparse.

    similarities (Q, k), or what `sharpen` makes of them, labels (Q, k): of the nearest training photographs, 5 in the
    published solution; label -1 = no neighbour or no label. landmarks: (L,) ascending, all that occur: column l stands
    for landmarks[l].
    A negative similarity counts as 0: two of them would multiply to an agreement.
    Raises ValueError for a label that `landmarks` lacks. O(Q k log L).
    """
    if similarities.ndim != 2 or similarities.shape != labels.shape:
        raise ValueError(f"similarities and labels need one shape (Q, k), not {similarities.shape} and {labels.shape}")
    if (np.diff(landmarks) <= 0).any():
        raise ValueError("landmarks need to be distinct and ascending")
    images, places = np.nonzero((labels != NO_LABEL) & (similarities > 0))
    present = labels[images, places]
    columns = np.searchsorted(landmarks, present)
    known = np.isin(present, landmarks)
    if not known.all():
        raise ValueError(f"label {present[~known][0]} is not among the {len(landmarks)} landmarks")
    values = similarities[images, places].astype(np.float64)
    return sparse.csr_array((values, (images, columns)), shape=(len(labels), len(landmarks)))


def label_vector_step(
    ranking: Ranking, query_vectors: sparse.csr_array, index_vectors: sparse.csr_array, *, top_k: int = 100
) -> Ranking:
    """All images with a label in common with the query, by the product of their label vectors, then the other listed.

    query_vectors (Q, L), index_vectors (N, L): from `label_vectors` with the same landmarks. An image is placed by its
    product if that, rounded to 6 decimals, is above 0; equal products by smaller row. The images of the list without
    one follow in their order; cut to `top_k`. A listed image keeps its score, an added one gets its product.

    Time grows with the number of pairs that share a landmark; memory O(Q (K + top_k) + N k) and one block of pairs.
    """
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for at, merged, products in _merge_agreeing(ranking, query_vectors, index_vectors):
        ties = np.where(products > 0, merged.pairs.rows, merged.places)
        rows[at], scores[at] = best_of_each(merged.pairs, products, ties, len(rows[at]), top_k)
    return Ranking(rows, scores, ranking.count)


def label_score_step(
    ranking: Ranking,
    queries: Rows,
    index: Rows,
    query_vectors: sparse.csr_array,
    index_vectors: sparse.csr_array,
    *,
    alpha: float = 3.0,
    top_k: int = 100,
) -> Ranking:
    """The images listed and all with a label in common with the query, the best `top_k` by
    cos(q, x) + alpha * (label vector of q · label vector of x).

    Similarity keeps its say, as in the step soft, and no image has to be of one landmark alone, as in the step
    label_vector. (2nd place, Google Landmark Retrieval 2021, adds such a label score to the similarity.) Ordered by
    score, rounded to 6 decimals; ties by smaller row. The scores given back are similarities, of added images too.

    ranking: as searched, its scores are the similarities. queries (Q, D), index (N, D): the vectors it was searched
    with. query_vectors (Q, L), index_vectors (N, L): from `label_vectors`; of sharpened votes divided by their number
    they lie between 0 and 1, whatever that number is. Time and memory as `label_vector_step`, and one block of vectors.
    """
    check_counts(ranking, len(queries), len(index))
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for at, merged, products in _merge_agreeing(ranking, query_vectors, index_vectors):
        pairs = fill_similarities(merged, queries[at], index)
        values = (pairs.scores.astype(np.float64) + alpha * products).round(DECIMALS)
        rows[at], scores[at] = best_of_each(pairs, values, pairs.rows, len(rows[at]), top_k)
    return Ranking(rows, scores, ranking.count)


def _merge_agreeing(
    ranking: Ranking, query_vectors: sparse.csr_array, index_vectors: sparse.csr_array
) -> Iterator[tuple[slice, Merged, NDArray[np.float64]]]:
    """Block by block of queries: the listed and the agreeing images, and the product of each pair, 0 = no agreement."""
    check_counts(ranking, query_vectors.shape[0], index_vectors.shape[0])
    if query_vectors.shape[1] != index_vectors.shape[1]:
        raise ValueError(f"label vectors of {query_vectors.shape[1]} and of {index_vectors.shape[1]} landmarks")
    by_landmark = index_vectors.T.tocsr()
    for at in query_blocks(_most_shared(query_vectors, by_landmark) + ranking.rows.shape[1]):
        found, products = _agreeing(query_vectors[at], by_landmark)
        merged = merge(ranking.rows[at], ranking.scores[at], found)
        values = np.zeros(len(merged.places))
        values[merged.found] = products
        yield at, merged, values


def _most_shared(query_vectors: sparse.csr_array, by_landmark: Any) -> NDArray[np.int64]:
    """(Q,) int64: how many images a query shares landmarks with, one that shares two counted twice."""
    images = np.diff(by_landmark.indptr).astype(np.int64)
    ones = np.ones(query_vectors.nnz, dtype=np.int64)
    pattern = sparse.csr_array((ones, query_vectors.indices, query_vectors.indptr), shape=query_vectors.shape)
    return pattern @ images


def _agreeing(query_vectors: sparse.csr_array, by_landmark: Any) -> tuple[Candidates, NDArray[np.float64]]:
    """The pairs with a positive product, and the products, (F,) float64, rounded to 6 decimals."""
    products = (query_vectors @ by_landmark).tocoo()
    queries, images = products.coords
    values = products.data.round(DECIMALS)
    above = values > 0
    queries, images, values = queries[above].astype(np.int64), images[above].astype(np.int32), values[above]
    return Candidates(queries, images, values.astype(np.float32)), values
