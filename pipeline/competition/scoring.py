"""The official scores of any submission file against a solution file of Google Landmarks v2, without the data set.

The formats are those of submission.py. The submission is read once, record by record, so that memory holds row numbers
instead of the ids of 117,577 lists of 100.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.arrays import NO_LABEL, NONE
from pipeline.catalogue import LIST_LENGTH
from pipeline.competition.evaluation import (
    Part,
    Scores,
    recognition_parts,
    score_recognition,
    score_retrieval,
    split_halves,
)
from pipeline.competition.metrics import Truth
from pipeline.competition.records import name_id, quote, read_header
from pipeline.competition.submission import (
    SHOWN,
    Solution,
    read_recognition,
    read_recognition_solution,
    read_retrieval,
    read_retrieval_solution,
)
from pipeline.errors import PipelineError

TASKS = {"images": "retrieval", "landmarks": "recognition"}  # of the competition, by the column of the answers


class Scored(NamedTuple):
    """The task, "retrieval" or "recognition", its scores as in metrics.json, and the number of queries answered."""

    task: str
    scores: Scores
    queries: int
    answered: int


def score_submission(solution: Path, submission: Path) -> Scored:
    """The official scores. Both files are of the task that their columns name, plain or gzip (.gz).

    A query without a record is not answered. Records of queries that the solution ignores are left out. Raises
    PipelineError that names the file: for files of different tasks, records that break the formats, a repeated record,
    a query that the solution does not have, and a solution in which nothing is scored.
    """
    task = _find_task(solution)
    if _find_task(submission) != task:
        raise PipelineError(f"the solution is of {task}, this file is not", submission, "give two files of one task")
    return (_score_retrieval if task == "retrieval" else _score_recognition)(solution, submission)


def _find_task(path: Path) -> str:
    header = read_header(path)
    for column, task in TASKS.items():
        if column in header:
            return task
    what = f"neither a column 'images' nor 'landmarks'; the first line is {quote(','.join(header))}"
    raise PipelineError(what, path, "the columns are id,images or id,landmarks, and Usage in a solution")


def _score_retrieval(path: Path, submission: Path) -> Scored:
    solution = read_retrieval_solution(path)
    relevant = solution.public | solution.private
    queries = _list_queries(solution, path)
    rows = np.full((len(queries), LIST_LENGTH), NONE, np.int32)
    answered, unknown = 0, []
    for query, images in read_retrieval(submission):
        position = queries.get(query)
        if position is None:
            unknown += [query] if query not in solution.ignored else []
            continue
        # Images are numbered within a query: its few ids stay in the processor's cache, a table of all ids would not.
        numbers = {image: number for number, image in enumerate(dict.fromkeys(relevant[query]))}
        found = [numbers.get(image, NONE) for image in images[:LIST_LENGTH]]
        rows[position, : len(found)] = found
        answered += bool(found)
    _refuse_unknown(unknown, submission)
    parts = {
        name: Part(positions, Truth.from_lists([range(len(set(images))) for images in half.values()]))
        for name, half, positions in split_halves(solution, list(queries), (), path)
    }
    return Scored("retrieval", score_retrieval(rows, parts), len(queries), answered)


def _score_recognition(path: Path, submission: Path) -> Scored:
    solution = read_recognition_solution(path)
    queries = _list_queries(solution, path)
    labels, confidences = np.full(len(queries), NO_LABEL, np.int64), np.zeros(len(queries))
    unknown = []
    for image, (label, score) in read_recognition(submission):
        position = queries.get(image)
        if position is None:
            unknown += [image] if image not in solution.ignored else []
            continue
        labels[position], confidences[position] = label, score
    _refuse_unknown(unknown, submission)
    scores = score_recognition(labels, confidences, recognition_parts(solution, list(queries), (), path))
    if not scores:
        raise PipelineError("no image of the solution shows a landmark", path, "give a recognition solution")
    return Scored("recognition", scores, len(queries), int((labels != NO_LABEL).sum()))


def _list_queries(solution: Solution, path: Path) -> dict[str, int]:
    """The scored queries of both halves, numbered."""
    queries = {query: number for number, query in enumerate((*solution.public, *solution.private))}
    if not queries:
        raise PipelineError("the solution scores no query: all are ignored", path, "give the solution of this task")
    return queries


def _refuse_unknown(unknown: Collection[str], submission: Path) -> None:
    if unknown:
        named = ", ".join(map(name_id, [*unknown][:SHOWN]))
        raise PipelineError(
            f"{len(unknown)} records of queries that the solution does not have: {named}",
            submission,
            "the submission and the solution must be of one release",
        )
