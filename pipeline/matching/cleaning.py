"""A clean train set: photographs that share a surface with others of their landmark (Yokoo et al. 2020, section 3.2).

A wrong label puts a photograph among those of a landmark that it does not show: no local features agree there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]


def pick_same_landmark(rows: Integers, own: Integers, landmarks: Integers, count: int) -> NDArray[np.int32]:
    """The first `count` neighbours of each image that carry its landmark, (Q, count) int32, -1 where there are fewer.

    rows: (Q, k) neighbours, nearest first, the image itself not among them, -1 = none. own: (Q,) rows of the images.
    landmarks: (N,) of all rows.
    """
    same = (rows >= 0) & (landmarks[np.maximum(rows, 0)] == landmarks[own][:, None])
    order = np.argsort(~same, axis=1, kind="stable")[:, :count]
    picked = np.full((len(rows), count), -1, np.int32)
    kept = np.where(np.take_along_axis(same, order, axis=1), np.take_along_axis(rows, order, axis=1), -1)
    picked[:, : kept.shape[1]] = kept
    return picked


def list_pairs(neighbours: Integers) -> NDArray[np.int64]:
    """Every pair of neighbours once, (P, 2), the smaller row first, in ascending order. neighbours: (N, k), -1 = none.

    Whether two photographs share a surface does not depend on which of them asks: half the comparisons are saved.
    """
    one, place = np.nonzero(neighbours >= 0)
    other = neighbours[one, place].astype(np.int64)
    return np.unique(np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1), axis=0)


def count_supporters(pairs: Integers, inliers: Integers, count: int, min_inliers: int) -> NDArray[np.int64]:
    """For each of `count` images, how many others share at least `min_inliers` inliers with it, (N,)."""
    agreeing = pairs[inliers >= min_inliers]
    return np.bincount(agreeing.ravel(), minlength=count)


def keep_images(landmarks: Integers, supporters: Integers, min_neighbours: int) -> NDArray[np.bool_]:
    """Which images stay, (N,): those with enough supporters, of landmarks that keep two images at least."""
    supported = supporters >= min_neighbours
    _, which = np.unique(landmarks, return_inverse=True)
    left = np.bincount(which, weights=supported)
    return supported & (left[which] >= 2)
