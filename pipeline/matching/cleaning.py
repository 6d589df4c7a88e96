"""Cleaning a train set: keep the images that verify against others of the same landmark (Yokoo et al. 2020, 3.2).

An image with a wrong label is among images of a landmark that it does not show: no local features agree there. Where
they agree with images of another landmark instead, that is its landmark.
"""

from __future__ import annotations

import numpy as np

from pipeline.arrays import NONE, AnyIntegers, Integers, Labels, Mask, Rows
from pipeline.settings import CleanSettings


def pick_same_landmark(rows: AnyIntegers, own: AnyIntegers, landmarks: AnyIntegers, count: int) -> Rows:
    """The first `count` neighbours of each image that have its landmark, (Q, count) int32, padded with -1.

    rows: (Q, k) neighbours, nearest first, the image itself not among them, -1 = none. own: (Q,) rows of the images.
    landmarks: (N,) of all rows.
    """
    return _pick_first(rows, landmarks[np.maximum(rows, 0)] == landmarks[own][:, None], count)


def pick_other_landmarks(rows: AnyIntegers, own: AnyIntegers, landmarks: AnyIntegers, count: int) -> Rows:
    """`pick_same_landmark` of the neighbours that have another landmark than the image."""
    return _pick_first(rows, landmarks[np.maximum(rows, 0)] != landmarks[own][:, None], count)


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


def correct_labels(
    landmarks: Labels, supporters: AnyIntegers, pairs: AnyIntegers, inliers: AnyIntegers, settings: CleanSettings
) -> Labels:
    """The landmarks (N,) with those of dropped images corrected.

    supporters: (N,), others of its own landmark that support each image. pairs (P, 2): a dropped image and a kept one
    of another landmark, inliers (P,). A dropped image gets the landmark that most images with at least
    `settings.correct_inliers` support, if these are at least `settings.correct_neighbours` and more than its
    supporters; of equally many the one with the most inliers in a pair, then the smaller landmark.
    """
    strong = inliers >= settings.correct_inliers
    images, found = pairs[strong, 0], landmarks[pairs[strong, 1]]
    order = np.lexsort((found, images))
    images, found, agreeing = images[order], found[order], inliers[strong][order]
    starts = np.flatnonzero(np.r_[True, (np.diff(images) != 0) | (np.diff(found) != 0)][: len(images)])
    images, found = images[starts], found[starts]  # one for each landmark that supports an image
    counts = np.diff(np.r_[starts, len(agreeing)])
    most = np.maximum.reduceat(agreeing, starts) if len(starts) else agreeing
    order = np.lexsort((-found, most, counts))  # the last of an image decides
    enough = order[(counts >= np.maximum(settings.correct_neighbours, supporters[images] + 1))[order]]
    corrected = landmarks.copy()
    corrected[images[enough]] = found[enough]
    return corrected


def _pick_first(rows: AnyIntegers, wanted: Mask, count: int) -> Rows:
    """The first `count` wanted neighbours of each image, (Q, count) int32, padded with -1."""
    wanted = wanted & (rows >= 0)
    order = np.argsort(~wanted, axis=1, kind="stable")[:, :count]
    picked = np.full((len(rows), count), NONE, np.int32)
    kept = np.where(np.take_along_axis(wanted, order, axis=1), np.take_along_axis(rows, order, axis=1), NONE)
    picked[:, : kept.shape[1]] = kept
    return picked
