"""Stage 12: the official scores of every step, if there is a ground truth, and the report with photographs."""

from __future__ import annotations

import sys

from pipeline import layout
from pipeline.artifacts import digest_files, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks import evaluation, report


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    solutions = evaluation.list_solutions(config).values()
    references = dict.fromkeys([*evaluation.score_references(config), *report.report_references(config)])
    settings = {"report": config.report.model_dump()}
    return [Task(layout.EVALUATE, evaluate, settings, tuple(references), lambda: digest_files(*solutions))]


def evaluate(task: TaskContext, config: Config) -> None:
    """Write metrics.json, report.html, queries.csv and, with a recognition solution, landmarks.csv; log the tables."""
    from pipeline.report.run_report import render_report
    from pipeline.report.tables import format_scores

    scores, judged = (evaluation.score_benchmark if config.data.is_benchmark else evaluation.score_answers)(
        task, config
    )
    run = report.open_run(task, config, judged)
    metrics = scores | {
        "cleaning": evaluation.read_cleaning_counts(task, config),
        "photographs": {"test": len(run.test), "index": len(run.index)},
        "left_out": run.left_out.counts,
        "seconds": {stage: seconds for stage, seconds in task.seconds.items() if stage != layout.EVALUATE},
        "bytes": {stage: size for stage, size in task.bytes.items() if stage != layout.EVALUATE},
    }
    write_json(task.folder / "metrics.json", metrics)
    run.queries.to_csv(task.folder / "queries.csv", index=False, float_format="%.6f")
    if run.landmarks is not None:
        run.landmarks.to_csv(task.folder / "landmarks.csv", index=False, float_format="%.6f")
    (task.folder / "report.html").write_text(render_report(run, metrics), encoding="utf-8")
    log.info("%s\nthe report: %s", format_scores(metrics), task.published / "report.html")
    if len(run.left_out.images):
        log.warning("left out: %s; the report names them", run.left_out.describe())


STAGE = Stage(layout.EVALUATE, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
