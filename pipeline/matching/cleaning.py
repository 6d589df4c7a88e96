"""Cleaning a train set: keep the images that verify against others of the same landmark (Yokoo et al. 2020, 3.2).

An image with a wrong label is among images of a landmark that it does not show: no local features agree there.
"""

from __future__ import annotations

import numpy as np

from pipeline.arrays import NONE, AnyIntegers, Integers, Mask, Rows


def pick_same_landmark(rows: AnyIntegers, own: AnyIntegers, landmarks: AnyIntegers, count: int) -> Rows:
    """The first `count` neighbours of each image that have its landmark, (Q, count) int32, padded with -1.

    rows: (Q, k) neighbours, nearest first, the image itself not among them, -1 = none. own: (Q,) rows of the images.
    landmarks: (N,) of all rows.
    """
    same = (rows >= 0) & (landmarks[np.maximum(rows, 0)] == landmarks[own][:, None])
    order = np.argsort(~same, axis=1, kind="stable")[:, :count]
    picked = np.full((len(rows), count), NONE, np.int32)
    kept = np.where(np.take_along_axis(same, order, axis=1), np.take_along_axis(rows, order, axis=1), NONE)
    picked[:, : kept.shape[1]] = kept
    return picked


def list_pairs(neighbours: AnyIntegers) -> Integers:
    """Every pair of neighbours once, (P, 2), the smaller row first, in ascending order. neighbours: (N, k), -1 = none.

    Verification treats both images of a pair alike here, so this saves half of the comparisons.
    """
    one, position = np.nonzero(neighbours >= 0)
    other = neighbours[one, position].astype(np.int64)
    return np.unique(np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1), axis=0)


def count_supporters(pairs: AnyIntegers, inliers: AnyIntegers, count: int, min_inliers: int) -> Integers:
    """For each of `count` images, how many others share at least `min_inliers` inliers with it, (N,)."""
    agreeing = pairs[inliers >= min_inliers]
    return np.bincount(agreeing.ravel(), minlength=count)


def keep_images(landmarks: AnyIntegers, supporters: AnyIntegers, min_neighbours: int) -> Mask:
    """Which images are kept, (N,): those with enough supporters, of landmarks that keep at least two images."""
    supported = supporters >= min_neighbours
    _, which = np.unique(landmarks, return_inverse=True)
    left = np.bincount(which, weights=supported)
    return supported & (left[which] >= 2)
