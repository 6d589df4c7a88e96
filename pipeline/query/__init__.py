"""Asking a finished run about photographs that it has not seen, through the same steps as its submission.

    from pipeline.query import open_run
    run = open_run("outputs/demo")
    answer = run.search("photo.jpg")  # answer.landmark, answer.confidence, answer.ids, answer.similarities, …

`python -m pipeline.query outputs/demo photo.jpg` does the same at a console.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.query.opened_run import OpenedRun


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m pipeline.query`; its exit code."""
    from pipeline.query.__main__ import main

    return main(arguments)


def open_run(folder: str | Path, trust_code: bool = False) -> OpenedRun:
    """The run in outputs/<run>/, opened for questions: descriptors stay on the disk, networks are loaded once.

    trust_code: take artifacts that other code made. Raises PipelineError for a folder that is no run, for one that is
    half made or stale, and for descriptors from elsewhere, which no network here can repeat.
    """
    from pipeline.artifacts import Trust
    from pipeline.query.index_side import list_references
    from pipeline.query.opened_run import OpenedRun
    from pipeline.run_settings import load_run
    from pipeline.runner import Pipeline, load_stages

    config = load_run(Path(folder))
    pipeline = Pipeline(config, load_stages(), Trust(code=trust_code, outside=True))
    return OpenedRun(pipeline.open_inputs(list_references(config)), config)
