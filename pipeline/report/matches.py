"""Two photographs side by side, and the keypoints of one tied to those of the other."""

from __future__ import annotations

import base64
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

GAP_PX = 8
GAP_GREY = 128  # between the light page and the dark one
OUTLIER_GREY = 215
SMOOTH = 2  # drawn so many times as large and made smaller, for finer lines than OpenCV's own
SHIFT = 4  # fractional bits of the coordinates that OpenCV draws at
LIGHTNESS, CHROMA = 73.0, 72.0  # of the lines, in CIELAB: equally bright, and distinct from most of what is built
JPEG_QUALITY = 88

Image = NDArray[np.uint8]
Points = NDArray[np.floating]


def draw_matches(
    first: Image,
    second: Image,
    points_first: Points,
    points_second: Points,
    inliers: NDArray[np.bool_],
    height_px: int = 360,
    most: int = 80,
) -> Image:
    """The photographs (H, W, 3) RGB at one height, with lines from points_first (m, 2) to points_second (m, 2).

    Inliers (m,) are coloured, the hue running over the first photograph from its top left to its bottom right: lines
    side by side differ, and where the colours are in another order in the second one, so are the points. At most `most`
    are drawn, evenly chosen along the same way, ties by their number; of the others at most a quarter as many, grey and
    beneath.
    """
    left, right = (_fit_height(image, SMOOTH * height_px) for image in (first, second))
    gap = np.full((len(left), SMOOTH * GAP_PX, 3), GAP_GREY, np.uint8)
    canvas = np.hstack([left, gap, right])
    starts = _place(points_first, first, left, 0)
    ends = _place(points_second, second, right, left.shape[1] + gap.shape[1])

    rejected = _take_evenly(np.flatnonzero(~inliers), most // 4)
    grey = np.full((len(rejected), 3), float(OUTLIER_GREY))
    canvas = _draw_lines(canvas, starts[rejected], ends[rejected], grey, SMOOTH, 0.45)
    found = np.flatnonzero(inliers)
    shown = _take_evenly(found[np.argsort(points_first[found].sum(axis=1), kind="stable")], most)
    colours = _spread_hues(len(shown))
    canvas = _draw_lines(canvas, starts[shown], ends[shown], np.zeros((len(shown), 3)), 2 * SMOOTH, 0.2)
    canvas = _draw_lines(canvas, starts[shown], ends[shown], colours, SMOOTH, 0.85)
    for points in (starts[shown], ends[shown]):
        _draw_dots(canvas, points, colours)
    small = cv2.resize(canvas, (canvas.shape[1] // SMOOTH, height_px), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def render_matches(
    first: Image,
    second: Image,
    points_first: Points,
    points_second: Points,
    inliers: NDArray[np.bool_],
    caption: str,
    height_px: int = 360,
    most: int = 80,
) -> str:
    """The picture of `draw_matches` as an HTML figure; the caption, plain text, is followed by the numbers."""
    picture = draw_matches(first, second, points_first, points_second, inliers, height_px, most)
    kept = int(inliers.sum())
    drawn = f", {most} drawn" if kept > most else ""
    below = f"{escape(caption)}, {kept} inliers of {len(inliers)} matches{drawn}"
    return f"<figure><img src='{_encode(picture)}' alt='matches'><figcaption>{below}</figcaption></figure>"


def _fit_height(image: Image, height_px: int) -> Image:
    height, width = image.shape[:2]
    size = SMOOTH * max(1, round(width * height_px / height / SMOOTH)), height_px
    fitted = cv2.resize(image, size, interpolation=cv2.INTER_AREA if height > height_px else cv2.INTER_CUBIC)
    return np.asarray(fitted, np.uint8)


def _place(points: Points, image: Image, fitted: Image, offset_px: int) -> Points:
    """Points (m, 2) of a photograph on the canvas; the centre of the first pixel is at 0, 0 in both."""
    scale = np.array([fitted.shape[1] / image.shape[1], fitted.shape[0] / image.shape[0]])
    return (points + 0.5) * scale - 0.5 + [offset_px, 0]


def _take_evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of the rows in their order, the first and the last among them."""
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)] if len(rows) > most else rows


def _spread_hues(count: int) -> NDArray[np.floating]:
    """RGB colours (count, 3) of 0 to 255, equally light, from red over green and blue to violet."""
    angles = np.radians(np.linspace(20, 330, count))
    lab = np.stack([np.full(count, LIGHTNESS), CHROMA * np.cos(angles), CHROMA * np.sin(angles)], axis=1)
    if count == 0:
        return lab
    return 255 * cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0].clip(0, 1)


def _draw_lines(
    canvas: Image, starts: Points, ends: Points, colours: NDArray[np.floating], thickness: int, opacity: float
) -> Image:
    """The canvas with lines laid over it."""
    layer = canvas.copy()
    for start, end, colour in zip(_fixed(starts), _fixed(ends), colours.tolist(), strict=True):
        cv2.line(layer, start, end, colour, thickness, cv2.LINE_AA, SHIFT)
    return np.asarray(cv2.addWeighted(layer, opacity, canvas, 1 - opacity, 0), np.uint8)


def _draw_dots(canvas: Image, points: Points, colours: NDArray[np.floating]) -> None:
    """Lay a dot with a dark rim on every point."""
    for point, colour in zip(_fixed(points), colours.tolist(), strict=True):
        cv2.circle(canvas, point, int(3.6 * SMOOTH * 2**SHIFT), (30, 30, 30), -1, cv2.LINE_AA, SHIFT)
        cv2.circle(canvas, point, int(2.6 * SMOOTH * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)


def _fixed(points: Points) -> list[tuple[int, int]]:
    """Points as the fixed-point numbers that OpenCV draws at."""
    return [(x, y) for x, y in (points * 2**SHIFT).round().astype(int).tolist()]


def _encode(picture: Image) -> str:
    """A picture as a data URI; at full colour resolution, which thin lines need."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
