"""Cleaning a train set: keep the images that verify against others of the same landmark (Yokoo et al. 2020, 3.2).

An image with a wrong label is among images of a landmark that it does not show: no local features agree there. Where
they agree with images of another landmark instead, that is its landmark.
"""

from __future__ import annotations

import numpy as np

from pipeline.arrays import NONE, AnyIntegers, Integers, Labels, Mask, Rows
from pipeline.settings import CleanSettings

CLEARLY = 2  # times as many inliers as with any other landmark make a correction


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


def most_inliers(pairs: AnyIntegers, inliers: AnyIntegers, count: int) -> Integers:
    """The most inliers that each of `count` images has with another in `pairs` (P, 2), (N,); 0 without a pair."""
    most = np.zeros(count, np.int64)
    for side in (0, 1):
        np.maximum.at(most, pairs[:, side], inliers)
    return most


def correct_labels(
    landmarks: Labels, own: AnyIntegers, pairs: AnyIntegers, inliers: AnyIntegers, settings: CleanSettings
) -> Labels:
    """The landmarks (N,) with those of dropped images corrected.

    own: (N,), the most inliers of each image with one of its landmark. pairs (P, 2): a dropped image and a kept one of
    another landmark; inliers (P,). A dropped image gets the landmark that it has the most inliers with in a pair, of
    equal ones the smaller, if at least `settings.correct_neighbours` images of it have `settings.correct_inliers`, and
    if those most inliers are at least twice as many as with any other landmark, its own included: repeated facades
    agree with several.
    """
    compared: Integers = np.lexsort((landmarks[pairs[:, 1]], pairs[:, 0]))
    images, found = pairs[compared, 0].astype(np.int64), landmarks[pairs[compared, 1]]
    agreeing = inliers[compared].astype(np.int64)
    starts = np.flatnonzero(np.r_[True, (np.diff(images) != 0) | (np.diff(found) != 0)][: len(images)])
    if not len(starts):
        return landmarks.copy()
    images, found = images[starts], found[starts]  # one for each landmark that an image is compared with
    most = np.maximum.reduceat(agreeing, starts)
    supporters = np.add.reduceat((agreeing >= settings.correct_inliers).astype(np.int64), starts)
    order = np.lexsort((found, -most, images))
    images, found, most, supporters = (values[order] for values in (images, found, most, supporters))
    is_first = np.r_[True, np.diff(images) != 0]
    rival = np.r_[np.where(is_first[1:], 0, most[1:]), 0]  # of the landmark that follows the first
    clear = most >= CLEARLY * np.maximum(rival, own[images])
    chosen = is_first & clear & (supporters >= settings.correct_neighbours)
    corrected = landmarks.copy()
    corrected[images[chosen]] = found[chosen]
    return corrected


def _pick_first(rows: AnyIntegers, wanted: Mask, count: int) -> Rows:
    """The first `count` wanted neighbours of each image, (Q, count) int32, padded with -1."""
    wanted = wanted & (rows >= 0)
    order = np.argsort(~wanted, axis=1, kind="stable")[:, :count]
    picked = np.full((len(rows), count), NONE, np.int32)
    kept = np.where(np.take_along_axis(wanted, order, axis=1), np.take_along_axis(rows, order, axis=1), NONE)
    picked[:, : kept.shape[1]] = kept
    return picked
