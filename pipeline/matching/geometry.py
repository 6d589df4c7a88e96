"""Geometric verification: fit an affine map to the matches of two images with RANSAC and find its inliers.

OpenCV draws the samples, for one pair after another. The rest is computed for many pairs at once, in float64, every sum
in the order of a pair's own matches, so that no bit depends on the other pairs. `device_geometry` does it on a GPU.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Doubles, Integers, Mask

MIN_INLIERS = 3  # an affine map has six unknowns: three points
# The scale between two views: local features are extracted at scales 0.25 to 2, so one surface is found at most 8 times
# larger in one image than in the other; twice that, since points are in pixels of originals of any size. Without a
# bound the best map is often one that collapses the query onto a spot of the base where every match is within reach.
MAX_SCALE = 16.0
# The ratio of the greatest to the least scale of a map over all directions: a facade seen from the front and at 75
# degrees is squeezed 1 / cos 75 = 4 times, as is one seen at 60 degrees from the side and at 60 from below. Features
# match less far.
MAX_ANISOTROPY = 4.0
MIN_AXIS_RATIO = 1e-3  # locations whose minor principal axis is less than this part of the major one are a line
CONFIDENCE = 0.99  # OpenCV stops when it is this sure to have drawn three inliers at least once
REFITS = 2  # a map of three noisy points misses a few per cent of its matches; refitted to the others, it finds them
ATTEMPTS = 2  # a map that is implausible is discarded with its matches, and the rest gets a second chance


class Affine(NamedTuple):
    """The map of the query onto the base, x -> matrix[:, :2] x + matrix[:, 2], and its inliers.

    matrix: (2, 3) float64; zeros if there is no map. inliers: (m,) bool.
    """

    matrix: Doubles
    inliers: Mask


class Affines(NamedTuple):
    """The same of P pairs: matrices (P, 2, 3) float64; inliers (m,) bool, those of one pair after another's."""

    matrices: Doubles
    inliers: Mask


def fit_affine(
    source: NDArray[np.floating], target: NDArray[np.floating], inlier_threshold: float, max_iterations: int = 1000
) -> Affine:
    """The affine map with the most inliers, by RANSAC (Fischler and Bolles 1981).

    source (m, 2), target (m, 2). Inliers are the matches with |A x + t - y| <= inlier_threshold for the returned
    matrix, which is a least-squares fit, in float64. The same matches in the same order always give the same result.

    There is no map, and no inlier, if fewer than 3 matches agree; if their locations are collinear or a spot in either
    image (repeated locations give no support); or if the map is implausible: mirrored, scaled beyond MAX_SCALE or
    stretched beyond MAX_ANISOTROPY. Points that are not finite are never inliers. Never raises.
    """
    fitted = fit_affines(source, target, np.array([len(source)]), np.array([inlier_threshold]), max_iterations)
    return Affine(fitted.matrices[0], fitted.inliers)


def fit_affines(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    counts: Integers,
    inlier_thresholds: NDArray[np.floating],
    max_iterations: int = 1000,
) -> Affines:
    """`fit_affine` of P pairs at once.

    source, target (m, 2): the matches of one pair after those of another; counts (P,): how many each has;
    inlier_thresholds (P,).
    """
    fitted = Affines(np.zeros((len(counts), 2, 3)), np.zeros(len(source), np.bool_))
    usable = np.flatnonzero(np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1))
    places = np.concatenate([source[usable].T, target[usable].T]).astype(np.float64)
    owners = np.repeat(np.arange(len(counts)), counts)[usable]
    left, thresholds = np.ones(len(usable), np.bool_), np.asarray(inlier_thresholds, np.float64)
    pending = _Pending(np.arange(len(counts)), thresholds, usable, owners, places, left)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # maps of collinear points: discarded
        for _ in range(ATTEMPTS):
            matrices, estimated = _estimate_each(pending, max_iterations)
            pending = pending.select(estimated)
            matrices, inliers, found = _refit(pending, matrices[estimated])
            fitted.matrices[pending.pairs[found]] = matrices[found]
            fitted.inliers[pending.matches[inliers & found[pending.owners]]] = True
            pending = pending._replace(left=pending.left & ~inliers).select(~found)
    return fitted


class _Pending(NamedTuple):
    """The P pairs that have no map yet, and their matches."""

    pairs: Integers  # (P,) their numbers among all pairs
    thresholds: Doubles  # (P,)
    matches: Integers  # (m,) the numbers of their matches among all
    owners: Integers  # (m,) of which of the P pairs, ascending
    places: Doubles  # (4, m) x and y in the source, x and y in the target
    left: Mask  # (m,) not yet discarded together with an implausible map

    def select(self, kept: Mask) -> _Pending:
        """Those of the pairs (P,) that are kept."""
        at, renumbered = np.flatnonzero(kept[self.owners]), np.cumsum(kept) - 1
        return _Pending(
            self.pairs[kept],
            self.thresholds[kept],
            self.matches[at],
            renumbered[self.owners[at]],
            self.places.take(at, axis=1),
            self.left[at],
        )


def _estimate_each(pending: _Pending, max_iterations: int) -> tuple[Doubles, Mask]:
    """OpenCV's map through three of the matches that are left, (P, 2, 3), and whether there is one, (P,).

    Its generator always starts from the same seed.
    """
    import cv2  # here: the batches of a GPU do without

    matrices, found = np.zeros((len(pending.pairs), 2, 3)), np.zeros(len(pending.pairs), np.bool_)
    left = np.flatnonzero(pending.left)
    places = pending.places.take(left, axis=1).astype(np.float32)  # OpenCV would convert them
    source, target = (np.ascontiguousarray(side.T) for side in (places[:2], places[2:]))
    bounds = np.searchsorted(pending.owners[left], np.arange(len(matrices) + 1)).tolist()
    for pair, (start, stop) in enumerate(pairwise(bounds)):
        if stop - start < MIN_INLIERS:
            continue
        matrix, _ = cv2.estimateAffine2D(
            source[start:stop], target[start:stop], method=cv2.RANSAC, maxIters=max_iterations,
            ransacReprojThreshold=float(pending.thresholds[pair]), confidence=CONFIDENCE, refineIters=0,
        )  # fmt: skip
        if matrix is not None and np.isfinite(matrix).all():
            matrices[pair], found[pair] = matrix, True
    return matrices, found


def _refit(pending: _Pending, matrices: Doubles) -> tuple[Doubles, Mask, Mask]:
    """Least squares over the inliers, repeated as long as none are lost.

    matrices (P, 2, 3) -> the refitted ones, the inliers (m,), and which of the maps are good: supported and plausible.
    """
    inliers = _within(pending, matrices)
    moments = _moments(pending, inliers)
    going_on = moments.support()
    for _ in range(REFITS):
        refitted = solve_map(*moments.equations())
        kept = _within(pending, refitted)
        better = going_on & (_count(pending, kept) >= moments.counts)
        going_on = better & (_count(pending, kept != inliers) > 0)
        matrices = np.where(better[:, None, None], refitted, matrices)
        inliers = np.where(better[pending.owners], kept, inliers)
        moments = _moments(pending, inliers)
    return matrices, inliers, moments.support() & is_plausible(matrices)


def _within(pending: _Pending, matrices: Doubles) -> Mask:
    """Which matches the map of their pair takes to within the pair's threshold, (m,)."""
    x, y, there_x, there_y = pending.places
    a, b, shift_x, c, d, shift_y = matrices.reshape(-1, 6).T.take(pending.owners, axis=1)
    squares = (a * x + b * y + shift_x - there_x) ** 2 + (c * x + d * y + shift_y - there_y) ** 2
    return squares <= (pending.thresholds**2)[pending.owners]


def _count(pending: _Pending, chosen: Mask) -> Integers:
    """How many of each pair's matches are chosen, (P,)."""
    return np.bincount(pending.owners[chosen], minlength=len(pending.pairs))


class _Moments(NamedTuple):
    """Of the inliers of P pairs: counts (P,), means (P, 4) and scatters (P, 4, 4) of the rows of `places`."""

    counts: Integers
    means: Doubles
    scatters: Doubles

    def support(self) -> Mask:
        """Whether there are enough inliers, in both images neither collinear nor a spot, (P,)."""
        spread = is_spread(self.scatters[:, :2, :2]) & is_spread(self.scatters[:, 2:, 2:])
        return (self.counts >= MIN_INLIERS) & spread

    def equations(self) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """The arguments of `solve_map` for the least squares."""
        return self.scatters[:, :2, :2], self.scatters[:, :2, 2:], self.means[:, :2], self.means[:, 2:]


def _moments(pending: _Pending, inliers: Mask) -> _Moments:
    at, pairs = np.flatnonzero(inliers), len(pending.pairs)
    owners, places = pending.owners[at], pending.places.take(at, axis=1)

    def add_up(values: Doubles) -> NDArray[Any]:
        return np.bincount(owners, values, pairs)  # one after another: no sum depends on the other pairs

    counts = np.bincount(owners, minlength=pairs)
    means = np.stack([add_up(values) for values in places]) / counts.clip(1)
    apart = places - means.take(owners, axis=1)
    scatters = np.empty((4, 4, pairs))
    for one, other in combinations_with_replacement(range(4), 2):
        scatters[one, other] = scatters[other, one] = add_up(apart[one] * apart[other])
    return _Moments(counts, means.T, scatters.transpose(2, 0, 1))


# ---- Maps (..., 2, 3) of arrays and of tensors alike ----------------------------------------------------------------


def solve_map(left: Any, right: Any, x: Any, y: Any) -> Any:
    """The map of x onto y whose linear part A solves left A^T = right; left and right (..., 2, 2), x and y (..., 2)."""
    a, b, c, d = (left[..., at, axis, None] for at in (0, 1) for axis in (0, 1))
    determinant = a * d - b * c
    first = (d * right[..., 0, :] - b * right[..., 1, :]) / determinant
    second = (a * right[..., 1, :] - c * right[..., 0, :]) / determinant
    stack = torch.stack if isinstance(x, Tensor) else np.stack
    return stack([first, second, y - first * x[..., :1] - second * x[..., 1:]], -1)


def is_spread(scatter: Any) -> Any:
    """Whether points of this scatter (..., 2, 2) have a minor principal axis above MIN_AXIS_RATIO of the major one."""
    middle = (scatter[..., 0, 0] + scatter[..., 1, 1]) / 2
    root = ((scatter[..., 0, 0] - scatter[..., 1, 1]) ** 2 / 4 + scatter[..., 0, 1] ** 2) ** 0.5
    return middle - root > MIN_AXIS_RATIO**2 * (middle + root)


def is_plausible(matrix: Any) -> Any:
    """Whether a map can be another view of a surface; rejects mirrored, over-scaled or over-anisotropic maps.

    False for one that is not finite.
    """
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    rotation = ((a + d) ** 2 + (c - b) ** 2) ** 0.5 / 2
    reflection = ((a - d) ** 2 + (c + b) ** 2) ** 0.5 / 2
    # The singular values; the least is negative if the map mirrors.
    greatest, least = rotation + reflection, rotation - reflection
    return (least >= 1 / MAX_SCALE) & (greatest <= MAX_SCALE) & (greatest <= MAX_ANISOTROPY * least)
