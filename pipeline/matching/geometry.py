"""Geometric verification: fit an affine map to the matches of two images with RANSAC and find its inliers.

There are two implementations with one meaning: numpy and OpenCV for one pair of images, which is faster on a CPU, and
torch for a batch of pairs, for a GPU. They draw different samples: they agree wherever a surface is clearly seen, and
may differ by a few inliers where none is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arrays import Doubles, Mask

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
SCORED_VALUES = 1 << 25  # residuals that a batch holds at a time: 128 MiB in float32
SEED = 0  # of the samples of a batch


class Affine(NamedTuple):
    """The map of the query onto the base, x -> matrix[:, :2] x + matrix[:, 2], and its inliers.

    matrix: (2, 3) float64; zeros if there is no map. inliers: (m,) bool.
    """

    matrix: Doubles
    inliers: Mask


class AffineBatch(NamedTuple):
    """The same of B pairs: matrices (B, 2, 3) float64, inliers (B, m) bool."""

    matrices: Tensor
    inliers: Tensor


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
    usable = np.isfinite(np.hstack([source, target])).all(axis=1)
    x, y = source[usable].astype(np.float64), target[usable].astype(np.float64)
    result = Affine(np.zeros((2, 3)), np.zeros(len(source), np.bool_))
    left = np.ones(len(x), np.bool_)
    for _ in range(ATTEMPTS):
        matrix = _estimate(x[left], y[left], inlier_threshold, max_iterations)
        if matrix is None:
            break
        matrix, inliers = _refit(matrix, x, y, inlier_threshold)
        if _has_support(x, y, inliers) and _is_plausible(matrix):
            result.inliers[usable] = inliers
            return result._replace(matrix=matrix)
        left &= ~inliers
    return result


def _estimate(x: Doubles, y: Doubles, inlier_threshold: float, max_iterations: int) -> Doubles | None:
    """OpenCV's map through three of the matches; its generator always starts from the same seed."""
    if len(x) < MIN_INLIERS:
        return None
    import cv2  # here: the batches of a GPU do without

    matrix, _ = cv2.estimateAffine2D(
        x, y, method=cv2.RANSAC, ransacReprojThreshold=inlier_threshold, maxIters=max_iterations, confidence=CONFIDENCE,
        refineIters=0,
    )  # fmt: skip
    return matrix.astype(np.float64) if matrix is not None and np.isfinite(matrix).all() else None


def _refit(matrix: Doubles, x: Doubles, y: Doubles, inlier_threshold: float) -> tuple[Doubles, Mask]:
    """Least squares over the inliers, repeated as long as none are lost: the refitted map and its inliers."""
    inliers = _within(matrix, x, y, inlier_threshold)
    for _ in range(REFITS if _has_support(x, y, inliers) else 0):
        with np.errstate(divide="ignore", invalid="ignore"):  # collinear inliers: not finite, none kept
            refitted = _least_squares(x, y, inliers)
            kept = _within(refitted, x, y, inlier_threshold)
        if kept.sum() < inliers.sum():
            break
        converged = np.array_equal(kept, inliers)
        matrix, inliers = refitted, kept
        if converged:
            break
    return matrix, inliers


def fit_affine_batch(
    source: Tensor,
    target: Tensor,
    valid: Tensor,
    inlier_threshold: Tensor,
    max_iterations: int = 1000,
    compiled: bool = False,
) -> AffineBatch:
    """`fit_affine` of B pairs at once, which runs all the iterations instead of stopping early.

    source, target (B, m, 2); valid (B, m) bool: which are matches; inlier_threshold (B,); all on one device.
    The samples depend only on a pair's number of matches: neither on the device nor on the other pairs. Implausible
    maps are skipped as they are drawn. Ties go to the first sample.
    compiled: score by torch.compile, which takes a minute first. Never waits for the device.
    Time O(B m max_iterations), memory O(B m + B max_iterations).
    """
    x, y = source.double(), target.double()
    usable = valid & x.isfinite().all(2) & y.isfinite().all(2)
    x, y = x.where(usable[:, :, None], 0.0), y.where(usable[:, :, None], 0.0)
    limits = inlier_threshold.double().to(x.device)[:, None]
    if not usable.numel():
        return AffineBatch(x.new_zeros(len(x), 2, 3), usable)
    matrices = _best_map(x, y, usable, limits, _draw_samples(usable, max_iterations), compiled)
    inliers = usable & _within(matrices, x, y, limits)
    for _ in range(REFITS):
        refitted = _least_squares(x, y, inliers)
        kept = usable & _within(refitted, x, y, limits)
        better = _has_support(x, y, inliers) & (kept.sum(1) >= inliers.sum(1))
        matrices = refitted.where(better[:, None, None], matrices)
        inliers = kept.where(better[:, None], inliers)
    found = _has_support(x, y, inliers) & _is_plausible(matrices)
    return AffineBatch(matrices.where(found[:, None, None], 0.0), inliers & found[:, None])


def _draw_samples(usable: Tensor, max_iterations: int) -> Tensor:
    """Three different usable matches per sample, (B, T, 3) int64; undefined if fewer than three."""
    counts = usable.sum(1)[:, None]
    uniform = torch.rand(max_iterations, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    first, second, third = (
        (u * (counts - taken)).long().clamp(min=0) for taken, u in enumerate(uniform.to(usable.device).T)
    )
    second = second + (second >= first)
    third = third + (third >= torch.minimum(first, second))
    third = third + (third >= torch.maximum(first, second))
    order = usable.int().argsort(stable=True, dim=1, descending=True)  # the usable first, in their order
    drawn = torch.stack([first, second, third], 2).clamp(max=usable.shape[1] - 1)
    return order.gather(1, drawn.flatten(1)).view(drawn.shape)


def _best_map(x: Tensor, y: Tensor, usable: Tensor, limits: Tensor, samples: Tensor, compiled: bool) -> Tensor:
    """The map of the sample with the most inliers, (B, 2, 3) float64; scored in float32, about the first point."""
    maps = _through_three(_pick(x, samples), _pick(y, samples))
    plausible = _is_plausible(maps)
    origin = x[:, :1]  # float32 resolves differences within an image, but not coordinates of any size
    shifts = (maps[..., 2] + (maps[..., :2] @ origin[..., None])[..., 0]).float()
    linear, near, far = maps[..., :2].float(), (x - origin).float(), y.float()
    squares = (limits.float() ** 2)[..., None]
    count = _compile_scoring() if compiled else _count_inliers
    step = max(1, SCORED_VALUES // max(1, usable.numel()))
    scores = [
        count(linear[:, start : start + step], shifts[:, start : start + step], near, far, squares, usable)
        for start in range(0, samples.shape[1], step)
    ]
    order = torch.arange(samples.shape[1], device=x.device)
    score = torch.cat(scores, 1).where(plausible, 0) * len(order) - order  # all different: argmax meets no tie
    best = score.argmax(1)
    return maps[torch.arange(len(x), device=x.device), best].nan_to_num(0.0, 0.0, 0.0)


def _count_inliers(
    linear: Tensor, shifts: Tensor, near: Tensor, far: Tensor, squares: Tensor, usable: Tensor
) -> Tensor:
    """The inliers of t maps for each of B pairs, (B, t)."""
    apart = [
        linear[:, :, axis, 0, None] * near[:, None, :, 0]
        + linear[:, :, axis, 1, None] * near[:, None, :, 1]
        + (shifts[:, :, axis, None] - far[:, None, :, axis])
        for axis in (0, 1)
    ]
    return ((apart[0] ** 2 + apart[1] ** 2 <= squares) & usable[:, None]).sum(2)


@cache
def _compile_scoring() -> Callable[..., Tensor]:
    return torch.compile(_count_inliers, dynamic=True)


def _pick(points: Tensor, samples: Tensor) -> Tensor:
    """(B, T, 3, 2): the points (B, m, 2) of each sample."""
    return points[torch.arange(len(points), device=points.device)[:, None, None], samples]


# ---- Maps, of arrays and of tensors alike: (..., 2, 3); points (..., m, 2); support (..., m) -------------------------


def _through_three(x: Tensor, y: Tensor) -> Tensor:
    """The map of three points onto three; not finite if those are collinear."""
    return _map(x[..., 1:, :] - x[..., :1, :], y[..., 1:, :] - y[..., :1, :], x[..., 0, :], y[..., 0, :])


def _least_squares(x: Any, y: Any, support: Any) -> Any:
    """The map with the least sum of squared residuals over the supporting points."""
    x_mean, y_mean = _mean(x, support), _mean(y, support)
    x_off, y_off = x - x_mean[..., None, :], y - y_mean[..., None, :]
    across = x_off.swapaxes(-1, -2) * support[..., None, :]
    return _map(across @ x_off, across @ y_off, x_mean, y_mean)


def _map(left: Any, right: Any, x: Any, y: Any) -> Any:
    """The map of x onto y whose linear part A solves left A^T = right; left and right (..., 2, 2), x and y (..., 2)."""
    a, b, c, d = (left[..., at, axis, None] for at in (0, 1) for axis in (0, 1))
    determinant = a * d - b * c
    first = (d * right[..., 0, :] - b * right[..., 1, :]) / determinant
    second = (a * right[..., 1, :] - c * right[..., 0, :]) / determinant
    stack = torch.stack if isinstance(x, Tensor) else np.stack
    return stack([first, second, y - first * x[..., :1] - second * x[..., 1:]], -1)


def _mean(points: Any, support: Any) -> Any:
    return (points.swapaxes(-1, -2) * support[..., None, :]).sum(-1) / support.sum(-1).clip(1)[..., None]


def _within(matrix: Any, x: Any, y: Any, inlier_threshold: Any) -> Any:
    """Which points the map takes to within `inlier_threshold` of their matches, (..., m) bool."""
    residuals = x @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2] - y
    return residuals[..., 0] ** 2 + residuals[..., 1] ** 2 <= inlier_threshold**2


def _has_support(x: Any, y: Any, support: Any) -> Any:
    """Whether there are enough points, in both images neither collinear nor a spot."""
    return (support.sum(-1) >= MIN_INLIERS) & _spans_plane(x, support) & _spans_plane(y, support)


def _spans_plane(points: Any, support: Any) -> Any:
    """Whether the minor principal axis of the points is more than MIN_AXIS_RATIO of the major one."""
    apart = points - _mean(points, support)[..., None, :]
    scatter = (apart.swapaxes(-1, -2) * support[..., None, :]) @ apart
    middle = (scatter[..., 0, 0] + scatter[..., 1, 1]) / 2
    root = ((scatter[..., 0, 0] - scatter[..., 1, 1]) ** 2 / 4 + scatter[..., 0, 1] ** 2) ** 0.5
    return middle - root > MIN_AXIS_RATIO**2 * (middle + root)


def _is_plausible(matrix: Any) -> Any:
    """Whether a map can be another view of a surface; rejects mirrored, over-scaled or over-anisotropic maps.

    False for one that is not finite.
    """
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    rotation = ((a + d) ** 2 + (c - b) ** 2) ** 0.5 / 2
    reflection = ((a - d) ** 2 + (c + b) ** 2) ** 0.5 / 2
    # The singular values; the least is negative if the map mirrors.
    greatest, least = rotation + reflection, rotation - reflection
    return (least >= 1 / MAX_SCALE) & (greatest <= MAX_SCALE) & (greatest <= MAX_ANISOTROPY * least)
