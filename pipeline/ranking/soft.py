"""Soft re-ranking (Henkel 2021): images of the query's landmark gain by their confidence, the others lose a little.

The successor of sort-step and insert-step in one formula: the similarity keeps its say, and a vote counts as much as it
is sure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.matching.blocks import Rows
from pipeline.ranking.candidates import (
    Candidates,
    best_of_each,
    check_counts,
    fill_similarities,
    merge,
    query_blocks,
)
from pipeline.ranking.ranking import NONE, Ranking
from pipeline.ranking.two_stage import LandmarkGroups
from pipeline.ranking.voting import DECIMALS, NO_LABEL, Labels, Votes


def soft_step(
    ranking: Ranking,
    queries: Rows,
    index: Rows,
    query_votes: Votes,
    groups: LandmarkGroups,
    *,
    bonus: float = 1.0,
    penalty: float = 0.1,
    top_k: int = 100,
) -> Ranking:
    """The images listed and all images of the query's landmark, by similarity and agreement, the best `top_k`.

    (Henkel 2021, "Efficient large-scale image retrieval with deep feature orthogonality and Hybrid-Swin-Transformers",
    the section on retrieval; there with similarities of several models added up.) With conf(x) the confidence of the
    index image x:
        score = cos(q, x) + bonus * conf(x)      x has the query's label
        score = cos(q, x) - penalty * conf(x)    x has another
        score = cos(q, x)                        the query or x has none (label -1)
    Ordered by score, rounded to 6 decimals; ties by smaller row.

    ranking: as searched, its scores are the similarities. queries (Q, D), index (N, D): the vectors it was searched
    with; only pairs that the list lacks are multiplied. query_votes: of the Q queries; groups: of the N index images.
    The scores given back are similarities, of added images too, rounded as the search rounds them.

    O(Q K log K + C D) for C added pairs, as many as the landmarks have images; memory O(Q (K + top_k)) and one block.
    """
    check_counts(ranking, len(query_votes.labels), len(groups.votes.labels))
    check_counts(ranking, len(queries), len(index))
    if len(index) != len(groups.places):
        raise ValueError(f"{len(index)} index vectors, but votes of {len(groups.places)} index images")
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    begins, sizes = _group_of_each(query_votes.labels, groups)
    for at in query_blocks(sizes + ranking.rows.shape[1]):
        merged = merge(ranking.rows[at], ranking.scores[at], _members(begins[at], sizes[at], groups))
        pairs = fill_similarities(merged, queries[at], index)
        values = _soft_scores(pairs, query_votes.labels[at], groups.votes, bonus, penalty)
        rows[at], scores[at] = best_of_each(pairs, values, pairs.rows, len(rows[at]), top_k)
    return Ranking(rows, scores, ranking.count)


def _group_of_each(labels: Labels, groups: LandmarkGroups) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where in `groups.rows` the images of each query's landmark begin, and how many they are, (Q,) each."""
    known = np.isin(labels, groups.labels)  # never -1: images without a label are in no group
    begins, sizes = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)
    group = np.searchsorted(groups.labels, labels[known])
    begins[known] = groups.offsets[group]
    sizes[known] = groups.offsets[group + 1] - groups.offsets[group]
    return begins, sizes


def _members(begins: NDArray[np.int64], sizes: NDArray[np.int64], groups: LandmarkGroups) -> Candidates:
    """Each query of a block with every image of its landmark, without scores yet."""
    queries = np.repeat(np.arange(len(sizes)), sizes)
    within = np.arange(len(queries)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Candidates(queries, groups.rows[begins[queries] + within], np.zeros(len(queries), dtype=np.float32))


def _soft_scores(
    pairs: Candidates, query_labels: Labels, index_votes: Votes, bonus: float, penalty: float
) -> NDArray[np.float64]:
    """The score of each pair by the formula, (P,) float64, rounded to 6 decimals."""
    wanted, labels = query_labels[pairs.queries], index_votes.labels[pairs.rows]
    weight = np.where(wanted == labels, bonus, -penalty)
    weight[(wanted == NO_LABEL) | (labels == NO_LABEL)] = 0.0
    scores = pairs.scores.astype(np.float64) + weight * index_votes.confidences[pairs.rows].astype(np.float64)
    return scores.round(DECIMALS)
