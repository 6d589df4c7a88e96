"""The report of a run: scores and plots, queries at every ranking step and why, recognition, training, cleaning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from pipeline.images.split import Split
from pipeline.progress import format_about
from pipeline.report.answers import Answers, show_answers
from pipeline.report.confidence import Answered, draw_gap_curve, draw_reliability, tabulate_reliability
from pipeline.report.explanation import Explainer
from pipeline.report.gallery import Gallery, show_galleries
from pipeline.report.landmark_table import tabulate_landmarks
from pipeline.report.left_out import NOTHING_LEFT_OUT, LeftOut, tabulate_left_out
from pipeline.report.local_report import VerifiedPairs, show_dropped, show_pairs
from pipeline.report.measures import JudgedRanking
from pipeline.report.misses import Reading, Relevant, judge_relevant, tabulate_reasons
from pipeline.report.mistakes import show_mistakes
from pipeline.report.overlap_report import tabulate_overlap
from pipeline.report.query_table import draw_gains, list_found
from pipeline.report.tables import draw_costs, tabulate_changed, tabulate_scores, tabulate_stages
from pipeline.report.training_curves import draw_histories
from pipeline.settings import ReportSettings

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Run:
    """What the report shows of a run beside its metrics; None or nothing for what the run does not have.

    judged: the recipe's ranking against the ground truth; answers: what is shown in its place without one. verified:
    the pairs of test and index. support: supporters and kept of each train image, if the cleaning verified them.
    left_out: the images that could not be used. names: of landmarks, where they have some. landmarks: how each fares.
    reading: what the votes made of the images, by `votes` train images each. queries: a row per test image.
    recognition: the judged answers. histories: of training, by title. changed: settings
    that are not the defaults, with value and default. models: each model in words. evidence: the stages that only the
    evidence of a ranking step needs, by step. overlap: near-duplicates of test in train, from overlap_similarity.
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
    reading: Reading | None = None
    votes: int = 0
    queries: pd.DataFrame = field(default_factory=pd.DataFrame)
    recognition: Answered | None = None
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    models: Sequence[str] = ()
    evidence: Mapping[str, Collection[str]] = field(default_factory=dict)
    overlap: pd.DataFrame | None = None
    overlap_similarity: float = 1.0
    settings: ReportSettings = field(default_factory=ReportSettings)


def render_report(run: Run, metrics: Mapping[str, Any]) -> str:
    """The report as one HTML page that contains its images. metrics: as in metrics.json.

    Without a ground truth it has no scores, and shows answers in the place of judged queries.
    """
    relevant = judge_relevant(run.judged, run.reading) if run.judged and run.reading else None
    galleries = show_queries(run, relevant)
    shown = {query.row for gallery in galleries for query in gallery.queries}
    return render_template(
        "report.html",
        title=f"Cairn: {run.name}",
        summary=summarise(run, metrics),
        scores=tabulate_scores(metrics),
        costs=draw_costs(metrics.get("retrieval", {}), run.evidence, metrics["seconds"]),
        gains=draw_gains(run.judged, run.test, shown) if run.judged else None,
        reasons=tabulate_reasons(relevant) if relevant else None,
        galleries=galleries,
        about_answers=run.answers.text if run.answers else "",
        found=list_found(run.queries, run.names, shown, run.settings.listed),
        sections=_show_recognition(run) | _show_local(run) | _show_work(run, metrics),
    )


def show_queries(run: Run, relevant: Relevant | None) -> list[Gallery]:
    """Queries of several kinds: judged ones, or without a ground truth answers; none where there are no photographs."""
    explainer = Explainer(run.test, run.index, run.train, run.votes, run.reading, relevant, run.verified)
    splits, count = (run.test, run.index), run.settings.queries
    if run.judged:
        return show_galleries(run.judged, *splits, explainer.explain, count)
    return show_answers(run.answers, *splits, explainer.explain, count) if run.answers else []


def summarise(run: Run, metrics: Mapping[str, Any]) -> str:
    """The run in a paragraph: its images, its models, its scores and its time, as far as they are known."""
    if run.answers and run.answers.in_itself:
        sentences = [f"{len(run.index):,} photographs, each compared with all others"]
    else:
        sentences = [f"{len(run.test):,} test and {len(run.index):,} index photographs"]
    if len(run.train):
        landmarks = run.train.table["landmark"].nunique()
        cleaning = metrics.get("cleaning", {})
        cleaned = f", of which the cleaning kept {cleaning['kept']:,}" if "kept" in cleaning else ""
        cleaned += f" and gave {cleaning['corrected']:,} another landmark" if "corrected" in cleaning else ""
        sentences.append(f"{len(run.train):,} train photographs of {landmarks:,} landmarks{cleaned}")
    sentences += run.models
    steps = metrics.get("retrieval", {}).get("recipe", [])
    if steps and "map_at_100" in steps[-1]:
        first, last = steps[0]["map_at_100"], steps[-1]["map_at_100"]
        recipe = " + ".join(step["step"] for step in steps)
        sentences.append(f"The recipe {recipe} reaches mAP@100 {last:.3f}, {steps[0]['step']} alone {first:.3f}")
    if "gap" in (recognition := metrics.get("recognition", {})):
        sentences.append(f"Recognition reaches GAP {recognition['gap']:.3f}")
    seconds = sum(metrics["seconds"].values())
    sentences += [f"All stages together took {format_about(seconds)}"] if seconds else []
    return ". ".join(sentences) + "."


def _show_recognition(run: Run) -> dict[str, Any]:
    """What the page has of recognition and of landmarks."""
    answered = run.recognition
    return {
        "confidence": _present([draw_reliability(answered), draw_gap_curve(answered)]) if answered else [],
        "reliability": tabulate_reliability(answered) if answered else None,
        "mistakes": show_mistakes(answered, run.reading, run.test, run.train, run.settings.queries)
        if answered and run.reading
        else [],
        "landmarks": tabulate_landmarks(run.landmarks, run.names) if run.landmarks is not None else None,
    }


def _show_local(run: Run) -> dict[str, Any]:
    """What the page has of verified pairs and of the cleaning."""
    truth = run.judged.truth if run.judged else None
    return {
        "min_inliers": run.verified.min_inliers if run.verified else None,
        "pairs": show_pairs(run.verified, run.test, run.index, truth) if run.verified else [],
        "dropped": show_dropped(run.train, run.support, run.names) if run.support is not None else [],
    }


def _show_work(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the page has of the training, of files, times and settings."""
    tables = [
        tabulate_left_out(run.left_out),
        tabulate_overlap(run.overlap, run.overlap_similarity, run.names),
        tabulate_stages(metrics["seconds"], metrics.get("bytes", {})),
        tabulate_changed(run.changed),
    ]
    return {"training": draw_histories(run.histories), "work": _present(tables)}


def _present(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def render_template(name: str, **values: object) -> str:
    """A template of report/templates/ with its values; text in them is escaped. An undefined value is an error."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(values)
