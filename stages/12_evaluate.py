"""Stage 12: the official scores of every step, if there is a ground truth, and the report with photographs."""

from __future__ import annotations

import sys

from pipeline import layout
from pipeline.artifacts import digest_files, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks import evaluation


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    solutions, references = evaluation.list_solutions(config), tuple(evaluation.evaluation_references(config))
    return [Task(layout.EVALUATE, evaluate, {}, references, lambda: digest_files(*solutions.values()))]


def evaluate(task: TaskContext, config: Config) -> None:
    """Write metrics.json, report.html and, with a recognition solution, landmarks.csv; log the tables."""
    from pipeline.report.run_report import render_report
    from pipeline.report.tables import format_scores

    scores, judged = (evaluation.score_benchmark if config.data.is_benchmark else evaluation.score_answers)(
        task, config
    )
    run = evaluation.open_run(task, config, judged)
    metrics = scores | {
        "cleaning": evaluation.read_cleaning_counts(task),
        "photographs": {"test": len(run.test), "index": len(run.index)},
        "left_out": run.left_out.counts,
        "seconds": {stage: seconds for stage, seconds in task.seconds.items() if stage != layout.EVALUATE},
    }
    write_json(task.folder / "metrics.json", metrics)
    if run.landmarks is not None:
        run.landmarks.to_csv(task.folder / "landmarks.csv", index=False, float_format="%.6f")
    (task.folder / "report.html").write_text(render_report(run, metrics), encoding="utf-8")
    log.info("%s\nthe report: %s", format_scores(metrics), task.published / "report.html")
    if len(run.left_out.images):
        log.warning("left out: %s; the report names them", run.left_out.describe())


STAGE = Stage(layout.EVALUATE, version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
