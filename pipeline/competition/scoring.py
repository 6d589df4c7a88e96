"""A submission file against a solution file of Google Landmarks v2, without the data set: the official scores.

A submission of retrieval or of recognition, anybody's, in the formats of submission.py. It is read once, a row at a
time, so that memory holds row numbers and not the ids of 117,577 lists of 100.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.competition.evaluation import (
    Part,
    Scores,
    recognition_parts,
    score_recognition,
    score_retrieval,
    split_halves,
)
from pipeline.competition.metrics import LIST_LENGTH, NONE, Truth
from pipeline.competition.rows import read_header
from pipeline.competition.submission import (
    SHOWN,
    Solution,
    read_recognition,
    read_recognition_solution,
    read_retrieval,
    read_retrieval_solution,
)
from pipeline.errors import PipelineError

TASKS = {"images": "retrieval", "landmarks": "recognition"}  # by the column of the answers


class Scored(NamedTuple):
    """The task, "retrieval" or "recognition", the scores as stage 12 names them, and how many queries were answered."""

    task: str
    scores: Scores
    queries: int
    answered: int


def score_submission(solution: Path, submission: Path) -> Scored:
    """The official scores; the task is told by the columns of both files, which may be gzip (.gz).

    A query without a row has no answer. Rows of queries that the solution ignores are left out. Raises PipelineError
    that names the file: files of two tasks, rows that break the formats, a repeated row, a query that the solution does
    not have, and a solution in which nothing is scored.
    """
    task = _tell_task(solution)
    if _tell_task(submission) != task:
        raise PipelineError(f"the solution is of {task}, this file is not", submission, "give two files of one task")
    return (_score_retrieval if task == "retrieval" else _score_recognition)(solution, submission)


def _tell_task(path: Path) -> str:
    header = read_header(path)
    for column, task in TASKS.items():
        if column in header:
            return task
    what = f"neither a column 'images' nor 'landmarks'; the first line is {','.join(header)[:80]!r}"
    raise PipelineError(what, path, "the files are id,images or id,landmarks, solutions with Usage behind")


def _score_retrieval(path: Path, submission: Path) -> Scored:
    solution = read_retrieval_solution(path)
    relevant = solution.public | solution.private
    queries = _list_queries(solution, path)
    rows = np.full((len(queries), LIST_LENGTH), NONE, np.int32)
    answered, unknown = 0, []
    for query, images in read_retrieval(submission):
        at = queries.get(query)
        if at is None:
            unknown += [query] if query not in solution.ignored else []
            continue
        # Numbers within a query: its few images stay in the cache, where a table of all would not.
        numbers = {image: number for number, image in enumerate(dict.fromkeys(relevant[query]))}
        found = [numbers.get(image, NONE) for image in images[:LIST_LENGTH]]
        rows[at, : len(found)] = found
        answered += bool(found)
    _refuse_unknown(unknown, submission)
    parts = {
        name: Part(at, Truth.from_lists([range(len(set(images))) for images in half.values()]))
        for name, half, at in split_halves(solution, list(queries), (), path)
    }
    return Scored("retrieval", score_retrieval(rows, parts), len(queries), answered)


def _score_recognition(path: Path, submission: Path) -> Scored:
    solution = read_recognition_solution(path)
    queries = _list_queries(solution, path)
    labels, sureness = np.full(len(queries), NONE, np.int64), np.zeros(len(queries))
    unknown = []
    for image, (label, score) in read_recognition(submission):
        at = queries.get(image)
        if at is None:
            unknown += [image] if image not in solution.ignored else []
            continue
        labels[at], sureness[at] = label, score
    _refuse_unknown(unknown, submission)
    scores = score_recognition(labels, sureness, recognition_parts(solution, list(queries), (), path))
    if not scores:
        raise PipelineError("no image of the solution shows a landmark", path, "give a recognition solution")
    return Scored("recognition", scores, len(queries), int((labels != NONE).sum()))


def _list_queries(solution: Solution, path: Path) -> dict[str, int]:
    """The scored queries of both halves, numbered."""
    queries = {query: number for number, query in enumerate((*solution.public, *solution.private))}
    if not queries:
        raise PipelineError("the solution scores no query: all are ignored", path, "give the solution of this task")
    return queries


def _refuse_unknown(unknown: Collection[str], submission: Path) -> None:
    if unknown:
        raise PipelineError(
            f"{len(unknown)} rows of queries that the solution does not have: {', '.join([*unknown][:SHOWN])}",
            submission,
            "the submission and the solution must be of one release",
        )
