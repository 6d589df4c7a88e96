"""Similarity to images known to show no landmark, subtracted from votes and answers (2020 recognition, first place).

With N those images: B_j = mean cosine of train image j with its 5 nearest of N, C_i = mean cosine of test image i
with its 10 nearest. A vote is clip(cos(i, j), 0, 1) - B_j, and the sum of an answer's votes is lowered by C_i. The
published code first maps every dimension to a normal distribution by its quantiles, which is left out: descriptors of
all splits would be stored and searched a second time.
"""

from __future__ import annotations

import numpy as np

from pipeline.arrays import DECIMALS, Floats, Rows
from pipeline.matching.neighbours import Neighbours


def mean_similarities(near: Neighbours) -> Floats:
    """The mean similarity of each image to its neighbours, (Q,) float32; 0 where there are none."""
    known = near.rows >= 0
    totals = np.where(known, near.similarities.astype(np.float64), 0.0).sum(axis=1)
    return (totals / known.sum(axis=1).clip(min=1)).round(DECIMALS).astype(np.float32)


def gather_likeness(train: Neighbours, rows: Rows) -> Floats:
    """B_j of every neighbour, (Q, k) float32; 0 where there is none.

    train: the non-landmarks nearest to each train image, (N, m), in memory or mapped: only lines that are in `rows`
    (Q, k) are read. O(Q k (m + log Q k)) time.
    """
    wanted = np.unique(rows[rows >= 0])
    if not len(wanted):
        return np.zeros(rows.shape, np.float32)
    likeness = mean_similarities(Neighbours(train.rows[wanted], train.similarities[wanted]))
    at = np.searchsorted(wanted, rows).clip(max=len(wanted) - 1)
    return np.where(rows >= 0, likeness[at], np.float32(0.0))


def penalise_neighbours(near: Neighbours, likeness: Floats) -> Neighbours:
    """The train neighbours of test images with clip(cos, 0, 1) - B in place of the cosine, the greatest first.

    near, likeness: (Q, k); likeness from `gather_likeness`. Values, in [-1, 2], are rounded to 6 decimals; of equal
    ones the nearer goes first. Missing neighbours stay at the end with 0. Only the k nearest by cosine are re-ordered:
    one beyond them, very unlike all non-landmarks, could exceed them. O(Q k log k) time.
    """
    missing = near.rows < 0
    lowered = np.clip(near.similarities.astype(np.float64), 0.0, 1.0) - likeness
    values = np.where(missing, 0.0, lowered.round(DECIMALS) + 0.0).astype(np.float32)
    order = np.argsort(np.where(missing, np.inf, -values), axis=1, kind="stable")
    return Neighbours(np.take_along_axis(near.rows, order, axis=1), np.take_along_axis(values, order, axis=1))
