"""The pictures of the report: some queries, and what each step of the recipe put first for them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.images.decode import Size, UndecodableImage, decode_photograph

HEIGHT_PX = 104
PLACES = 9  # images of each list that are shown


@dataclass(frozen=True)
class Step:
    """The lists after one step: rows (Q, K) int32, -1 = none; precisions (Q,) average precision, NaN = not scored."""

    name: str
    rows: NDArray[np.int32]
    precisions: NDArray[np.float64]


@dataclass(frozen=True)
class Photographs:
    """Ids and files of a split, by row."""

    ids: Sequence[str]
    paths: Sequence[Path]


def pick_queries(steps: Sequence[Step], groups: Sequence[object], gains: int = 6, losses: int = 2) -> list[int]:
    """Queries worth seeing: those that gained the most from the first step to the last, then those that lost the most.

    groups: one hashable value a query; at most one query of a group is picked, so that a page shows many landmarks.
    Queries that were not scored (NaN) are left out; ties go to the smaller row.
    """
    change = steps[-1].precisions - steps[0].precisions
    scored = np.flatnonzero(np.isfinite(change))
    best = scored[np.argsort(-change[scored], kind="stable")]
    picked = _take_one_a_group(best[change[best] > 0], groups, gains)
    worst = best[::-1]
    return picked + _take_one_a_group(worst[change[worst] < 0], groups, losses)


def render_query(
    query: int,
    steps: Sequence[Step],
    tests: Photographs,
    index: Photographs,
    relevant: NDArray[np.int32],
) -> str:
    """One query as HTML: its photograph, and below it a strip of photographs for every step.

    relevant: the index rows that show the query's landmark; they get a green frame, all others a red one. Photographs
    that the first step did not list are marked as found by the steps behind it.
    """
    found_first = set(steps[0].rows[query].tolist())
    good = set(relevant.tolist())
    strips = []
    for step in steps:
        cells = [
            render_cell(index, row, row in good, row not in found_first)
            for row in step.rows[query, :PLACES].tolist()
            if row >= 0
        ]
        score = f"AP {step.precisions[query]:.2f}"
        strips.append(f"<div class=strip><b>{escape(step.name)}<small>{score}</small></b>{''.join(cells)}</div>")
    picture = _thumbnail(tests.paths[query], int(HEIGHT_PX * 1.6))
    caption = f"{escape(tests.ids[query])}, {len(good)} photographs to find"
    figure = f"<figure><img src='{picture}' alt='query'><figcaption>{caption}</figcaption></figure>"
    return f"<section>{figure}<div>{''.join(strips)}</div></section>"


def render_cell(photographs: Photographs, row: int, good: bool, new: bool = False) -> str:
    """A small photograph in a green frame, or in a red one; marked as new if it is."""
    kind = ("good" if good else "bad") + (" new" if new else "")
    picture, title = _thumbnail(photographs.paths[row], HEIGHT_PX), escape(photographs.ids[row], quote=True)
    return f"<span class='{kind}'><img src='{picture}' title='{title}' alt=''></span>"


def read_or_grey(path: Path, size: Size, wanted: Size | None = None) -> NDArray[np.uint8]:
    """A photograph as RGB, as `decode_photograph` gives it; a grey tile of `size` when it cannot be read any more."""
    try:
        return decode_photograph(path, wanted)
    except (UndecodableImage, OSError):
        return np.full((size[1], size[0], 3), 128, np.uint8)


def _thumbnail(path: Path, height_px: int) -> str:
    """A photograph as a data URI."""
    square = height_px, height_px
    image = read_or_grey(path, square, square)
    height, width = image.shape[:2]
    size = max(1, min(2 * height_px, round(width * height_px / height))), height_px
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _take_one_a_group(rows: NDArray[np.int64], groups: Sequence[object], count: int) -> list[int]:
    taken: dict[object, int] = {}
    for row in rows.tolist():
        if len(taken) == count:
            break
        taken.setdefault(groups[row], row)
    return list(taken.values())
