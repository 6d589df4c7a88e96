"""The files below a folder: walking through them, the photographs among them, and digests for the cache key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import atomic_file, hash_file
from pipeline.processes import available_cores

if TYPE_CHECKING:
    import pandas as pd

HASHED_BYTES = 2 << 30  # folders of at most as many bytes are hashed: a few seconds
UNREADABLE = "unreadable"  # in place of the digest of a file
ENDS = 4096  # bytes at either end that tell two photographs of one size apart, where hashing whole files is too dear

# Some of these formats are not decoded: their files are listed so that rejected.csv names them with the reason.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")


def walk_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file below `folder`, as (path below it, bytes), in a fixed order. Links to folders are followed."""
    return ((path, stat.st_size if stat else -1) for path, stat in _walk(folder))


def list_photographs(folder: Path) -> list[str]:
    """The paths below `folder` of all files whose suffix is that of an image format, in a fixed order."""
    return [path for path, _ in walk_files(folder) if path.lower().endswith(SUFFIXES)]


@dataclass(frozen=True)
class FolderDigest:
    """What a folder of photographs is recorded by, so that a change of any file is found.

    names: digest of all paths and sizes. times: with the times of modification. content: with the bytes of every file;
    empty where the folder holds more than HASHED_BYTES. newest_ns: when the last file was changed or moved here.
    """

    names: str
    times: str
    content: str
    newest_ns: int

    @property
    def evidence(self) -> str:
        """What decides whether a photograph was replaced: the bytes, or in large folders the times."""
        return self.content or f"times {self.times}"


def digest_folder(folder: Path, known: FolderDigest | None = None) -> FolderDigest:
    """The digests of all files below `folder`. known: those of earlier; the same times spare reading any bytes.

    Without `known`, up to HASHED_BYTES are read. One look at the properties of each file in any case.
    """
    names, times, total, newest_ns = hashlib.sha256(), hashlib.sha256(), 0, 0
    for path, stat in _walk(folder):
        size, mtime_ns, ctime_ns = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) if stat else (-1, 0, 0)
        names.update(f"{path} {size}\n".encode(errors="surrogateescape"))
        times.update(f"{path} {size} {mtime_ns}\n".encode(errors="surrogateescape"))
        total, newest_ns = total + max(size, 0), max(newest_ns, ctime_ns)
    content = ""
    if total <= HASHED_BYTES:
        is_same = known is not None and known.content and known.times == times.hexdigest()
        content = known.content if known and is_same else _digest_content(folder)
    return FolderDigest(names.hexdigest(), times.hexdigest(), content, newest_ns)


def list_newer(folder: Path, newest_ns: int, count: int) -> list[str]:
    """The first `count` files below `folder` that were changed, or moved there, after that time."""
    newer = (path for path, stat in _walk(folder) if stat is not None and stat.st_ctime_ns > newest_ns)
    return list(islice(newer, count))


def write_photograph_digests(path: Path, root: Path, table: pd.DataFrame) -> None:
    """Write a line per photograph of a split's table, its digest and its path below `root`, as sha256sum does.

    The digest is that of the whole file where all of them hold at most HASHED_BYTES, so that sha256sum can check it;
    else that of its size and of its first and last ENDS bytes, because reading the 595 GB of GLDv2 would take hours.
    """
    digest = hash_file if table["bytes"].sum() <= HASHED_BYTES else _hash_ends
    names = table["path"].tolist()
    with ThreadPoolExecutor(available_cores()) as pool, atomic_file(path) as part:
        values = pool.map(partial(_try_to, digest), (root / name for name in names))
        with open(part, "w", encoding="utf-8") as file:
            file.writelines(f"{value}  {name}\n" for value, name in zip(values, names, strict=True))


def read_photograph_digests(path: Path) -> list[str]:
    """The digests that `write_photograph_digests` wrote, in the order of the split's table."""
    with open(path, encoding="utf-8") as file:
        return [line.partition("  ")[0] for line in file]


def _digest_content(folder: Path) -> str:
    """The digest of the paths and the bytes of all files below `folder`."""
    paths = [path for path, _ in _walk(folder)]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(available_cores()) as pool:
        for path, value in zip(
            paths, pool.map(partial(_try_to, hash_file), (folder / path for path in paths)), strict=True
        ):
            digest.update(f"{path} {value}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _hash_ends(path: Path) -> str:
    """The sha256 of a file's size, and of its first and last ENDS bytes."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(f"{size} ".encode())
        for start in (0, max(size - ENDS, 0)):
            file.seek(start)
            digest.update(file.read(ENDS))
    return digest.hexdigest()


def _try_to(digest: Callable[[Path], str], path: Path) -> str:
    """The digest of a file; UNREADABLE for what the inspection of the photographs will reject by name."""
    try:
        return digest(path) if path.is_file() else UNREADABLE  # a pipe would be waited for
    except OSError:
        return UNREADABLE


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Every file below `folder`, as (path below it, its properties: None for a broken link), in a fixed order."""
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
                yield path, _stat(entry)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a broken link: the inspection of the photographs will reject it by name
        return None
