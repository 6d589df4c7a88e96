"""The official scores of one ranking and of one recognition answer, given by rows, against solutions given by ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NONE, AnyIntegers, Doubles, Integers, Labels, Rows
from pipeline.competition.metrics import (
    Truth,
    average_precisions,
    find_hits,
    global_average_precision,
    hit_rates,
    mean_and_median_position,
    mean_average_precision,
    mean_precisions,
    top1_accuracy,
)
from pipeline.competition.records import name_id
from pipeline.competition.submission import Solution, read_recognition_solution, read_retrieval_solution
from pipeline.errors import PipelineError

PRECISION_RANKS = (1, 5, 10, 20, 50, 100)
RECALL_RANKS = (1, 5, 10)
Scores = dict[str, float | int | dict[str, float]]


class Part(NamedTuple):
    """The queries of a solution that are scored together, in the order of ids, as the official scorer breaks ties.

    queries: (Q,) int64 rows of test; -1 for a photograph that was rejected as unreadable, and so has no answer.
    truth: the ground truth of the same Q queries.
    """

    queries: Integers
    truth: Truth


def read_retrieval_parts(
    path: Path, test_ids: Sequence[str], rejected: Sequence[str], index_ids: Sequence[str]
) -> dict[str, Part]:
    """The scored queries of each half of a retrieval solution, and of both as "all"; empty when there is no such file.

    The ground truth holds relevant index images as rows. One that was rejected as unreadable has no row in index, but
    counts as an image to find. Raises PipelineError, naming the file, for queries in neither test_ids nor rejected.
    """
    if not path.is_file():
        return {}
    numbers = {image_id: row for row, image_id in enumerate(index_ids)}

    def number(image_id: str) -> int:
        return numbers.setdefault(image_id, len(numbers))

    return {
        name: Part(queries, Truth.from_lists([[number(image_id) for image_id in half[query]] for query in half]))
        for name, half, queries in split_halves(read_retrieval_solution(path), test_ids, rejected, path)
    }


def read_recognition_parts(path: Path, test_ids: Sequence[str], rejected: Sequence[str]) -> dict[str, Part]:
    """The same of a recognition solution: the ground truth holds the landmarks of each test image (may be empty)."""
    if not path.is_file():
        return {}
    return recognition_parts(read_recognition_solution(path), test_ids, rejected, path)


def recognition_parts(
    solution: Solution, test_ids: Sequence[str], rejected: Sequence[str], path: Path
) -> dict[str, Part]:
    """The parts of a recognition solution that has been read from `path`."""
    return {
        name: Part(queries, Truth.from_lists([half[image] for image in half]))
        for name, half, queries in split_halves(solution, test_ids, rejected, path)
    }


def score_retrieval(rows: Rows, parts: Mapping[str, Part]) -> Scores:
    """The official retrieval scores of one ranking, rows (Q, K) int32 by test row; means are over all scored queries.

    map_at_100 has an entry for each half, with its name, and for both. Mean precisions, recalls (`hit_rates`) and
    positions of the first hit are over all queries. No scores where no query is scored.
    """
    scores: Scores = {}
    if not parts:
        return scores
    for name, part in parts.items():
        hits = find_hits(_answers(rows, part.queries), part.truth)
        scores["map_at_100" if name == "all" else f"map_at_100_{name}"] = mean_average_precision(
            hits, part.truth.counts
        )
    precisions, (mean, median) = mean_precisions(hits), mean_and_median_position(hits)
    scores["mean_precision"] = {str(rank): float(precisions[rank - 1]) for rank in PRECISION_RANKS}
    rates = hit_rates(hits)
    scores["recall"] = {str(rank): float(rates[rank - 1]) for rank in RECALL_RANKS}
    scores |= {"mean_position": mean, "median_position": median, "queries": len(hits)}
    return scores


def score_queries(rows: Rows, part: Part, count: int) -> Doubles:
    """The average precision of each of `count` test rows, (count,); NaN for those that are not scored."""
    hits = find_hits(_answers(rows, part.queries), part.truth)
    scores = np.full(count, np.nan)
    answered = part.queries >= 0
    scores[part.queries[answered]] = average_precisions(hits, part.truth.counts)[answered]
    return scores


def score_recognition(labels: Labels, scores: NDArray[np.floating], parts: Mapping[str, Part]) -> Scores:
    """GAP, GAP of only the images that show a landmark, and top-1 accuracy, for each half with its name and for both.

    labels, scores: (T,) predicted landmarks and confidences by test row.
    """
    result: Scores = {}
    for name, part in parts.items():
        if not len(part.truth.values):
            continue  # a half in which no image shows a landmark has no GAP
        answers = _answers(labels[:, None], part.queries)[:, 0]
        confidences = _answers(scores[:, None], part.queries)[:, 0]
        key = "" if name == "all" else f"_{name}"
        for metric, landmarks_only in (("gap", False), ("gap_landmarks_only", True)):
            value = global_average_precision(answers, confidences, part.truth, landmarks_only=landmarks_only)
            result[f"{metric}{key}"] = value
        result[f"top1{key}"] = top1_accuracy(answers, part.truth)
    return result


def split_halves(
    solution: Solution, test_ids: Sequence[str], rejected: Sequence[str], path: Path
) -> list[tuple[str, dict, Integers]]:
    """(name, answers by id, test rows) of each half that has scored queries, and last of "all"; in the order of ids."""
    rows = {test_id: row for row, test_id in enumerate(test_ids)} | dict.fromkeys(rejected, NONE)
    halves = {"public": solution.public, "private": solution.private, "all": {**solution.public, **solution.private}}
    unknown = [query for query in halves["all"] if query not in rows]
    if unknown:
        raise PipelineError(
            f"{len(unknown)} queries of the solution are not in test.csv ({', '.join(map(name_id, unknown[:5]))})",
            path,
            "the solution and test.csv must be of one release",
        )
    halves = {name: dict(sorted(half.items())) for name, half in halves.items()}
    named = [(name, half, np.array([rows[query] for query in half], np.int64)) for name, half in halves.items() if half]
    return named[-1:] if len(named) == 2 else named  # "all" would repeat the only half


def _answers(rows: NDArray, queries: AnyIntegers) -> NDArray:
    """The lists of the queries; a list of -1 for a query without an answer."""
    if not len(rows):
        return np.full((len(queries), *rows.shape[1:]), NONE, rows.dtype)
    return np.where(queries[:, None] >= 0, rows[queries], NONE)
