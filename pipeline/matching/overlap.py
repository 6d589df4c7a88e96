"""Near-duplicates between what is asked and what was trained on: they make figures better than they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.arrays import Doubles, Integers, Rows
from pipeline.matching.neighbours import Neighbours


class Overlap(NamedTuple):
    """Pairs of near-duplicates, (P,) each: rows of the test split, rows of the train split, similarities."""

    test_rows: Integers
    train_rows: Rows
    similarities: Doubles


def find_overlap(neighbours: Neighbours, min_similarity: float) -> Overlap:
    """The pairs of a test image and a train image that are at least so similar, by test row, the most similar first.

    neighbours: of test in train, (Q, K), in descending order; places without a neighbour are rows below 0. Of one test
    image at most K pairs are found.
    """
    found = (neighbours.similarities >= min_similarity) & (neighbours.rows >= 0)
    queries, places = np.nonzero(found)
    return Overlap(queries, neighbours.rows[queries, places], neighbours.similarities[queries, places].astype(float))
