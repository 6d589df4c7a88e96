"""Two or more finished runs side by side: settings that differ, scores with intervals, queries that changed most."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import layout
from pipeline.arrays import NONE
from pipeline.artifacts import Trust
from pipeline.cache_key import flatten_settings
from pipeline.competition.evaluation import score_queries
from pipeline.competition.metrics import Truth
from pipeline.competition.paired_bootstrap import Interval, bootstrap_difference
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.images.split import Split
from pipeline.report.gallery import RANKS, ShownQuery, Strip, show_image, show_query_image
from pipeline.report.measures import RankedStep, judge_by_solution
from pipeline.report.tables import RECOGNITION_TITLES, Table
from pipeline.run_settings import load_run
from pipeline.runner import Pipeline, load_stages
from pipeline.task_context import TaskContext
from pipeline.tasks.evaluation import list_solutions, read_rankings, read_solutions
from pipeline.tasks.inputs import open_split

OF_THE_PLACE = ("run", "runtime.", "data.root")  # settings that say where a run is, not what it is
CHANGED = 5  # queries shown of those that gained the most, and of those that lost the most


@dataclass(frozen=True)
class ScoredRun:
    """A run with what its solution says of it.

    settings: flat. metrics: of metrics.json. precisions: the average precision of each scored test image, by its id,
    after each ranking, such as "knn + sort". last: the last step of its recipe. truth: the relevant index rows.
    """

    name: str
    settings: dict[str, Any]
    metrics: Mapping[str, Any]
    precisions: dict[str, dict[str, float]]
    last: RankedStep
    recipe: str
    truth: Truth
    test: Split
    index: Split


class ComparedRanking(NamedTuple):
    """A ranking that two or more runs have: the mAP@100 of each, and how the later ones differ from the first."""

    ranking: str
    means: list[float]
    differences: list[Interval]


def read_scored_run(folder: Path, trust_code: bool = False) -> ScoredRun:
    """The run in outputs/<run>/. Raises PipelineError for one that is stale, half made, a benchmark or not scored."""
    config = load_run(folder)
    if config.data.is_benchmark:
        what = "benchmarks have other scores: compare their metrics.json"
        raise PipelineError(what, folder, "give runs that are scored by a retrieval solution")
    references = [layout.EVALUATE, layout.REJECTED, *(layout.images(split) for split in ("test", "index"))]
    references += [layout.ranking(name) for name in config.rerank.recipes]
    pipeline = Pipeline(config, load_stages(), Trust(code=trust_code, outside=True))
    return _read_scores(pipeline.open_inputs(references), config)


def _read_scores(task: TaskContext, config: Config) -> ScoredRun:
    parts, _ = read_solutions(task, config)
    if not parts:
        path = list_solutions(config)["retrieval"]
        raise PipelineError("there is no solution to score this run by", path, "set data.retrieval_solution")
    test, index = (open_split(task, config, split) for split in ("test", "index"))
    ids, precisions = test.table["id"].tolist(), {}
    rankings = read_rankings(task, config)
    for steps in rankings.values():
        names = [step.name for step in steps]
        for position, step in enumerate(steps):
            values = zip(ids, score_queries(step.rows, parts["all"], len(ids)).tolist(), strict=True)
            scored = {image: value for image, value in values if value == value}
            precisions[" + ".join(names[: position + 1])] = scored
    return ScoredRun(
        name=config.run,
        settings=flatten_settings(config.model_dump(mode="json")),
        metrics=json.loads((task.input(layout.EVALUATE) / "metrics.json").read_text(encoding="utf-8")),
        precisions=precisions,
        last=rankings["recipe"][-1],
        recipe=" + ".join(config.rerank.recipe),
        truth=judge_by_solution(rankings["recipe"], parts["all"]).truth,
        test=test,
        index=index,
    )


def list_differing(runs: Sequence[ScoredRun]) -> Table:
    """The settings that differ, with the value of each run; those of the place left out."""
    names = sorted({name for run in runs for name in run.settings if not name.startswith(OF_THE_PLACE)})
    rows = []
    for name in names:
        cells = [json.dumps(run.settings[name]) if name in run.settings else "" for run in runs]
        rows += [[name, *cells]] if len(set(cells)) > 1 else []
    text = "Settings that are not the same in all runs." if rows else "All settings are the same."
    return Table("Settings", text, ["setting", *(run.name for run in runs)], rows, words=True)


def compare_rankings(runs: Sequence[ScoredRun]) -> list[ComparedRanking]:
    """Every ranking that all runs have, by the queries that all of them score. Raises PipelineError without any."""
    common = sorted(set.intersection(*(set(run.precisions[run.recipe]) for run in runs)))
    if not common:
        what = f"{' and '.join(run.name for run in runs)} have no scored query in common"
        raise PipelineError(what, runs[0].test.root, "compare runs on the same test photographs")
    compared = []
    for ranking in runs[0].precisions:
        if all(ranking in run.precisions for run in runs):
            values = [np.array([run.precisions[ranking][image] for image in common]) for run in runs]
            differences = [bootstrap_difference(values[0], other) for other in values[1:]]
            compared.append(ComparedRanking(ranking, [float(value.mean()) for value in values], differences))
    return compared


def tabulate_rankings(runs: Sequence[ScoredRun], compared: Sequence[ComparedRanking]) -> Table:
    """mAP@100 of each run, and the differences from the first with their 95 % intervals, in points."""
    text = (
        "mAP@100 over the queries that all runs score. A difference is in points, with the interval in which it lies "
        "with 95 % by the paired bootstrap over queries: one that does not hold 0 is hardly chance."
    )
    if len(runs) > 2:  # side by side they would be wider than any screen
        columns = ["ranking", "run", "mAP@100", f"difference from {runs[0].name}"]
        rows = [
            [one.ranking, run.name, f"{mean:.3f}", difference]
            for one in compared
            for run, mean, difference in zip(
                runs, one.means, ["", *map(_format_interval, one.differences)], strict=True
            )
        ]
        return Table("Retrieval", text, columns, rows, words=True)
    columns = ["ranking", *(run.name for run in runs), *(f"{run.name} − {runs[0].name}" for run in runs[1:])]
    rows = [
        [one.ranking, *(f"{mean:.3f}" for mean in one.means), *map(_format_interval, one.differences)]
        for one in compared
    ]
    return Table("Retrieval", text, columns, rows)


def tabulate_recognition(runs: Sequence[ScoredRun]) -> Table:
    """GAP and top-1 accuracy of each run."""
    found = [run.metrics.get("recognition", {}) for run in runs]
    rows = [
        [title, *(f"{one[key]:.3f}" if key in one else "" for one in found)]
        for key, title in RECOGNITION_TITLES.items()
        if any(key in one for one in found)
    ]
    return Table("Recognition", "Over all test photographs.", ["recognition", *(run.name for run in runs)], rows)


def pick_changed(first: ScoredRun, other: ScoredRun, count: int = CHANGED) -> list[str]:
    """The ids of the queries whose precision by the recipe rose the most between the runs, then fell the most."""
    before, after = first.precisions[first.recipe], other.precisions[other.recipe]
    change = {image: after[image] - before[image] for image in sorted(before.keys() & after.keys())}
    rising = sorted(change, key=lambda image: -change[image])
    falling = rising[::-1]
    gained = [image for image in rising[:count] if change[image] > 0]
    return gained + [image for image in falling[:count] if change[image] < 0]


def show_changed(first: ScoredRun, other: ScoredRun) -> list[ShownQuery]:
    """These queries with the first images of both runs."""
    shown = []
    for image in pick_changed(first, other):
        strips = []
        for run in (first, other):
            query = run.test.table["id"].tolist().index(image)
            relevant, rows = set(run.truth.of(query).tolist()), run.last.rows[query, :RANKS]
            cells = [show_image(run.index, row, row in relevant) for row in rows[rows != NONE].tolist()]
            strips.append(Strip(run.name, f"AP {run.precisions[run.recipe][image]:.2f}", cells))
        note = f"{len(relevant)} photograph{'' if len(relevant) == 1 else 's'} to find"
        shown.append(ShownQuery(image, show_query_image(run.test, query), note, strips))
    return shown


def _format_interval(interval: Interval) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
