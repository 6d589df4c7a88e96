"""What a benchmark run amounts to: every step of every recipe in every setup, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NONE
from pipeline.competition.benchmark_metrics import score_lists, trapezoid_average_precisions
from pipeline.competition.evaluation import Part
from pipeline.competition.junk import Judgements

BENCHMARK = "revisited"  # what metrics.json calls it
SHOWN = "medium"  # the setup whose rankings are pictured, where there are several
BENCHMARK_TEXT = (
    "In percent, as the papers print them: mean average precision by trapezoids, and the mean precision among the "
    "first ten. The gain is in points of mAP over the nearest neighbours. Each setup is ranked apart, its junk removed "
    "before every step. The pictures below are of one setup."
)

Steps = Sequence[tuple[str, NDArray[np.int32]]]  # (step, rows (Q, K)) in order


def measure_benchmark(
    rankings: Mapping[str, Mapping[str, Steps]],
    setups: Mapping[str, Judgements],
    seconds: Mapping[str, Sequence[float]],
) -> dict[str, list[dict[str, Any]]]:
    """For every recipe its steps, each with the scores of `score_lists` in every setup and the seconds of all setups.

    rankings: setup -> recipe -> steps. seconds: how long each step of each recipe took.
    """
    measured: dict[str, list[dict[str, Any]]] = {
        recipe: [{"seconds": taken} for taken in steps] for recipe, steps in seconds.items()
    }
    for setup, recipes in rankings.items():
        for recipe, steps in recipes.items():
            for scores, (step, rows) in zip(measured[recipe], steps, strict=True):
                scores |= {"step": step, setup: score_lists(rows, setups[setup])}
    return measured


def describe_benchmark(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """What the table shows, and how much its lists miss where they are shorter than the index."""
    setups = _setups(measured)
    most = max(step[setup]["unlisted"] for steps in measured.values() for step in steps for setup in setups)
    missed = f" The lists do not hold the whole index: up to {most} positives are in none, and count as not found."
    return BENCHMARK_TEXT + (missed if most else "")


def benchmark_columns(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """The heads of `tabulate_benchmark`."""
    setups = _setups(measured)
    names = [f"{setup} {what}" for setup in setups for what in ("mAP", "gain")]
    return ("ranking", *names, *(f"{setup} mP@10" for setup in setups), "seconds")


def tabulate_benchmark(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """A row for every step of every recipe, in percent; steps that a row above has shown are not repeated."""
    table, shown = [], set()
    for steps in measured.values():
        for place, scores in enumerate(steps):
            path = tuple(step["step"] for step in steps[: place + 1])
            if path in shown:
                continue
            shown.add(path)
            row = [" + ".join(path)]
            for setup in _setups(measured):
                gain = 100 * (scores[setup]["map"] - steps[0][setup]["map"])
                row += [f"{100 * scores[setup]['map']:.2f}", f"{gain:+.2f}" if place else ""]
            row += [f"{100 * scores[setup]['mp_at_10']:.2f}" for setup in _setups(measured)]
            table.append([*row, f"{sum(step['seconds'] for step in steps[: place + 1]):.2f}"])
    return table


def shown_setup(setups: Mapping[str, Judgements]) -> str:
    """The setup whose rankings are pictured."""
    return SHOWN if SHOWN in setups else next(iter(setups))


def as_part(judged: Judgements, queries: int) -> Part:
    """The positives of one setup as a solution is held; queries behind the first `queries` have no list."""
    numbers = np.arange(len(judged.positives))
    return Part(np.where(numbers < queries, numbers, -1), judged.positives)


def judge_queries(rows: NDArray[np.int32], part: Part, count: int) -> NDArray[np.float64]:
    """The trapezoid AP of each of `count` queries, (count,); NaN where there is nothing to find."""
    lists = np.pad(rows, ((0, len(part.truth) - len(rows)), (0, 0)), constant_values=NONE)
    return trapezoid_average_precisions(lists, part.truth)[:count]


def _setups(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    steps = next(iter(measured.values()), [])
    return [name for name, value in steps[0].items() if isinstance(value, dict)] if steps else []
