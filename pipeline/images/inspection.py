"""Inspecting image files: their sizes, read from the headers, and a reason for each file that is rejected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.images.decode import UndecodableImage, decode_photograph
from pipeline.images.file_ends import read_ends

NAMED = 5  # rejected files that a message names; the others are counted


@dataclass(frozen=True)
class Limits:
    """Which images are accepted."""

    min_side_px: int
    max_side_px: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """The size of an image as displayed, in pixels, and of its file; reason says why it is rejected, else empty."""

    width: int = 0
    height: int = 0
    bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Tolerance:
    """How many files of a split may be rejected in all.

    split: its name. files: how many it lists. rejected: how many of them were when it was inspected. max_fraction: the
    share of `files` that may be.
    """

    split: str
    files: int
    rejected: int
    max_fraction: float

    def is_exceeded_by(self, count: int) -> bool:
        """Whether `count` rejected files, beside those that were rejected before, are too many."""
        return self.rejected + count > self.max_fraction * self.files


def inspect_photograph(path: Path, limits: Limits, decode: bool = False) -> Inspection:
    """The size of the image at `path`, or the reason why it is rejected.

    The header and the end of the file are always checked (see file_ends.py). decode: every pixel too, which finds
    damage between them; 50 times as slow.
    """
    try:
        header, size = read_ends(path)
        width, height = header.upright_size
        if min(width, height) < limits.min_side_px or max(width, height) > limits.max_side_px:
            bounds = f"{limits.min_side_px} to {limits.max_side_px} px"
            return Inspection(reason=f"{width} x {height} px: sides must be {bounds}")
        if width * height > limits.max_pixels:
            return Inspection(reason=f"{width} x {height} px: more than {limits.max_pixels} pixels")
        if decode:
            decode_photograph(path, strict=True)
        return Inspection(width, height, size)
    except UndecodableImage as error:
        return Inspection(reason=str(error))


def name_rejected(paths: list[str], reasons: list[str]) -> str:
    """The first rejected files with their reasons, for a message."""
    named = "; ".join(f"{path}: {reason}" for path, reason in zip(paths[:NAMED], reasons[:NAMED], strict=True))
    return named + ("; …" if len(paths) > NAMED else "")


def too_many_rejected(tolerance: Tolerance, found: str, listed: Path) -> PipelineError:
    """The error for more rejected files than are tolerated; found: how many, of what, and the first of them."""
    return PipelineError(
        f"{found}: more than data.max_bad_fraction = {tolerance.max_fraction} of its {tolerance.files} files",
        listed,
        "restore these files, then the same command resumes; or raise data.max_bad_fraction to go on without them",
        exit_code=3,
    )
