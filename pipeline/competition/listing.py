"""The files below a folder: walking through them, the photographs among them, and digests for the cache key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.artifacts import hash_file

# Some of these formats are not decoded: their files are listed so that rejected.csv names them with the reason.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")


def walk_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file below `folder`, as (path below it, bytes), in a fixed order. Links to folders are followed."""
    stack = [""]
    while stack:
        below = stack.pop()
        try:
            with os.scandir(folder / below) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in listed:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir():
                stack.append(path)
            else:
                yield path, _size(entry)


def list_photographs(folder: Path) -> list[str]:
    """The paths below `folder` of all files whose suffix is that of an image format, in a fixed order."""
    return [path for path, _ in walk_files(folder) if path.lower().endswith(SUFFIXES)]


def digest_sources(tables: Iterable[Path], folders: Mapping[str, Path]) -> dict[str, str]:
    """The digest of every table by file name, and of every folder of photographs by the name given to it.

    Tables are hashed by content, or "missing". Photographs are hashed by the list of their paths and sizes, because
    reading the 595 GB of GLDv2 would take hours: a photograph replaced by another of the same path and size to the byte
    is not noticed, and the data must then be prepared again by force.
    """
    digests = {path.name: hash_file(path) if path.is_file() else "missing" for path in tables}
    for name, folder in folders.items():
        listing = hashlib.sha256()
        for path, size in walk_files(folder):
            listing.update(f"{path} {size}\n".encode(errors="surrogateescape"))
        digests[name] = listing.hexdigest()
    return digests


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a broken link: the inspection of the photographs will reject it by name
        return -1
