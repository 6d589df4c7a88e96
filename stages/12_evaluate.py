"""Stage 12: the official scores of every step, where there are solutions, and a page to look at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import digest_file, read_manifest, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, load_stages, main


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    inputs = (
        *(f"10_rerank_retrieval/{name}" for name in config.rerank.recipes),
        "09_predict_landmarks:recognition.parquet",
        "11_write_submissions",
        *(f"01_prepare_data:{name}" for name in ("index.parquet", "test.parquet", "rejected.csv")),
    )
    return [Task("12_evaluate", evaluate, {}, inputs, lambda: digest_solutions(config))]


def digest_solutions(config: Config) -> dict[str, str]:
    """The digests of the solution files, or that they are missing."""
    return digest_file(solution(config, "retrieval")) | digest_file(solution(config, "recognition"))


def solution(config: Config, task: str) -> Path:
    """Where the solution of a task would be."""
    return config.data.root / getattr(config.data, f"{task}_solution")


def evaluate(context: Context) -> None:
    """Write metrics.json and report.html, and show the tables."""
    import pandas as pd

    from pipeline.competition.evaluation import read_recognition_parts, read_retrieval_parts, score_recognition
    from pipeline.report.run_report import Run, render_report
    from pipeline.report.summary import describe_scores, measure_retrieval

    config = context.config
    test, index = (pd.read_parquet(context.input(f"01_prepare_data:{name}.parquet")) for name in ("test", "index"))
    rejected = pd.read_csv(context.input("01_prepare_data:rejected.csv"), dtype=str, keep_default_na=False)
    ids = test["id"].tolist(), rejected.loc[rejected["split"] == "test", "id"].tolist()
    answers = pd.read_parquet(context.input("09_predict_landmarks:recognition.parquet"))
    rankings = {name: load_rankings(context, name, steps) for name, steps in config.rerank.recipes.items()}
    retrieval = read_retrieval_parts(solution(config, "retrieval"), *ids, index["id"].tolist())
    recognition = read_recognition_parts(solution(config, "recognition"), *ids)
    metrics = {
        "retrieval": measure_retrieval(rankings, retrieval),
        "recognition": score_recognition(answers["labels"].to_numpy(), answers["scores"].to_numpy(), recognition),
        "photographs": {"test": len(test), "index": len(index)},
        "seconds": collect_seconds(context),
    }
    write_json(context.folder / "metrics.json", metrics)
    page = render_report(Run(config.run, config.data.root, test, index, rankings, retrieval), metrics)
    (context.folder / "report.html").write_text(page, encoding="utf-8")
    for task, found in (("retrieval", retrieval), ("recognition", recognition)):
        if not found:
            log.info("nothing to score %s by in %s: counts and times alone", task, solution(config, task))
    log.info("%s\nthe page to look at: %s", describe_scores(metrics), context.published / "report.html")


def load_rankings(context: Context, name: str, steps: Sequence[str]) -> list:
    """(step, rows) in order, of one recipe."""
    import numpy as np

    folder = context.input(f"10_rerank_retrieval/{name}")
    return [(step, np.load(folder / f"{place}_{step}.rows.npy")) for place, step in enumerate(steps)]


def collect_seconds(context: Context) -> dict[str, float]:
    """How long each stage before this one took, its artifacts together."""
    seconds = {}
    for stage in load_stages()[:-1]:
        manifests = [read_manifest(context.input(task.artifact)) for task in stage.tasks(context.config)]
        seconds[stage.name] = round(sum(manifest.seconds for manifest in manifests if manifest), 1)
    return seconds


STAGE = Stage("12_evaluate", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
