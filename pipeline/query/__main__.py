"""Ask a finished run: python -m pipeline.query outputs/demo photo.jpg [more.jpg or a folder]

Prints, for each photograph, its landmark and the index photographs that the run's recipe finds, with why each is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import run_guarded
from pipeline.errors import PipelineError
from pipeline.query import open_run

if TYPE_CHECKING:
    from pipeline.query.answer import Answer
    from pipeline.query.opened_run import OpenedRun

TOGETHER = 64  # photographs that are answered at a time


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the answers and return the exit code: 0 for success, 2 for a wrong file or command, 3 if some were left
    out."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.query", description="Ask a finished run.")
    parser.add_argument("run", type=Path, help="the folder of a run, such as outputs/demo")
    parser.add_argument("photographs", type=Path, nargs="+", metavar="photo", help="photographs, or folders of them")
    parser.add_argument("-k", type=_positive, default=10, help="index photographs to list (default: %(default)s)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the photographs and matches")
    parser.add_argument("--json", action="store_true", help="print the answers as JSON, one a line")
    parser.add_argument("--trust-code", action="store_true", help="take artifacts that other code made")
    given = parser.parse_args(arguments)
    return run_guarded(lambda: answer_photographs(given))


def answer_photographs(given: argparse.Namespace) -> None:
    """Do what the command line asks. Raises PipelineError, after all answers, where photographs were left out."""
    from pipeline.artifacts import atomic_file
    from pipeline.images.inspection import name_rejected
    from pipeline.query.page import render_answers
    from pipeline.query.photographs import inspect_files, list_files

    files, run = list_files(given.photographs), open_run(given.run, given.trust_code)
    answers: list[Answer] = []
    refused: dict[Path, str] = {}
    for start in range(0, len(files), TOGETHER):
        asked, reasons = inspect_files(files[start : start + TOGETHER], run.config.data)
        refused |= reasons
        for answer in run.search_split(asked, given.k):
            print(json.dumps(to_json(answer, given.k)) if given.json else format_answer(run, answer, given.k))
            answers.append(answer)
    if given.html:
        with atomic_file(given.html) as part:
            part.write_text(render_answers(run, answers, given.k), encoding="utf-8")
        print(f"the page: {given.html}", file=sys.stderr)
    if refused:
        named = name_rejected([str(path) for path in refused], list(refused.values()))
        what = f"{len(refused)} of {len(files)} photographs cannot be used: {named}"
        raise PipelineError(what, files[0].parent, "give other files", exit_code=3 if answers else 2)


def format_answer(run: OpenedRun, answer: Answer, k: int) -> str:
    """An answer for the console: the landmark, then one line an image."""
    from pipeline.query.page import describe_verdict

    lines = [f"{answer.photograph.name}: {describe_verdict(run, answer)}"]
    lines += [f"{at + 1:4}  {answer.ids[at]:24}  {answer.explain(at)}" for at in range(min(k, len(answer)))]
    return "\n".join(lines if len(lines) > 1 else [*lines, "      no index photograph was found"])


def to_json(answer: Answer, k: int) -> dict[str, Any]:
    """An answer as plain values."""
    listed = [
        {
            "id": answer.ids[at],
            "score": float(answer.scores[at]),
            "similarity": float(answer.similarities[at]),
            "same_landmark": bool(answer.same_landmark[at]),
            "inserted": bool(answer.inserted[at]),
            "inliers": int(answer.inliers[at]) if answer.inliers[at] >= 0 else None,
        }
        for at in range(min(k, len(answer)))
    ]
    names = ("landmark", "name", "confidence", "support", "is_known")
    found = {name: getattr(answer, name) for name in names}
    return {"photograph": str(answer.photograph)} | found | {"images": listed}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
