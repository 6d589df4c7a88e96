"""The report of a run: what it scored, what each step gave, and queries to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.competition.evaluation import Part, score_queries
from pipeline.report.benchmark_report import BENCHMARK, benchmark_columns, describe_benchmark, tabulate_benchmark
from pipeline.report.gallery import Photographs, Step, pick_queries, render_query
from pipeline.report.local_report import VerifiedRun, render_cleaning, render_pairs
from pipeline.report.page import render_heading, render_page, render_section, render_table
from pipeline.report.summary import (
    RECOGNITION_COLUMNS,
    RETRIEVAL_COLUMNS,
    Rankings,
    tabulate_recognition,
    tabulate_retrieval,
    tabulate_seconds,
)

GALLERY_TEXT = (
    "One row a step: the photographs that it put first. Green frames show the query's landmark, red ones do not; "
    "“new” stands on photographs that similarity alone did not list. "
    "The first queries gained the most, the last ones lost the most."
)


@dataclass(frozen=True)
class Run:
    """What the page is made of. test, index, train: tables of stage 01; parts: the retrieval solution, or nothing.

    rankings: of a benchmark those of one setup, and parts its positives. judge: (rows, part, how many test photographs)
    -> the average precision of each, by which queries to look at are chosen.

    support: what the cleaning found, where it compared photographs; verified: the compared pairs, where there are any.
    """

    name: str
    root: Path
    test: pd.DataFrame
    index: pd.DataFrame
    rankings: Rankings = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    train: pd.DataFrame | None = None
    support: pd.DataFrame | None = None
    verified: VerifiedRun | None = None
    judge: Callable[[NDArray[np.int32], Part, int], NDArray[np.float64]] = score_queries

    def photographs(self, table: pd.DataFrame) -> Photographs:
        """The ids and files of a split's table."""
        return Photographs(table["id"].tolist(), [self.root / path for path in table["path"]])


def render_report(run: Run, metrics: Mapping[str, Any]) -> str:
    """The whole page as HTML, pictures inside. Without solutions it holds counts and times alone."""
    parts = [render_heading(f"Cairn: {run.name}", f"{len(run.test)} test and {len(run.index)} index photographs")]
    retrieval = tabulate_retrieval(metrics.get("retrieval", {}))
    if retrieval:
        text = f"{len(run.parts['all'].queries)} queries. The gain is in points of mAP@100 over the nearest neighbours."
        parts.append(render_section("Retrieval", text, render_table(RETRIEVAL_COLUMNS, retrieval)))
    recognition = tabulate_recognition(metrics.get("recognition", {}))
    if recognition:
        text = "One landmark and a score for every test photograph, those without a landmark included."
        parts.append(render_section("Recognition", text, render_table(RECOGNITION_COLUMNS, recognition)))
    benchmark = metrics.get(BENCHMARK, {})
    judged = tabulate_benchmark(benchmark)
    if judged:
        table = render_table(benchmark_columns(benchmark), judged)
        parts.append(render_section("Benchmark", describe_benchmark(benchmark), table))
    if retrieval or judged:
        parts.append(render_section("What the steps did", GALLERY_TEXT, _render_gallery(run)))
    if run.verified is not None:
        shown = replace(run.verified, pairs=_keep_relevant(run.verified.pairs, run.parts.get("all")))
        parts.append(render_pairs(shown, run.photographs(run.test), run.photographs(run.index)))
    if run.support is not None and run.train is not None:
        parts.append(render_cleaning(run.train, run.support, run.root))
    seconds = render_table(("stage", "seconds"), tabulate_seconds(metrics["seconds"]))
    parts.append(render_section("Time", "What each stage took when it last ran.", seconds))
    return render_page(f"Cairn: {run.name}", parts)


def _keep_relevant(pairs: pd.DataFrame, part: Part | None) -> pd.DataFrame:
    """The pairs that show one landmark, where the solution tells; portraits of two strangers agree only too well."""
    if part is None:
        return pairs
    queries = np.repeat(part.queries, np.diff(part.truth.offsets))
    return pairs.merge(pd.DataFrame({"query": queries, "row": part.truth.values}), on=["query", "row"])


def _render_gallery(run: Run) -> str:
    part = run.parts["all"]
    steps = [Step(step, rows, run.judge(rows, part, len(run.test))) for step, rows in run.rankings["recipe"]]
    truth: dict[int, np.ndarray] = {
        int(query): part.truth.values[part.truth.offsets[at] : part.truth.offsets[at + 1]]
        for at, query in enumerate(part.queries)
    }
    # Queries with the same photographs to find show the same landmark.
    groups = [truth[row].tobytes() if row in truth else row for row in range(len(run.test))]
    test, index = run.photographs(run.test), run.photographs(run.index)
    return "".join(render_query(query, steps, test, index, truth[query]) for query in pick_queries(steps, groups))
