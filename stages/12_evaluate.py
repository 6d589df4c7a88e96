"""Stage 12: the official scores of every step, if there is a ground truth, and the report with photographs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.artifacts import digest_file, read_manifest, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.report.measures import JudgedRanking, Rankings

SHOWN_RECIPE = "recipe"  # the one that is submitted


def tasks(config: Config) -> list[Task]:
    """One artifact. The submissions are an input so that the report is never older than they are."""
    inputs = [layout.REJECTED, layout.CLEAN_LIST, *(layout.images(split) for split in ("test", "index", "train"))]
    inputs += [layout.ranking(recipe) for recipe in config.rerank.recipes]
    inputs += [layout.JUDGEMENTS] if config.data.is_benchmark else [layout.RECOGNITION, layout.SUBMIT]
    if "index" in config.verified_splits:
        inputs += [layout.local_features(config.local_model, split) for split in ("test", "index")]
        inputs += [layout.verified_pairs("index")]
    return [Task(layout.EVALUATE, evaluate, {}, tuple(inputs), lambda: digest_solutions(config))]


def digest_solutions(config: Config) -> dict[str, str]:
    """The digests of the solution files, or that they are missing."""
    names = config.data.retrieval_solution, config.data.recognition_solution
    return {path: digest for name in names for path, digest in digest_file(config.data.root / name).items()}


def evaluate(task: TaskContext, config: Config) -> None:
    """Write metrics.json and report.html, and log the tables."""
    import pandas as pd

    from pipeline.report.run_report import render_report
    from pipeline.report.tables import format_scores

    tables = {split: pd.read_parquet(task.input(layout.images(split))) for split in ("test", "index", "train")}
    scores, judged = (score_benchmark if config.data.is_benchmark else score_answers)(task, config, tables)
    cleaning = read_facts(task, layout.CLEAN_LIST)
    metrics = scores | {
        "cleaning": {name: cleaning[name] for name in ("kept", "dropped", "landmarks")},
        "photographs": {split: len(tables[split]) for split in ("test", "index")},
        "seconds": {stage: round(seconds, 1) for stage, seconds in task.seconds.items()},
    }
    write_json(task.folder / "metrics.json", metrics)
    page = render_report(open_run(task, config, tables, judged), metrics)
    (task.folder / "report.html").write_text(page, encoding="utf-8")
    log.info("%s\nthe report: %s", format_scores(metrics), task.published / "report.html")
