"""Stage 12: the official scores of every step, if there is a ground truth, and the report with photographs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.artifacts import digest_files, read_manifest, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.evaluation import evaluation_references, list_solutions, open_run, read_rankings, read_solutions
from pipeline.tasks.inputs import read_images

if TYPE_CHECKING:
    from pipeline.report.measures import JudgedRanking


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    solutions = list_solutions(config).values()
    return [Task(layout.EVALUATE, evaluate, {}, tuple(evaluation_references(config)), lambda: digest_files(*solutions))]


def evaluate(task: TaskContext, config: Config) -> None:
    """Write metrics.json and report.html, and log the tables."""
    from pipeline.report.run_report import render_report
    from pipeline.report.tables import format_scores

    scores, judged = (score_benchmark if config.data.is_benchmark else score_answers)(task, config)
    run = open_run(task, config, judged)
    cleaned = read_manifest(task.input(layout.CLEAN_LIST))
    metrics = scores | {
        "cleaning": {name: cleaned.facts[name] for name in ("kept", "dropped", "landmarks")} if cleaned else {},
        "photographs": {"test": len(run.test), "index": len(run.index)},
        "left_out": run.left_out.counts,
        "seconds": {stage: seconds for stage, seconds in task.seconds.items() if stage != layout.EVALUATE},
    }
    write_json(task.folder / "metrics.json", metrics)
    (task.folder / "report.html").write_text(render_report(run, metrics), encoding="utf-8")
    log.info("%s\nthe report: %s", format_scores(metrics), task.published / "report.html")
    if len(run.left_out.images):
        log.warning("left out: %s; the report names them", run.left_out.describe())


def score_answers(task: TaskContext, config: Config) -> tuple[dict[str, Any], JudgedRanking | None]:
    """The scores of a competition's answers by its solutions; without them no ranking is judged."""
    import pandas as pd

    from pipeline.competition.evaluation import score_recognition
    from pipeline.report.measures import judge_by_solution, measure_retrieval

    retrieval, recognition = read_solutions(task, config)
    rankings, answers = read_rankings(task, config), pd.read_parquet(task.input(layout.RECOGNITION))
    scores = {
        "retrieval": measure_retrieval(rankings, retrieval),
        "recognition": score_recognition(answers["labels"].to_numpy(), answers["scores"].to_numpy(), recognition),
    }
    return scores, judge_by_solution(rankings["recipe"], retrieval["all"]) if retrieval else None


def score_benchmark(task: TaskContext, config: Config) -> tuple[dict[str, Any], JudgedRanking]:
    """The scores of a benchmark's rankings in every setup."""
    from pipeline.competition.judgement_table import read_judgements
    from pipeline.report.measures import choose_setup, judge_by_setup, measure_benchmark

    setups = read_judgements(task.input(layout.JUDGEMENTS), len(read_images(task, "test")))
    rankings = {setup: read_rankings(task, config, setup) for setup in setups}
    shown = choose_setup(setups)
    judged = judge_by_setup(rankings[shown]["recipe"], setups[shown].positives)
    return {"revisited": measure_benchmark(rankings, setups)}, judged


STAGE = Stage(layout.EVALUATE, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
