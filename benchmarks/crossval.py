"""Which recipe to choose, and how sure that is: every step of every recipe of finished runs, compared over landmarks.

    python -m benchmarks.crossval outputs/demo outputs/photos
    python -m benchmarks.crossval outputs/photos outputs/photos_1 outputs/photos_2 --splits 1000

Needs the solutions of the runs. Queries of one landmark rise and fall together: standard errors are over landmarks.
Then the landmarks of each run are halved at random, again and again: a recipe is chosen on one half, or on another run,
and judged on the other half by its regret, the points that it stays behind the best recipe there. What was chosen by
chance has regret where it was not chosen; a default that carries over has little anywhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.record import Rows, add_json_argument, publish
from benchmarks.tune import FinishedRun
from pipeline.arrays import Doubles, Integers
from pipeline.competition.metrics import Truth
from pipeline.console import run_guarded
from pipeline.errors import PipelineError
from pipeline.report.measures import judge_by_solution
from pipeline.run_settings import load_run
from pipeline.seeds import derive_seed
from pipeline.tasks.evaluation import list_solutions, read_rankings, read_solutions

POINTS = 100.0  # of mAP@100


class Judged(NamedTuple):
    """A run's recipes judged. precisions: (R, Q) average precisions by recipe and scored query, in points.

    landmarks: (Q,) int64 from 0, the landmark of each query. own: the row of the recipe that the run submits.
    """

    name: str
    recipes: list[str]
    precisions: Doubles
    landmarks: Integers
    own: int


def group_by_truth(truth: Truth, queries: Integers) -> Integers:
    """(Q,) int64 from 0: queries that look for the same images are of one landmark."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(truth.of(query).tobytes(), len(numbers)) for query in queries.tolist()])


def judge(folder: Path) -> Judged:
    """The recipes of a finished run, step by step. Raises PipelineError for no solution, or one landmark."""
    config = load_run(folder)
    run = FinishedRun(config)
    retrieval, _ = read_solutions(run, config)
    if not retrieval:
        raise PipelineError("there is nothing to judge by", list_solutions(config)["retrieval"], "restore the solution")
    found: dict[str, Doubles] = {}
    for steps in read_rankings(run, config).values():
        judged = judge_by_solution(steps, retrieval["all"])
        scored = np.flatnonzero(~np.isnan(judged.steps[0].precisions))
        for position, step in enumerate(judged.steps):
            name = " + ".join(one.name for one in steps[: position + 1])
            found.setdefault(name, POINTS * step.precisions[scored])
    own = list(found).index(" + ".join(config.rerank.recipes["recipe"]))
    landmarks = group_by_truth(judged.truth, scored)
    if landmarks.max(initial=0) < 1:
        raise PipelineError("its queries are of one landmark, which cannot be halved", folder, "leave out this run")
    return Judged(str(folder), list(found), np.stack(list(found.values())), landmarks, own)


def mean_by_landmark(values: Doubles, landmarks: Integers) -> tuple[float, float]:
    """The mean of values (Q,) and its standard error over the landmarks (Q,), by leaving out one at a time.

    NaN for the error of a single landmark.
    """
    sums, counts = np.bincount(landmarks, values), np.bincount(landmarks)
    if len(sums) < 2:
        return float(values.mean()), float("nan")
    left = (sums.sum() - sums) / (counts.sum() - counts)
    return float(values.mean()), float(np.sqrt((len(sums) - 1) / len(sums) * np.square(left - left.mean()).sum()))


def compare_recipes(run: Judged) -> Rows:
    """The table of one run: each recipe beside the run's own, the best first."""
    rows = []
    for recipe in np.argsort(-run.precisions.mean(axis=1), kind="stable").tolist():
        difference = run.precisions[recipe] - run.precisions[run.own]
        mean, error = mean_by_landmark(difference, run.landmarks)
        rows.append(
            {
                "recipe": run.recipes[recipe] + (" (the run's own)" if recipe == run.own else ""),
                "mAP@100, points": float(run.precisions[recipe].mean()),
                "beside the run's own": mean,
                "standard error": error,
                "queries that gain": int((difference > 0).sum()),
                "that lose": int((difference < 0).sum()),
            }
        )
    return rows


def measure_regrets(runs: Sequence[Judged], splits: int, seed: int = 0) -> Rows:
    """How far each way to choose stays behind the best recipe of landmarks that it has not seen, in points.

    Only recipes of all runs take part. A row for each run that is judged and each way: the best of its other half,
    the best of each other run, and always the recipe that one of the runs submits.
    """
    shared = [name for name in runs[0].recipes if all(name in run.recipes for run in runs)]
    tables = [run.precisions[[run.recipes.index(name) for name in shared]] for run in runs]
    always = sorted({run.recipes[run.own] for run in runs} & set(shared))
    rows = []
    for run, table in zip(runs, tables, strict=True):
        seen, unseen = halve_landmarks(table, run.landmarks, splits, seed)
        ways = {"the best of its other half": seen.argmax(axis=1)}
        for other, its in zip(runs, tables, strict=True):
            if other is not run:
                ways[f"the best of {other.name}"] = np.full(splits, its.mean(axis=1).argmax())
        ways |= {f"always {name}": np.full(splits, shared.index(name)) for name in always}
        for way, chosen in ways.items():
            regrets = unseen.max(axis=1) - unseen[np.arange(splits), chosen]
            names = sorted({shared[recipe] for recipe in chosen.tolist()})
            rows.append(
                {
                    "judged on": run.name,
                    "chosen": way,
                    "regret": float(regrets.mean()),
                    "of the worst tenth of splits": float(np.quantile(regrets, 0.9)),
                    "recipes chosen": names[0] if len(names) == 1 else len(names),
                }
            )
    return rows


def halve_landmarks(table: Doubles, landmarks: Integers, splits: int, seed: int) -> tuple[Doubles, Doubles]:
    """The means of recipes (R, Q) over the queries of either half of the landmarks (Q,), (splits, R) each.

    Raises ValueError for fewer than two landmarks.
    """
    count = int(landmarks.max()) + 1
    if count < 2:
        raise ValueError("one landmark cannot be halved")
    rng = np.random.default_rng(derive_seed(seed, "halves"))
    first = np.argsort(rng.random((splits, count)), axis=1) < count // 2  # (splits, landmarks)
    halves = [half[:, landmarks].astype(np.float64) for half in (first, ~first)]
    seen, unseen = (half @ table.T / half.sum(axis=1, keepdims=True) for half in halves)
    return seen, unseen


def work(asked: argparse.Namespace) -> None:
    """Print what is asked for."""
    runs = [judge(folder) for folder in asked.runs]
    tables = {
        f"{run.name}, {run.precisions.shape[1]} queries of {run.landmarks.max() + 1} landmarks": compare_recipes(run)
        for run in runs
    }
    title = f"Choices judged on landmarks that they have not seen, {asked.splits} splits"
    publish(tables | {title: measure_regrets(runs, asked.splits)}, asked.json)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs, outputs/<run>")
    parser.add_argument("--splits", type=int, default=1000, help="random halves (default: %(default)s)")
    add_json_argument(parser)
    asked = parser.parse_args()
    return run_guarded(lambda: work(asked))


if __name__ == "__main__":
    sys.exit(main())
