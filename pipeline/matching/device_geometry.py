"""Affine maps of a batch of pairs on a device: `geometry.fit_affine` of many pairs at once, by torch.

It draws other samples than OpenCV does: the two agree wherever a surface is clearly seen, and may differ by a few
inliers where none is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.matching.geometry import MIN_INLIERS, REFITS, is_plausible, is_spread, solve_map

SCORED_VALUES = 1 << 25  # residuals that a batch holds at a time: 128 MiB in float32
SEED = 0  # of the samples of a batch


class AffineBatch(NamedTuple):
    """The maps of B pairs, zeros where there is none: matrices (B, 2, 3) float64, inliers (B, m) bool."""

    matrices: Tensor
    inliers: Tensor


def fit_affine_batch(
    source: Tensor,
    target: Tensor,
    valid: Tensor,
    inlier_threshold: Tensor,
    max_iterations: int = 1000,
    compiled: bool = False,
) -> AffineBatch:
    """`geometry.fit_affine` of B pairs at once, which runs all the iterations instead of stopping early.

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
    found = _has_support(x, y, inliers) & is_plausible(matrices)
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
    plausible = is_plausible(maps)
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


# ---- Maps (..., 2, 3); points (..., m, 2); support (..., m) ----------------------------------------------------------


def _through_three(x: Tensor, y: Tensor) -> Tensor:
    """The map of three points onto three; not finite if those are collinear."""
    return solve_map(x[..., 1:, :] - x[..., :1, :], y[..., 1:, :] - y[..., :1, :], x[..., 0, :], y[..., 0, :])


def _least_squares(x: Tensor, y: Tensor, support: Tensor) -> Tensor:
    """The map with the least sum of squared residuals over the supporting points."""
    x_mean, y_mean = _mean(x, support), _mean(y, support)
    x_off, y_off = x - x_mean[..., None, :], y - y_mean[..., None, :]
    across = x_off.swapaxes(-1, -2) * support[..., None, :]
    return solve_map(across @ x_off, across @ y_off, x_mean, y_mean)


def _mean(points: Tensor, support: Tensor) -> Tensor:
    return (points.swapaxes(-1, -2) * support[..., None, :]).sum(-1) / support.sum(-1).clip(1)[..., None]


def _within(matrix: Tensor, x: Tensor, y: Tensor, inlier_threshold: Tensor) -> Tensor:
    """Which points the map takes to within `inlier_threshold` of their matches, (..., m) bool."""
    residuals = x @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2] - y
    return residuals[..., 0] ** 2 + residuals[..., 1] ** 2 <= inlier_threshold**2


def _has_support(x: Tensor, y: Tensor, support: Tensor) -> Tensor:
    """Whether there are enough points, in both images neither collinear nor a spot."""
    return (support.sum(-1) >= MIN_INLIERS) & _spans_plane(x, support) & _spans_plane(y, support)


def _spans_plane(points: Tensor, support: Tensor) -> Tensor:
    apart = points - _mean(points, support)[..., None, :]
    return is_spread((apart.swapaxes(-1, -2) * support[..., None, :]) @ apart)
