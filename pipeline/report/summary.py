"""What a run amounts to: the numbers of metrics.json, and the tables that a person reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import read_manifest
from pipeline.competition.evaluation import Part, score_retrieval
from pipeline.report.benchmark_report import BENCHMARK, benchmark_columns, tabulate_benchmark
from pipeline.report.page import format_table

Rankings = Mapping[str, Sequence[tuple[str, NDArray[np.int32]]]]  # recipe -> (step, rows (Q, K)) in order
RETRIEVAL_COLUMNS = ("ranking", "mAP@100", "gain", "public", "private", "P@10", "first hit (median)", "seconds")
RECOGNITION_COLUMNS = ("recognition", "value", "public", "private")
RECOGNITION_NAMES = {"gap": "GAP", "gap_landmarks_only": "GAP, landmarks only", "top1": "top-1 accuracy"}


def read_rankings(find: Callable[[str], Path], recipes: Mapping[str, Sequence[str]], setup: str = "") -> Rankings:
    """The rankings of stage 10, of one setup where there are several. find: an input's name -> its path."""
    return {
        recipe: [
            (step, np.load(find(f"10_rerank_retrieval/{recipe}") / setup / f"{place}_{step}.rows.npy"))
            for place, step in enumerate(steps)
        ]
        for recipe, steps in recipes.items()
    }


def read_step_seconds(find: Callable[[str], Path], recipes: Iterable[str]) -> dict[str, list[float]]:
    """How long each step of each recipe took in stage 10."""
    manifests = {name: read_manifest(find(f"10_rerank_retrieval/{name}")) for name in recipes}
    return {name: manifest.facts["step_seconds"] for name, manifest in manifests.items() if manifest}


def measure_retrieval(
    rankings: Rankings, parts: Mapping[str, Part], seconds: Mapping[str, Sequence[float]]
) -> dict[str, list[dict[str, Any]]]:
    """For every recipe its steps with their scores; without a solution (no parts) with the number of images listed.

    seconds: how long each step of each recipe took.
    """
    measured: dict[str, list[dict[str, Any]]] = {}
    for recipe, steps in rankings.items():
        measured[recipe] = [
            {
                "step": step,
                "images_listed": int((rows >= 0).sum()),
                "seconds": taken,
                **(score_retrieval(rows, parts) if parts else {}),
            }
            for (step, rows), taken in zip(steps, seconds[recipe], strict=True)
        ]
    return measured


def describe_scores(metrics: Mapping[str, Any]) -> str:
    """The scores of metrics.json as tables for a console; an empty text when nothing was scored."""
    tables, judged = [], metrics.get(BENCHMARK, {})
    for columns, rows in (
        (RETRIEVAL_COLUMNS, tabulate_retrieval(metrics.get("retrieval", {}))),
        (RECOGNITION_COLUMNS, tabulate_recognition(metrics.get("recognition", {}))),
        (benchmark_columns(judged), tabulate_benchmark(judged)),
    ):
        tables += ["", format_table(columns, rows), ""] if rows else []
    return "\n".join(tables)


def tabulate_retrieval(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Rows of RETRIEVAL_COLUMNS: every step of every recipe, its gain over the recipe's first step in points of mAP.

    Steps that a row above has shown (the same steps from the first on) are not repeated.
    """
    table, shown = [], set()
    for steps in measured.values():
        for place, scores in enumerate(steps):
            path = tuple(step["step"] for step in steps[: place + 1])
            if "map_at_100" not in scores or path in shown:
                continue
            shown.add(path)
            gain = 100 * (scores["map_at_100"] - steps[0]["map_at_100"])
            halves = [_number(scores.get(f"map_at_100_{half}")) for half in ("public", "private")]
            table.append([
                " + ".join(path),
                _number(scores["map_at_100"]),
                f"{gain:+.1f}" if place else "",
                *halves,
                _number(scores["mean_precision"]["10"]),
                f"{scores['median_position']:g}",
                f"{sum(step['seconds'] for step in steps[: place + 1]):.2f}",
            ])  # fmt: skip
    return table


def tabulate_recognition(scores: Mapping[str, Any]) -> list[list[str]]:
    """Rows of RECOGNITION_COLUMNS."""
    return [
        [title, *(_number(scores.get(key + half)) for half in ("", "_public", "_private"))]
        for key, title in RECOGNITION_NAMES.items()
        if key in scores
    ]


def tabulate_seconds(seconds: Mapping[str, float]) -> list[list[str]]:
    """Rows of (stage, seconds), and their sum."""
    rows = [[stage, f"{value:.1f}"] for stage, value in seconds.items()]
    return [*rows, ["together", f"{sum(seconds.values()):.1f}"]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
