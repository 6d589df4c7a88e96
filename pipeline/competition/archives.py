"""The archives of a data set compared with the MD5 lists that are published with them.

A list is a file such as md5.images_000.txt, md5.train.txt or images_000.md5.txt, with the lines that md5sum writes:
`<32 hexadecimal digits>  <name of the archive>`. The archive lies beside its list. GLDv2 publishes its lists in
md5sum/<split>/ and its archives in <split>/: copied as they are, they are found as well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import PipelineError
from pipeline.task_context import TaskContext

LIST = re.compile(r"(.*\.)?md5(\..*)?\.txt|.*\.md5|MD5SUMS", re.IGNORECASE)
LINE = re.compile(r"([0-9a-fA-F]{32}) [ *](.+)")
LISTS_FOLDER = "md5sum"
CHECKED = "archives.txt"  # in the scratch folder: the archives found to agree
NAMED = 5  # archives that the message names


class Entry(NamedTuple):
    """An archive with the MD5 digest that a list states for it."""

    archive: Path
    digest: str
    listed: Path


def find_archives(root: Path) -> list[Entry]:
    """Every archive that an MD5 list in `root`, in a folder in it, or in its md5sum/<split>/ names; in a fixed order.

    Raises PipelineError for a list that is not one, and when there is none.
    """
    lists = [path for folder in _list_folders(root) for path in sorted(folder.iterdir()) if LIST.fullmatch(path.name)]
    entries = [entry for path in lists for entry in _read_list(path, root)]
    if not entries:
        hint = "put md5.images_000.txt and so on beside the archives, or set data.check_archives = false"
        raise PipelineError("there is no MD5 list to compare archives with", root, hint)
    return entries


def check_archives(task: TaskContext, root: Path) -> int:
    """The number of archives that agree with their MD5 lists, which is all of them.

    Each is read once, as many at a time as the task has workers; those that a killed run found to agree are not read
    again. Raises PipelineError, with exit code 3, that names archives which are missing or differ, each with its list;
    KeyboardInterrupt after an archive when the task should stop.
    """
    entries, checked = find_archives(root), task.scratch / CHECKED
    agreed = set(checked.read_text(encoding="utf-8").splitlines()) if checked.exists() else set()
    problems: list[str] = []
    pool = ThreadPoolExecutor(max(task.workers, 1))
    try:
        with task.progress(len(entries), "archives") as bar, open(checked, "a", encoding="utf-8") as record:
            for state, problem in pool.map(partial(_check_archive, agreed=agreed), entries):
                bar.update(1)
                problems += [problem] if problem else []
                record.write("" if problem else f"{state}\n")
                record.flush()
                if task.should_stop():
                    raise KeyboardInterrupt
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise _disagreement(problems, len(entries), root)
    return len(entries)


def _disagreement(problems: list[str], count: int, root: Path) -> PipelineError:
    more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return PipelineError(
        f"{len(problems)} of {count} archives are not as published: {'; '.join(problems[:NAMED])}{more}",
        root,
        "fetch these archives and unpack them again, or set data.check_archives = false",
        exit_code=3,
    )


def _list_folders(root: Path) -> Iterator[Path]:
    """The folders that lists may lie in. The photographs' own subfolders are not walked: there are thousands."""
    yield root
    for folder in sorted(root.iterdir()):
        if folder.is_dir():
            yield folder
        if folder.is_dir() and folder.name == LISTS_FOLDER:
            yield from sorted(below for below in folder.iterdir() if below.is_dir())


def _read_list(path: Path, root: Path) -> Iterator[Entry]:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        found = LINE.fullmatch(line.strip())
        name = found[2].strip() if found else ""
        if found is None or "/" in name or name.startswith("."):
            hint = "fetch the list again: its lines are <md5>  <name of an archive>"
            raise PipelineError(f"{line[:60]!r} is no line of an MD5 list", f"{path}, line {number}", hint)
        yield Entry(_locate(path, name, root), found[1].lower(), path)


def _locate(listed: Path, name: str, root: Path) -> Path:
    """Where the archive is, or would be: beside its list, or in the folder of its split."""
    elsewhere = root / listed.parent.name / name
    in_lists_folder = listed.parent.parent.name == LISTS_FOLDER and not (listed.parent / name).exists()
    return elsewhere if in_lists_folder else listed.parent / name


def _check_archive(entry: Entry, agreed: set[str]) -> tuple[str, str]:
    """(what is checked, in one line; what is wrong with it, or nothing)."""
    try:
        status = entry.archive.stat()
        state = f"{entry.digest} {status.st_size} {status.st_mtime_ns} {entry.archive}"
        if state in agreed:
            return state, ""
        with open(entry.archive, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return "", f"{entry.archive} is missing (listed in {entry.listed})"
    except OSError as error:
        return "", f"{entry.archive} cannot be read: {error.strerror} (listed in {entry.listed})"
    return state, "" if digest == entry.digest else f"{entry.archive} differs from its MD5 in {entry.listed}"
