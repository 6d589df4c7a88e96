"""A folder that appears whole or not at all, for what leaves the pipeline: no manifest, no lock, no cache key."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.shortages import explaining_shortages
from pipeline.task_context import PARTIAL

BEGUN = ".begun"  # lies in a partial folder of ours, which the next attempt may delete


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield `folder`.partial to write to; it becomes `folder` when the block succeeds, and is deleted when it fails.

    Raises PipelineError where `folder` is a file or holds something, and where the partial folder is someone else's.
    """
    refuse_occupied(folder)
    partial = folder.with_name(folder.name + PARTIAL)
    if partial.exists() and not (partial / BEGUN).exists():
        raise PipelineError("this folder is in the way and not of this command", partial, "move it away")
    with explaining_shortages(folder):
        shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
        try:
            partial.mkdir(parents=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise PipelineError("no folder can be made there: a file is in the way", partial, "move it away") from error
        try:
            (partial / BEGUN).touch()
            yield partial
            (partial / BEGUN).unlink()
            _sync(partial)
            os.rename(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def refuse_occupied(folder: Path) -> None:
    """Raise PipelineError unless there is room for a new folder: nothing, or an empty folder, is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "this folder is not empty" if folder.is_dir() else "this is a file"
        raise PipelineError(what, folder, "name a folder that does not exist yet: nothing is overwritten")


def _sync(folder: Path) -> None:
    """Bring the files of a folder to the disk, so that after a power failure none of them is there and empty."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
