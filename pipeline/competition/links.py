"""Links in the data folder: those that leave it are followed only when asked, and no folder is reached in circles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PipelineError

MAX_WAYS = 8  # by which one folder may be reached: more than any sensible layout has, fewer than links in circles give
SHOWN = 5  # links named in an error


def check_links(root: Path, names: Iterable[str], follow: bool = False) -> None:
    """Raise PipelineError for links at or below root/<name> that lead out of `root`, unless `follow`; and for circles.

    root: the data folder; it may be a link itself, because the settings name it. names: the files and folders that are
    read below it. A link to nothing leads nowhere: such a photograph is rejected when it is inspected. One listing of
    every folder, no system call per file: about a microsecond each.
    """
    home = os.path.realpath(root)
    ways: Counter[str] = Counter()
    paths = [root / name for name in names]
    leaving = [str(path) for path in paths if path.is_symlink() and _leaves(str(path), home)]
    stack = [str(path) for path in paths if path.is_dir()]
    while stack:
        folder = stack.pop()
        real = os.path.realpath(folder)
        ways[real] += 1
        if ways[real] > MAX_WAYS:
            raise PipelineError(
                f"this folder is reached in more than {MAX_WAYS} ways", folder, "remove the links that lead in circles"
            )
        for entry in _list_folder(folder):
            if entry.is_symlink() and _leaves(entry.path, home):
                leaving.append(entry.path)
            if entry.is_dir():
                stack.append(entry.path)
    if leaving and not follow:
        raise PipelineError(
            f"{len(leaving)} links lead out of the data folder: {', '.join(map(repr, leaving[:SHOWN]))}",
            root,
            "set data.follow_links = true if you made them, or remove them",
        )


def _leaves(link: str, home: str) -> bool:
    """Whether the link leads to something outside of the folder `home`."""
    real = os.path.realpath(link)
    return Path(real).exists() and os.path.commonpath([real, home]) != home


def _list_folder(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # a folder that cannot be read: its photographs will be missing
        return []
