"""Stage 12: the official scores of every step, where there are solutions or judgements, and a page to look at."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import digest_files as digest_file, read_manifest, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, load_stages, main
from pipeline.task_context import TaskContext as Context

CLEANED, VERIFIED = "03_clean_train_set/list", "08_verify_matches/test_index:pairs.parquet"
JUDGED = "01_prepare_data:judgements.parquet"

if TYPE_CHECKING:
    from pipeline.report.run_report import Run


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    local = [f"07_extract_local/{config.local_model}/{split}" for split in ("test", "index")]
    compared = (*local, VERIFIED) if "index" in config.verified_splits else ()
    answers = ("09_predict_landmarks:recognition.parquet", "11_write_submissions")
    inputs = (
        *(f"10_rerank_retrieval/{name}" for name in config.rerank.recipes),
        *((JUDGED,) if config.data.is_benchmark else answers),
        *(f"01_prepare_data:{name}" for name in ("index.parquet", "test.parquet", "train.parquet", "rejected.csv")),
        CLEANED,
        *compared,
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
    from pipeline.report.run_report import render_report
    from pipeline.report.summary import describe_scores

    run, scores = (judge_benchmark if context.config.data.is_benchmark else score_answers)(context)
    metrics = scores | {
        "cleaning": count_cleaned(context),
        "photographs": {"test": len(run.test), "index": len(run.index)},
        "seconds": collect_seconds(context),
    }
    write_json(context.folder / "metrics.json", metrics)
    (context.folder / "report.html").write_text(render_report(run, metrics), encoding="utf-8")
    log.info("%s\nthe page to look at: %s", describe_scores(metrics), context.published / "report.html")


def score_answers(context: Context) -> tuple[Run, dict[str, Any]]:
    """A competition's run, scored by its solutions."""
    import pandas as pd

    from pipeline.competition.evaluation import read_recognition_parts, read_retrieval_parts, score_recognition
    from pipeline.report.summary import measure_retrieval, read_rankings, read_step_seconds

    config, run, recipes = context.config, open_run(context), context.config.rerank.recipes
    rejected = pd.read_csv(context.input("01_prepare_data:rejected.csv"), dtype=str, keep_default_na=False)
    ids = run.test["id"].tolist(), rejected.loc[rejected["split"] == "test", "id"].tolist()
    answers = pd.read_parquet(context.input("09_predict_landmarks:recognition.parquet"))
    rankings = read_rankings(context.input, recipes)
    retrieval = read_retrieval_parts(solution(config, "retrieval"), *ids, run.index["id"].tolist())
    recognition = read_recognition_parts(solution(config, "recognition"), *ids)
    for task, found in (("retrieval", retrieval), ("recognition", recognition)):
        if not found:
            log.info("nothing to score %s by in %s: counts and times alone", task, solution(config, task))
    return replace(run, rankings=rankings, parts=retrieval), {
        "retrieval": measure_retrieval(rankings, retrieval, read_step_seconds(context.input, recipes)),
        "recognition": score_recognition(answers["labels"].to_numpy(), answers["scores"].to_numpy(), recognition),
    }


def judge_benchmark(context: Context) -> tuple[Run, dict[str, Any]]:
    """A benchmark's run, scored in every setup."""
    from pipeline.competition.benchmark import read_judgements
    from pipeline.report.benchmark_report import as_part, judge_queries, measure_benchmark, shown_setup
    from pipeline.report.summary import read_rankings, read_step_seconds

    recipes, run = context.config.rerank.recipes, open_run(context)
    setups = read_judgements(context.input(JUDGED), len(run.test))
    rankings = {name: read_rankings(context.input, recipes, name) for name in setups}
    shown = shown_setup(setups)
    positives = {"all": as_part(setups[shown], len(run.test))}
    run = replace(run, rankings=rankings[shown], parts=positives, judge=judge_queries)
    return run, {"revisited": measure_benchmark(rankings, setups, read_step_seconds(context.input, recipes))}


def open_run(context: Context) -> Run:
    """The tables and the compared pairs of the run; its rankings are for others to add."""
    import pandas as pd

    from pipeline.report.local_report import read_verified
    from pipeline.report.run_report import Run

    test, index, train = (
        pd.read_parquet(context.input(f"01_prepare_data:{name}.parquet")) for name in ("test", "index", "train")
    )
    path = context.input(CLEANED) / "support.parquet"
    support = pd.read_parquet(path) if path.exists() else None
    verified = read_verified(context.input, context.config, index)
    name, root = context.config.run, context.config.data.root
    return Run(name, root, test, index, train=train, support=support, verified=verified)


def count_cleaned(context: Context) -> dict[str, int]:
    """How many train photographs the cleaning kept and dropped."""
    manifest = read_manifest(context.input(CLEANED))
    return {name: manifest.facts[name] for name in ("kept", "dropped", "landmarks")} if manifest else {}


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
