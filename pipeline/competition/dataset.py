"""The values that every data source is read into: the photographs of each split, with their landmarks and boxes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.settings import NON_LANDMARK

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # no separators of paths or of submission cells, no leading dot
UNDECODED = re.compile(r"[\ud800-\udfff]")  # what Python puts for the bytes of a file name that are not UTF-8
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the photograph as displayed


@dataclass(frozen=True)
class SplitListing:
    """What a data source lists of one split.

    Paths are relative to the data folder, or absolute where the photographs lie elsewhere. landmarks: one per
    photograph of train, None for the other splits. boxes: id -> the region of that photograph to use; the whole
    photograph is used where there is no box.
    """

    ids: list[str]
    paths: list[str]
    landmarks: list[int] | None = None
    boxes: dict[str, Box] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """All splits by name.

    clean_list: landmark -> train ids whose label is trusted; empty when no such list is published. landmark_names: the
    names of folders that landmarks are taken from, or of a published table; empty where there are none.
    """

    splits: dict[str, SplitListing]
    clean_list: dict[int, list[str]] = field(default_factory=dict)
    landmark_names: dict[int, str] = field(default_factory=dict)


def replace_unsafe_characters(name: str) -> str:
    """The name with `_` for every character that an id cannot hold."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def refuse_unreadable_names(paths: Iterable[str], root: Path) -> None:
    """Raise PipelineError for file names that are not UTF-8: no table could hold them."""
    unreadable = [path for path in paths if not path.isascii() and UNDECODED.search(path)]
    if unreadable:
        hint = "rename them; a program such as convmv does that for whole folders"
        raise PipelineError(f"{len(unreadable)} file names are not UTF-8, such as {unreadable[0]!a}", root, hint)


def require_folder(root: Path) -> None:
    """Raise PipelineError unless the data folder exists."""
    if not root.is_dir():
        raise PipelineError("the data folder is not there", root, "set data.root to it; README.md shows the layout")


def require_non_landmarks(splits: Mapping[str, SplitListing], root: Path) -> None:
    """Raise PipelineError when the split of photographs that show no landmark was read and is empty."""
    if NON_LANDMARK in splits and not splits[NON_LANDMARK].ids:
        raise missing_non_landmarks("not one photograph of no landmark", root)


def missing_non_landmarks(what: str, where: Path) -> PipelineError:
    """The error that says what is missing of the photographs that show no landmark, and how to add it."""
    needed = f"{NON_LANDMARK}.csv (column id; not needed for plain folders) and photographs below {NON_LANDMARK}/"
    return PipelineError(what, where, f"add {needed}, or set recognition.non_landmarks = false")
