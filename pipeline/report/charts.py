"""Plots as plain values: axes with ticks, lines, dots and bars in pixels, which a template draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 536, 14, 268  # of the area between the axes
TICKS = 5  # about so many on an axis
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # between ticks, times a power of ten
LABEL_GAP_PX, LETTER_PX, LABEL_HEIGHT_PX = 8, 6.4, 13  # of the labels beside dots, letters at their widest

Points = Sequence[tuple[float, float]]


class Scale(NamedTuple):
    """Values of an axis as pixels. logarithmic: low and high are above 0."""

    low: float
    high: float
    start_px: float
    end_px: float
    logarithmic: bool = False

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """The pixels of values, rounded to a tenth; those out of range are put at its ends."""
        clipped = np.clip(np.asarray(values, np.float64), self.low, self.high)
        low, high = self.low, self.high
        if self.logarithmic:
            clipped, low, high = np.log(clipped), math.log(low), math.log(high)
        return (self.start_px + (clipped - low) / (high - low) * (self.end_px - self.start_px)).round(1)


class Axis(NamedTuple):
    """The title of an axis and its ticks: (pixel, label)."""

    title: str
    ticks: Sequence[tuple[float, str]]


class Dot(NamedTuple):
    """A dot at x, y with its text, which is only told on demand where `label` is "".

    label: where else the text is drawn beside the dot: "start" if it starts there, "end" if it ends there.
    """

    x: float
    y: float
    text: str
    label: str = ""


class Bar(NamedTuple):
    """A bar from (x, y), its top left, with its text; `link`: the anchor on the page that it leads to, or none."""

    x: float
    y: float
    width: float
    height: float
    text: str
    good: bool
    link: str = ""


class Line(NamedTuple):
    """A line through points, "x,y x,y …"; its name stands in the legend."""

    name: str
    points: str


@dataclass(frozen=True)
class Chart:
    """A plot. text: what it shows, in words, for those who cannot see it. diagonal: a line from corner to corner."""

    title: str
    text: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    bars: Sequence[Bar] = ()
    zero_px: float | None = None
    diagonal: bool = False
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


class Titles(NamedTuple):
    """The words of a chart: its title, what it shows, and the titles of its axes."""

    title: str
    text: str
    x: str
    y: str


def draw_lines(
    titles: Titles,
    lines: Mapping[str, Points],
    y_range: tuple[float, float] | None = None,
    dots: Mapping[str, tuple[float, float]] | None = None,
    diagonal: bool = False,
) -> Chart | None:
    """Lines by name, with marked points; None without any finite point. y_range: of the axis, by default of the data.

    dots: text -> (x, y).
    """
    finite = {name: [point for point in points if np.isfinite(point).all()] for name, points in lines.items()}
    finite = {name: points for name, points in finite.items() if points}
    marked = dots or {}
    every = [point for points in finite.values() for point in points] + list(marked.values())
    if not every:
        return None
    xs, ys = zip(*every, strict=True)
    across = Scale(*_widen(min(xs), max(xs)), LEFT, RIGHT)
    up = Scale(*(y_range or _widen(min(ys), max(ys))), BOTTOM, TOP)
    drawn = [Line(name, _join(across.place(one[:, 0]), up.place(one[:, 1]))) for name, one in _as_arrays(finite)]
    at = [Dot(float(across.place(x)), float(up.place(y)), text) for text, (x, y) in marked.items()]
    whole = all(x == round(x) for x in xs)
    axes = Axis(titles.x, _mark(across, whole)), Axis(titles.y, _mark(up))
    return Chart(titles.title, titles.text, *axes, lines=drawn, dots=at, diagonal=diagonal)


def draw_dots(titles: Titles, points: Mapping[str, tuple[float, float]]) -> Chart | None:
    """Labelled dots by name over a logarithmic x; None without any. x below a thousandth counts as that."""
    if not points:
        return None
    xs, ys = zip(*((max(x, 1e-3), y) for x, y in points.values()), strict=True)
    low, high = 10.0 ** math.floor(math.log10(min(xs))), 10.0 ** math.ceil(math.log10(max(xs)) + 1e-9)
    across = Scale(low, max(high, 10 * low), LEFT, RIGHT, logarithmic=True)
    up = Scale(*_widen(min(ys), max(ys)), BOTTOM, TOP)
    places = list(zip(across.place(xs).tolist(), up.place(ys).tolist(), strict=True))
    labels = _place_labels(list(points), places)
    dots = [Dot(x, y, name, label) for name, (x, y), label in zip(points, places, labels, strict=True)]
    return Chart(titles.title, titles.text, Axis(titles.x, _mark(across)), Axis(titles.y, _mark(up)), dots=dots)


def draw_bars(titles: Titles, values: ArrayLike, texts: Sequence[str], links: Sequence[str]) -> Chart | None:
    """A bar per value from zero, in the order given; None without any. texts, links: of each bar."""
    heights = np.asarray(values, np.float64)
    if not len(heights):
        return None
    across = Scale(0, len(heights), LEFT, RIGHT)
    up = Scale(*_widen(min(0.0, heights.min()), max(0.0, heights.max())), BOTTOM, TOP)
    zero, ends = float(up.place(0.0)), up.place(heights).tolist()
    starts = across.place(np.arange(len(heights))).tolist()
    width = max(0.6, (RIGHT - LEFT) / len(heights) * 0.85)
    bars = [
        Bar(x, min(end, zero), round(width, 1), max(round(abs(end - zero), 1), 0.8), text, end <= zero, link)
        for x, end, text, link in zip(starts, ends, texts, links, strict=True)
    ]
    axes = Axis(titles.x, []), Axis(titles.y, _mark(up))
    return Chart(titles.title, titles.text, *axes, bars=bars, zero_px=zero)


def choose_ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round values in [low, high], about `count` of them, at steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / max(count, 1)
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((one * power for one in STEPS if one * power >= rough * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(at * step, 12) for at in range(first, math.floor(high / step + 1e-9) + 1)]


def _mark(scale: Scale, whole: bool = False) -> list[tuple[float, str]]:
    """The ticks of an axis; of a logarithmic one the powers of ten. whole: only whole numbers."""
    if scale.logarithmic:
        powers = range(round(math.log10(scale.low)), round(math.log10(scale.high)) + 1)
        return [(float(scale.place(10.0**power)), f"{10.0**power:,g}") for power in powers]
    ticks = [value for value in choose_ticks(scale.low, scale.high) if not whole or value == round(value)]
    return [(float(scale.place(value)), f"{value:,g}") for value in ticks]


def _widen(low: float, high: float) -> tuple[float, float]:
    """The range with a margin of a twentieth, so that no point lies on the frame; never empty."""
    if low == high == 0:
        return 0.0, 1.0
    margin = 0.05 * (high - low) or 0.5 * abs(high)
    return low - margin * (low != 0), high + margin * (high != 0)


def _place_labels(texts: Sequence[str], places: Points) -> list[str]:
    """Where the label of each dot goes, see `Dot`: the highest dots first, and none over another label or dot."""
    taken = [(x - 5, x + 5, y) for x, y in places]
    labels = [""] * len(texts)
    for at in sorted(range(len(places)), key=lambda at: places[at][1]):
        (x, y), width = places[at], LETTER_PX * len(texts[at])
        for label, left in (("start", x + LABEL_GAP_PX), ("end", x - LABEL_GAP_PX - width)):
            box = left, left + width, y
            if box[0] < LEFT or box[1] > WIDTH or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            labels[at] = label
            break
    return labels


def _overlap(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether two lines of text overlap: left, right and height of each."""
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < LABEL_HEIGHT_PX


def _as_arrays(lines: Mapping[str, Points]) -> list[tuple[str, NDArray[np.float64]]]:
    return [(name, np.asarray(points, np.float64)) for name, points in lines.items()]


def _join(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
