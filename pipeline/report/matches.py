"""Two images side by side, with lines between their matching keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Integers, Mask
from pipeline.report.inline_images import Image, encode_image

HEIGHT_PX = 360
SHOWN_INLIERS = 80
GAP_PX = 8
GAP_GREY = 128  # between the light page and the dark one
OUTLIER_GREY = 215
SMOOTH = 2  # drawn this many times as large and then scaled down, for finer lines than OpenCV's own
SHIFT = 4  # fractional bits of the coordinates that OpenCV draws at
LIGHTNESS, CHROMA = 73.0, 72.0  # of the lines, in CIELAB: equally bright, and distinct from most buildings
JPEG_QUALITY = 88

Points = NDArray[np.floating]  # (m, 2): x, y in pixels
Lines = NDArray[np.floating]  # (m, 2, 2): start and end of each


@dataclass(frozen=True)
class MatchedImages:
    """Two RGB images and the keypoints of their m matches; inliers: (m,), which agree with the fitted transform."""

    first: Image
    second: Image
    points_first: Points
    points_second: Points
    inliers: Mask


def draw_matches(matched: MatchedImages, height_px: int = HEIGHT_PX, limit: int = SHOWN_INLIERS) -> Image:
    """Both images scaled to one height, with lines between their matches.

    Inliers are coloured: the hue changes over the first image from its top left to its bottom right, so that adjacent
    lines differ, and a different order of colours in the second image shows a different order of points. At most
    `limit` inliers are drawn, evenly spaced in that order (ties by their number), and at most a quarter as many
    outliers, in grey below them.
    """
    left, right = (_fit_height(image, SMOOTH * height_px) for image in (matched.first, matched.second))
    gap = np.full((len(left), SMOOTH * GAP_PX, 3), GAP_GREY, np.uint8)
    canvas = np.hstack([left, gap, right])
    starts = _move_points(matched.points_first, matched.first, left, 0)
    ends = _move_points(matched.points_second, matched.second, right, left.shape[1] + gap.shape[1])
    lines = np.stack([starts, ends], axis=1)

    outliers = lines[_take_evenly(np.flatnonzero(~matched.inliers), limit // 4)]
    canvas = _draw_lines(canvas, outliers, np.full((len(outliers), 3), float(OUTLIER_GREY)), SMOOTH, 0.45)
    inliers = np.flatnonzero(matched.inliers)
    order = np.argsort(matched.points_first[inliers].sum(axis=1), kind="stable")
    shown = lines[_take_evenly(inliers[order], limit)]
    colours = _spread_hues(len(shown))
    canvas = _draw_lines(canvas, shown, np.zeros((len(shown), 3)), 2 * SMOOTH, 0.2)
    canvas = _draw_lines(canvas, shown, colours, SMOOTH, 0.85)
    for points in (shown[:, 0], shown[:, 1]):
        _draw_dots(canvas, points, colours)
    small = cv2.resize(canvas, (canvas.shape[1] // SMOOTH, height_px), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


@dataclass(frozen=True)
class Figure:
    """An image as a data URI, and the text below it."""

    source: str
    caption: str


def show_matches(matched: MatchedImages, names: str, height_px: int = HEIGHT_PX, limit: int = SHOWN_INLIERS) -> Figure:
    """The image of `draw_matches`; its caption has the names and the counts."""
    inliers = int(matched.inliers.sum())
    drawn = f", {limit} drawn" if inliers > limit else ""
    source = encode_image(draw_matches(matched, height_px, limit), JPEG_QUALITY, full_colour=True)
    return Figure(source, f"{names}, {inliers} inliers of {len(matched.inliers)} matches{drawn}")


def _fit_height(image: Image, height_px: int) -> Image:
    height, width = image.shape[:2]
    size = SMOOTH * max(1, round(width * height_px / height / SMOOTH)), height_px
    fitted = cv2.resize(image, size, interpolation=cv2.INTER_AREA if height > height_px else cv2.INTER_CUBIC)
    return np.asarray(fitted, np.uint8)


def _move_points(points: Points, image: Image, fitted: Image, offset_px: int) -> Points:
    """Points of an image on the canvas; the centre of the first pixel is at 0, 0 in both."""
    scale = np.array([fitted.shape[1] / image.shape[1], fitted.shape[0] / image.shape[0]])
    return (points + 0.5) * scale - 0.5 + [offset_px, 0]


def _take_evenly(numbers: Integers, limit: int) -> Integers:
    """At most `limit` of the numbers in their order, including the first and the last."""
    if len(numbers) <= limit:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, limit).round().astype(np.int64)]


def _spread_hues(count: int) -> NDArray[np.floating]:
    """RGB colours (count, 3) in [0, 255] of equal lightness, from red through green and blue to violet."""
    angles = np.radians(np.linspace(20, 330, count))
    lab = np.stack([np.full(count, LIGHTNESS), CHROMA * np.cos(angles), CHROMA * np.sin(angles)], axis=1)
    if count == 0:
        return lab
    return 255 * cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0].clip(0, 1)


def _draw_lines(canvas: Image, lines: Lines, colours: NDArray[np.floating], thickness: int, opacity: float) -> Image:
    """The canvas with lines drawn over it."""
    layer = canvas.copy()
    for start, end, colour in zip(_fixed(lines[:, 0]), _fixed(lines[:, 1]), colours.tolist(), strict=True):
        cv2.line(layer, start, end, colour, thickness, cv2.LINE_AA, SHIFT)
    return np.asarray(cv2.addWeighted(layer, opacity, canvas, 1 - opacity, 0), np.uint8)


def _draw_dots(canvas: Image, points: Points, colours: NDArray[np.floating]) -> None:
    """Draw a dot with a dark rim at every point."""
    for point, colour in zip(_fixed(points), colours.tolist(), strict=True):
        cv2.circle(canvas, point, int(3.6 * SMOOTH * 2**SHIFT), (30, 30, 30), -1, cv2.LINE_AA, SHIFT)
        cv2.circle(canvas, point, int(2.6 * SMOOTH * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)


def _fixed(points: Points) -> list[tuple[int, int]]:
    """Points as the fixed-point numbers that OpenCV draws at."""
    return [(x, y) for x, y in (points * 2**SHIFT).round().astype(int).tolist()]
