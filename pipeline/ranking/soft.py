"""Soft re-ranking (Henkel 2021): images of the query's landmark gain by their confidence, the others lose a little.

The successor of sort-step and insert-step in one formula: the similarity keeps its influence, and a vote counts in
proportion to its confidence.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from pipeline.arrays import DECIMALS, NO_LABEL, NONE, Doubles, Integers, Labels
from pipeline.ranking.candidates import Candidates, best_of_each, check_counts, fill_similarities, merge, query_blocks
from pipeline.ranking.evidence import DescriptorPair, LandmarkVotes
from pipeline.ranking.landmark_groups import LandmarkGroups
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.ranking.voting import Votes
from pipeline.settings import Settings


class SoftSettings(Settings):
    """The step soft."""

    bonus: Annotated[float, Field(ge=0.0)] = 1.0  # weight of the confidence of an image with the query's landmark
    penalty: Annotated[float, Field(ge=0.0)] = 0.1  # weight of the confidence of an image with another landmark


def soft_step(
    ranking: Ranking,
    descriptors: DescriptorPair,
    votes: LandmarkVotes,
    settings: SoftSettings = SoftSettings(),
    top_k: int = 100,
) -> Ranking:
    """The best `top_k` of the images listed and all images of the query's landmark, by similarity and agreement.

    (Henkel 2021, "Efficient large-scale image retrieval with deep feature orthogonality and Hybrid-Swin-Transformers",
    the section on retrieval; there with similarities of several models added up.) With conf(x) the confidence of the
    index image x:
        score = cos(q, x) + bonus * conf(x)      x has the query's label
        score = cos(q, x) - penalty * conf(x)    x has another
        score = cos(q, x)                        the query or x has none (NO_LABEL)
    Ordered by score, rounded to 6 decimals; ties by smaller row.

    ranking: as searched, its scores are the similarities. descriptors: those it was searched with; only pairs that the
    list lacks are multiplied. votes: of the Q queries and the N index images.
    The scores returned are similarities, of added images too, rounded as the search rounds them.

    O(Q K log K + C D) for C added pairs, as many as the landmarks have images; memory O(Q (K + top_k)) and one block.
    """
    check_counts(ranking, len(votes.queries.labels), len(votes.index.labels))
    check_counts(ranking, len(descriptors.queries), len(descriptors.index))
    if len(descriptors.index) != len(votes.index.labels):
        raise ValueError(f"{len(descriptors.index)} index vectors, but votes of {len(votes.index.labels)} index images")
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    begins, sizes = votes.groups.find(votes.queries.labels)
    for at in query_blocks(sizes + ranking.rows.shape[1]):
        merged = merge(ranking.rows[at], ranking.scores[at], _members(begins[at], sizes[at], votes.groups))
        pairs = fill_similarities(merged, descriptors.queries[at], descriptors.index)
        values = _soft_scores(pairs, votes.queries.labels[at], votes.index, settings)
        rows[at], scores[at] = best_of_each(pairs, values, pairs.rows, len(rows[at]), top_k)
    return Ranking(rows, scores, ranking.count)


def _members(begins: Integers, sizes: Integers, groups: LandmarkGroups) -> Candidates:
    """Each query of a block with every image of its landmark, without scores yet."""
    queries = np.repeat(np.arange(len(sizes)), sizes)
    within = np.arange(len(queries)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Candidates(queries, groups.rows[begins[queries] + within], np.zeros(len(queries), dtype=np.float32))


def _soft_scores(pairs: Candidates, query_labels: Labels, index_votes: Votes, settings: SoftSettings) -> Doubles:
    """The score of each pair by the formula, (P,) float64, rounded to 6 decimals."""
    wanted, labels = query_labels[pairs.queries], index_votes.labels[pairs.rows]
    weight = np.where(wanted == labels, settings.bonus, -settings.penalty)
    weight[(wanted == NO_LABEL) | (labels == NO_LABEL)] = 0.0
    scores = pairs.scores.astype(np.float64) + weight * index_votes.confidences[pairs.rows].astype(np.float64)
    return scores.round(DECIMALS)


def _apply(
    ranking: Ranking, settings: SoftSettings, top_k: int, descriptors: DescriptorPair, votes: LandmarkVotes
) -> Ranking:
    return soft_step(ranking, descriptors, votes, settings, top_k)


STEP = Step(
    "soft",
    "sort and insert in one formula: similarity plus agreement, weighted by confidence",
    _apply,
    always(DescriptorPair, LandmarkVotes),
    SoftSettings,
    reads_similarities=True,
    tunable={
        "bonus": (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0),
        "penalty": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
    },
)
