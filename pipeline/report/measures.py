"""The scores of each step of each recipe as metrics.json holds them, and the queries that the report judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import NONE, Doubles, Integers, Rows
from pipeline.competition.benchmark_metrics import score_lists, trapezoid_average_precisions
from pipeline.competition.evaluation import Part, score_queries, score_retrieval
from pipeline.competition.junk import Judgements
from pipeline.competition.metrics import Truth

SHOWN_SETUP = "medium"  # the setup of a benchmark whose queries are shown, if the benchmark has it


class RankedStep(NamedTuple):
    """The lists of all test images after one ranking step: rows (Q, K) int32, NONE = empty; seconds the step took."""

    name: str
    rows: Rows
    seconds: float


class JudgedStep(NamedTuple):
    """A step's lists, rows (Q, K) int32, with the average precision of each, (Q,); NaN where a query is not scored."""

    name: str
    rows: Rows
    precisions: Doubles


class JudgedRanking(NamedTuple):
    """The steps of one recipe in order. truth: the index rows that show the landmark of each test row."""

    steps: Sequence[JudgedStep]
    truth: Truth

    def relevant(self, query: int) -> Integers:
        """The index rows that show the query's landmark, ascending."""
        return self.truth.values[self.truth.offsets[query] : self.truth.offsets[query + 1]]


Rankings = Mapping[str, Sequence[RankedStep]]  # recipe -> its steps in order
Measured = Mapping[str, Sequence[Mapping[str, Any]]]  # recipe -> the scores of its steps, as metrics.json holds them


def measure_retrieval(rankings: Rankings, parts: Mapping[str, Part]) -> Measured:
    """The official retrieval scores of each step; without a solution (no parts) only how many images it lists."""
    return {
        recipe: [
            {
                "step": step.name,
                "images_listed": int((step.rows != NONE).sum()),
                "seconds": step.seconds,
                **(score_retrieval(step.rows, parts) if parts else {}),
            }
            for step in steps
        ]
        for recipe, steps in rankings.items()
    }


def measure_benchmark(rankings: Mapping[str, Rankings], setups: Mapping[str, Judgements]) -> Measured:
    """The scores of each step in every setup of a benchmark, under the setup's name. rankings: by setup.

    The seconds of a step are those of all setups together.
    """
    return {
        recipe: [
            {"step": step.name, "seconds": step.seconds}
            | {setup: score_lists(rankings[setup][recipe][position].rows, setups[setup]) for setup in setups}
            for position, step in enumerate(steps)
        ]
        for recipe, steps in next(iter(rankings.values())).items()
    }


def judge_by_solution(steps: Sequence[RankedStep], part: Part) -> JudgedRanking:
    """The average precision of every query that a competition's solution scores, at each step."""
    queries = np.repeat(part.queries, part.truth.counts)
    readable = queries >= 0  # the others have no row: stage 01 rejected their images
    count = len(steps[0].rows)
    truth = Truth.from_pairs(queries[readable], part.truth.values[readable], count)
    judged = [JudgedStep(step.name, step.rows, score_queries(step.rows, part, count)) for step in steps]
    return JudgedRanking(judged, truth)


def judge_by_setup(steps: Sequence[RankedStep], positives: Truth) -> JudgedRanking:
    """The trapezoid average precision of every query of one benchmark setup, at each step.

    The positives may know further queries after those that have lists.
    """
    judged = []
    for step in steps:
        lists = np.pad(step.rows, ((0, len(positives) - len(step.rows)), (0, 0)), constant_values=NONE)
        precisions = trapezoid_average_precisions(lists, positives)[: len(step.rows)]
        judged.append(JudgedStep(step.name, step.rows, precisions))
    return JudgedRanking(judged, positives)


def choose_setup(setups: Mapping[str, Judgements]) -> str:
    """The setup of a benchmark whose queries the report shows: "medium", or the first."""
    return SHOWN_SETUP if SHOWN_SETUP in setups else next(iter(setups))
