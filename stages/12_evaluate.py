"""Stage 12: the official scores of every step, where there are solutions, and a page to look at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import digest_file, read_manifest, write_json
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, load_stages, main

SPLITS = ("test", "index", "train")
CLEANED, VERIFIED = "03_clean_train_set/list", "08_verify_matches/test_index:pairs.parquet"

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.report.local_report import VerifiedRun


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    local = [f"07_extract_local/{config.local_model}/{split}" for split in ("test", "index")]
    compared = (*local, VERIFIED) if "index" in config.verified_splits else ()
    inputs = (
        *(f"10_rerank_retrieval/{name}" for name in config.rerank.recipes),
        "09_predict_landmarks:recognition.parquet",
        "11_write_submissions",
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
    import pandas as pd

    from pipeline.competition.evaluation import read_recognition_parts, read_retrieval_parts, score_recognition
    from pipeline.report.run_report import Run, render_report
    from pipeline.report.summary import describe_scores, measure_retrieval

    config = context.config
    test, index, train = (pd.read_parquet(context.input(f"01_prepare_data:{name}.parquet")) for name in SPLITS)
    rejected = pd.read_csv(context.input("01_prepare_data:rejected.csv"), dtype=str, keep_default_na=False)
    ids = test["id"].tolist(), rejected.loc[rejected["split"] == "test", "id"].tolist()
    answers = pd.read_parquet(context.input("09_predict_landmarks:recognition.parquet"))
    rankings = {name: load_rankings(context, name, steps) for name, steps in config.rerank.recipes.items()}
    retrieval = read_retrieval_parts(solution(config, "retrieval"), *ids, index["id"].tolist())
    recognition = read_recognition_parts(solution(config, "recognition"), *ids)
    metrics = {
        "retrieval": measure_retrieval(rankings, retrieval, collect_step_seconds(context)),
        "recognition": score_recognition(answers["labels"].to_numpy(), answers["scores"].to_numpy(), recognition),
        "cleaning": count_cleaned(context),
        "photographs": {"test": len(test), "index": len(index)},
        "seconds": collect_seconds(context),
    }
    write_json(context.folder / "metrics.json", metrics)
    support = context.input(CLEANED) / "support.parquet"
    run = Run(
        config.run, config.data.root, test, index, rankings, retrieval,
        train, pd.read_parquet(support) if support.exists() else None, load_verified(context, index),
    )  # fmt: skip
    page = render_report(run, metrics)
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


def load_verified(context: Context, index: pd.DataFrame) -> VerifiedRun | None:
    """The compared pairs of test and index with their features, where there are any."""
    import pandas as pd

    from pipeline.features.local_store import LocalStore
    from pipeline.report.local_report import VerifiedRun

    config = context.config
    if "index" not in config.verified_splits:
        return None
    pairs = pd.read_parquet(context.input(VERIFIED))
    queries, base = (LocalStore(context.input(f"07_extract_local/{config.local_model}/{s}")) for s in ("test", "index"))
    return VerifiedRun(pairs, queries, base, index[["width", "height"]].max(axis=1).to_numpy(), config.verify)


def count_cleaned(context: Context) -> dict[str, int]:
    """How many train photographs the cleaning kept and dropped."""
    manifest = read_manifest(context.input(CLEANED))
    return {name: manifest.facts[name] for name in ("kept", "dropped", "landmarks")} if manifest else {}


def collect_step_seconds(context: Context) -> dict[str, list[float]]:
    """How long each step of each recipe took."""
    manifests = {
        name: read_manifest(context.input(f"10_rerank_retrieval/{name}")) for name in context.config.rerank.recipes
    }
    return {name: manifest.facts["step_seconds"] for name, manifest in manifests.items() if manifest}


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
