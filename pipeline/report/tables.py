"""The tables that a person reads: scores by step, for the report and for the console."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.competition.scoring import Scored
from pipeline.report.charts import Chart, Titles, draw_dots
from pipeline.report.measures import Measured

RECOGNITION_TITLES = {"gap": "GAP", "gap_landmarks_only": "GAP, landmarks only", "top1": "top-1 accuracy"}
RETRIEVAL_TEXT = (
    "Scored queries: {queries}. The gain is in points of mAP@100 over the recipe's first step. P@10 is the mean "
    "precision of the first 10 images; R@k is the share of queries with a right image among the first k."
)
RECOGNITION_TEXT = "One landmark and one confidence for every test photograph, including those without a landmark."
BENCHMARK_TEXT = (
    "In percent, as the papers print them: mean average precision by the trapezoidal rule, and mean precision at 10. "
    "The gain is in points of mAP over the recipe's first step. Each setup is ranked separately, without its junk. The "
    "photographs of a report are ranked in one setup."
)
UNLISTED_TEXT = " The lists are shorter than the index: up to {most} positives are in none, and count as not found."
TIME_TEXT = "How long each stage took when it last ran, and how much disk it takes."
CHANGED_TEXT = (
    "What this run sets otherwise than the defaults, by the time this page was made; paths and devices left out."
)
COST = Titles(
    "Recipes",
    "mAP@100 beside what a ranking costs after the search: its own seconds for all queries, and those of the stages "
    "that only its evidence needs (local features and inliers, or votes).",
    "seconds",
    "mAP@100",
)


class Table(NamedTuple):
    """Text under headings. words: all columns are left-aligned, else only the first, and the others on the right."""

    heading: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


class Column(NamedTuple):
    """A column of numbers. keys: where a step's scores hold the number; gain: show its rise since the first step."""

    title: str
    keys: tuple[str, ...]
    form: str = ".3f"
    scale: int = 1
    gain: bool = False

    def format_cell(self, scores: Mapping[str, Any], first: Mapping[str, Any]) -> str:
        """The number of a step, empty where there is none; `first`: the scores of the recipe's first step."""
        value = self._look_up(scores)
        if value is None or (self.gain and scores is first):
            return ""
        return format(self.scale * (value - self._look_up(first) if self.gain else value), self.form)

    def _look_up(self, scores: Mapping[str, Any]) -> Any:
        for key in self.keys[:-1]:
            scores = scores.get(key, {})  # an earlier version wrote fewer
        return scores.get(self.keys[-1])


RETRIEVAL_COLUMNS = [
    Column("mAP@100", ("map_at_100",)),
    Column("gain", ("map_at_100",), "+.1f", 100, gain=True),
    Column("public", ("map_at_100_public",)),
    Column("private", ("map_at_100_private",)),
    Column("P@10", ("mean_precision", "10")),
    Column("R@1", ("recall", "1")),
    Column("R@5", ("recall", "5")),
    Column("R@10", ("recall", "10")),
]


def tabulate_scores(metrics: Mapping[str, Any]) -> list[Table]:
    """The tables of all scores in metrics.json; none where nothing was scored."""
    tables = []
    if retrieval := {name: steps for name, steps in metrics.get("retrieval", {}).items() if "queries" in steps[0]}:
        tables.append(tabulate_retrieval(retrieval))
    if recognition := metrics.get("recognition"):
        tables.append(tabulate_recognition(recognition))
    if benchmark := metrics.get("revisited"):
        tables.append(tabulate_benchmark(benchmark))
    return tables


def tabulate_retrieval(measured: Measured) -> Table:
    """The scores of every step of every recipe against a competition's solution."""
    text = RETRIEVAL_TEXT.format(queries=next(iter(measured.values()))[0]["queries"])
    return Table("Retrieval", text, *tabulate_steps(measured, RETRIEVAL_COLUMNS))


def tabulate_benchmark(measured: Measured) -> Table:
    """The scores of every step of every recipe in each setup of a benchmark, in percent."""
    setups = [name for name, value in next(iter(measured.values()))[0].items() if isinstance(value, Mapping)]
    columns = []
    for setup in setups:
        columns.append(Column(f"{setup} mAP", (setup, "map"), ".2f", 100))
        columns.append(Column(f"{setup} gain", (setup, "map"), "+.2f", 100, gain=True))
    columns += [Column(f"{setup} mP@10", (setup, "mp_at_10"), ".2f", 100) for setup in setups]
    most = max(step[setup]["unlisted"] for steps in measured.values() for step in steps for setup in setups)
    text = BENCHMARK_TEXT + (UNLISTED_TEXT.format(most=most) if most else "")
    return Table("Benchmark", text, *tabulate_steps(measured, columns))


def tabulate_steps(measured: Measured, columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """The titles, and a row for every step of every recipe; recipes that start with the same steps share those rows.

    The last column has the seconds of the recipe up to and including the step.
    """
    rows: dict[str, list[str]] = {}
    for steps in measured.values():
        names, seconds = [], 0.0
        for scores in steps:
            names.append(scores["step"])
            seconds += scores["seconds"]
            ranking = " + ".join(names)
            cells = (column.format_cell(scores, steps[0]) for column in columns)
            rows.setdefault(ranking, [ranking, *cells, f"{seconds:.2f}"])
    return ["ranking", *(column.title for column in columns), "seconds"], list(rows.values())


def tabulate_recognition(scores: Mapping[str, Any]) -> Table:
    """The recognition scores over all images and over each half of the leaderboard."""
    rows = _list_halves(scores, RECOGNITION_TITLES, ".3f")
    return Table("Recognition", RECOGNITION_TEXT, ("recognition", "value", "public", "private"), rows)


def tabulate_stages(seconds: Mapping[str, float], sizes: Mapping[str, int]) -> Table:
    """The seconds and megabytes of each stage, and their sums. sizes: in bytes."""
    rows = [[stage, f"{value:.1f}", _megabytes(sizes.get(stage, 0))] for stage, value in seconds.items()]
    total = ["total", f"{sum(seconds.values()):.1f}", _megabytes(sum(sizes.get(stage, 0) for stage in seconds))]
    return Table("Time and size", TIME_TEXT, ("stage", "seconds", "MB"), [*rows, total])


def tabulate_changed(changed: Mapping[str, tuple[Any, Any]]) -> Table | None:
    """Settings that are not the defaults: name -> (value, default); None where all are."""
    rows = [[name, *map(_as_json, values)] for name, values in changed.items()]
    return Table("Settings", CHANGED_TEXT, ("setting", "value", "default"), rows, words=True) if rows else None


def draw_costs(
    measured: Measured, evidence: Mapping[str, Collection[str]], seconds: Mapping[str, float]
) -> Chart | None:
    """mAP@100 of every ranking over its cost; None where nothing is scored.

    evidence: the stages that only the evidence of a step needs, by step. seconds: of each stage.
    """
    points: dict[str, tuple[float, float]] = {}
    for steps in measured.values():
        names, own, stages = [], 0.0, set()
        for scores in steps:
            names.append(scores["step"])
            own += scores["seconds"]
            stages |= set(evidence.get(scores["step"], ()))
            if "map_at_100" in scores:
                cost = own + sum(seconds.get(stage, 0.0) for stage in stages)
                points.setdefault(" + ".join(names), (cost, scores["map_at_100"]))
    return draw_dots(COST, points)


def format_scores(metrics: Mapping[str, Any]) -> str:
    """The scores of metrics.json as tables for a console; an empty text when nothing was scored."""
    return "\n".join(f"\n{format_table(table.columns, table.rows)}\n" for table in tabulate_scores(metrics))


def format_score(scored: Scored) -> str:
    """The scores of one submission file as a table for a console.

    Over both halves of the leaderboard and over each, empty where the solution has no such half. Mean precisions and
    positions are over both.
    """
    titles = {"map_at_100": "mAP@100"} if scored.task == "retrieval" else RECOGNITION_TITLES
    rows = _list_halves(scored.scores, titles, ".6f")
    if scored.task == "retrieval":
        precisions: Any = scored.scores["mean_precision"]
        rows += [[f"mean precision at {k}", f"{value:.6f}", "", ""] for k, value in precisions.items()]
        recalls: Any = scored.scores["recall"]
        rows += [[f"recall at {k}", f"{value:.6f}", "", ""] for k, value in recalls.items()]
        for mean in ("mean", "median"):
            rows.append([f"first hit, {mean} rank", f"{scored.scores[f'{mean}_position']:g}", "", ""])
    count = f"{scored.answered} of {scored.queries} scored queries are answered"
    return f"{count}\n\n{format_table((scored.task, 'both', 'public', 'private'), rows)}"


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text for a console, columns aligned."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    form = "  ".join(f"{{:{'>' if position else '<'}{width}}}" for position, width in enumerate(widths))
    return "\n".join(form.format(*line).rstrip() for line in lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _as_json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _list_halves(scores: Mapping[str, Any], titles: Mapping[str, str], form: str) -> list[list[str]]:
    """A row for each score that there is: its title, and its value over both halves and over each."""
    rows = []
    for key, title in titles.items():
        values = [scores.get(key + half) for half in ("", "_public", "_private")]
        if key in scores:
            rows.append([title, *("" if value is None else format(value, form) for value in values)])
    return rows
