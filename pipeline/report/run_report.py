"""The report of a run: its scores, queries at every ranking step, verified pairs, dropped images and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from pipeline.images.split import Split
from pipeline.report.answers import Answers, show_answers
from pipeline.report.gallery import show_queries
from pipeline.report.landmark_table import tabulate_landmarks
from pipeline.report.left_out import NOTHING_LEFT_OUT, LeftOut, tabulate_left_out
from pipeline.report.local_report import VerifiedPairs, show_dropped, show_pairs
from pipeline.report.measures import JudgedRanking
from pipeline.report.tables import tabulate_scores, tabulate_seconds

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Run:
    """What the report shows of a run beside its metrics; None for what the run does not have.

    judged: the recipe's ranking against the ground truth; answers: what is shown in its place without one. verified:
    the pairs of test and index. support: supporters and kept of each train image, if the cleaning verified them.
    left_out: the images that could not be used. names: of landmarks, where they have some. landmarks: how each fares.
    """

    name: str
    test: Split
    index: Split
    train: Split
    judged: JudgedRanking | None = None
    answers: Answers | None = None
    verified: VerifiedPairs | None = None
    support: pd.DataFrame | None = None
    left_out: LeftOut = NOTHING_LEFT_OUT
    names: Mapping[int, str] = field(default_factory=dict)
    landmarks: pd.DataFrame | None = None


def render_report(run: Run, metrics: Mapping[str, Any]) -> str:
    """The report as one HTML page that contains its images. metrics: as in metrics.json.

    Without a ground truth it has no scores, and shows answers in the place of judged queries.
    """
    truth = run.judged.truth if run.judged else None
    return render_template(
        "report.html",
        title=f"Cairn: {run.name}",
        summary=summarise(run),
        scores=tabulate_scores(metrics),
        queries=show_queries(run.judged, run.test, run.index) if run.judged else [],
        answers=show_answers(run.answers, run.test, run.index) if run.answers else [],
        about_answers=run.answers,
        min_inliers=run.verified.min_inliers if run.verified else None,
        pairs=show_pairs(run.verified, run.test, run.index, truth) if run.verified else [],
        dropped=show_dropped(run.train, run.support, run.names) if run.support is not None else [],
        landmarks=tabulate_landmarks(run.landmarks, run.names) if run.landmarks is not None else None,
        left_out=tabulate_left_out(run.left_out),
        times=tabulate_seconds(metrics["seconds"]),
    )


def summarise(run: Run) -> str:
    """How many images there are, in words."""
    if run.answers and run.answers.in_itself:
        return f"{len(run.index)} photographs, each compared with all others"
    return f"{len(run.test)} test and {len(run.index)} index photographs"


def render_template(name: str, **values: object) -> str:
    """A template of report/templates/ with its values; text in them is escaped. An undefined value is an error."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(values)
