"""Inspecting image files: their sizes, read from the headers, and a reason for each file that is rejected."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.competition.dataset import Box, SplitListing
from pipeline.errors import PipelineError
from pipeline.images.decode import UndecodableImage, decode_photograph, read_header
from pipeline.processes import start_workers

BOX_COLUMNS = ("left", "top", "right", "bottom")
CHUNK = 512  # files that a worker inspects at a time
SMALL = 4 * CHUNK  # fewer files than this are inspected in this process: starting workers would take longer


@dataclass(frozen=True)
class Limits:
    """Which images are accepted. strict: decode every pixel, which finds damage after an intact header."""

    min_side_px: int
    max_side_px: int
    max_pixels: int
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """The size of an image as displayed, in pixels, and of its file; reason says why it is rejected, else empty."""

    width: int = 0
    height: int = 0
    bytes: int = 0
    reason: str = ""


def inspect_photograph(path: Path, limits: Limits) -> Inspection:
    """The size of the image at `path`, or the reason why it is rejected."""
    try:
        size = os.stat(path).st_size
        width, height = read_header(path)
        if min(width, height) < limits.min_side_px or max(width, height) > limits.max_side_px:
            bounds = f"{limits.min_side_px} to {limits.max_side_px} px"
            return Inspection(reason=f"{width} x {height} px: sides must be {bounds}")
        if width * height > limits.max_pixels:
            return Inspection(reason=f"{width} x {height} px: more than {limits.max_pixels} pixels")
        if limits.strict:
            decode_photograph(path, strict=True)
        return Inspection(width, height, size)
    except UndecodableImage as error:
        return Inspection(reason=str(error))
    except OSError as error:
        return Inspection(reason=(error.strerror or str(error)).lower())


def inspect_photographs(
    paths: list[Path], limits: Limits, workers: int, on_progress: Callable[[int], None] = lambda count: None
) -> list[Inspection]:
    """`inspect_photograph` of every path, in order, by `workers` processes. Memory: O(len(paths))."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    found: list[Inspection] = []
    for inspected in _map_chunks(partial(_inspect_chunk, limits=limits), chunks, 1 if len(paths) < SMALL else workers):
        found += inspected
        on_progress(len(inspected))
    return found


def inspect_split(
    root: Path,
    split: SplitListing,
    limits: Limits,
    workers: int,
    on_progress: Callable[[int], None] = lambda count: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The split's accepted photographs and its rejected files, both in the order of the organisers' table.

    Accepted: id, path (below `root`), width, height, bytes; left, top, right, bottom (float64), the region to use,
    which is the whole photograph where there is no box; in train landmark (int64). Rejected: id, path, reason. Raises
    PipelineError for a box that lies outside its photograph.
    """
    found = inspect_photographs([root / path for path in split.paths], limits, workers, on_progress)
    reasons = [inspection.reason for inspection in found]
    table = pd.DataFrame({"id": split.ids, "path": split.paths, "reason": reasons}, dtype="str")
    for column in ("width", "height", "bytes"):
        table[column] = pd.Series([getattr(inspection, column) for inspection in found], dtype="int64")
    _add_boxes(table, split.boxes, root)
    if split.landmarks is not None:
        table["landmark"] = pd.Series(split.landmarks, dtype="int64")
    good = table["reason"] == ""
    return table[good].drop(columns="reason").reset_index(drop=True), table[~good][["id", "path", "reason"]]


def list_boxes(split: pd.DataFrame) -> list[Box] | None:
    """The region to use of each photograph in a split's table; None when every photograph is used whole."""
    left, top, right, bottom = (split[column].to_numpy() for column in BOX_COLUMNS)
    width, height = split["width"].to_numpy(), split["height"].to_numpy()
    if not ((left > 0) | (top > 0) | (right < width) | (bottom < height)).any():
        return None
    return list(zip(left.tolist(), top.tolist(), right.tolist(), bottom.tolist(), strict=True))


def _add_boxes(table: pd.DataFrame, boxes: Mapping[str, Box], root: Path) -> None:
    """Add the columns left, top, right and bottom: boxes clipped to their photographs, or whole photographs."""
    whole = zip(table["id"], table["width"].tolist(), table["height"].tolist(), strict=True)
    regions = []
    for image_id, width, height in whole:
        left, top, right, bottom = boxes.get(image_id, (0.0, 0.0, width, height))
        right, bottom = min(right, width), min(bottom, height)
        if image_id in boxes and width and (right - left < 1.0 or bottom - top < 1.0):
            what = f"the box of {image_id} holds less than a pixel of its {width} x {height}"
            hint = "boxes are left, top, right, bottom in pixels of the photograph as displayed"
            raise PipelineError(what, root, hint)
        regions.append((left, top, right, bottom))
    for side, column in enumerate(BOX_COLUMNS):
        table[column] = pd.Series([region[side] for region in regions], dtype="float64")


def refuse_bad_data(split: str, good: pd.DataFrame, bad: pd.DataFrame, max_fraction: float, listed: Path) -> None:
    """Raise PipelineError with exit code 3 when more than `max_fraction` of a split's files are rejected."""
    total = len(good) + len(bad)
    if len(bad) <= max_fraction * total:
        return
    first = "; ".join(f"{path}: {reason}" for path, reason in zip(bad["path"][:5], bad["reason"][:5], strict=True))
    raise PipelineError(
        f"{len(bad)} of {total} files of {split} are not readable photographs ({first})",
        listed,
        f"repair or remove them, or raise data.max_bad_fraction (now {max_fraction})",
        exit_code=3,
    )


def _inspect_chunk(paths: list[Path], limits: Limits) -> list[Inspection]:
    return [inspect_photograph(path, limits) for path in paths]


def _map_chunks(
    work: Callable[[list[Path]], list[Inspection]], chunks: list[list[Path]], workers: int
) -> Iterator[list[Inspection]]:
    if workers <= 1:
        yield from map(work, chunks)
        return
    with start_workers(workers) as pool:
        yield from pool.map(work, chunks)
