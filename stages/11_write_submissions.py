"""Stage 11: the two files to hand in, held against the competition's rules. Of a benchmark nothing is handed in."""

from __future__ import annotations

import sys

from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main


def tasks(config: Config) -> list[Task]:
    """One artifact; none when the data is a benchmark."""
    if config.data.is_benchmark:
        return []
    inputs = (
        "10_rerank_retrieval/recipe",
        "09_predict_landmarks:recognition.parquet",
        *(f"01_prepare_data:{name}" for name in ("train.parquet", "index.parquet", "test.parquet", "rejected.csv")),
    )
    settings = {"submit": config.submit.model_dump(), "last_step": last_step(config)}
    return [Task("11_write_submissions", write_submissions, settings, inputs)]


def last_step(config: Config) -> str:
    """The file name of the last step of the recipe."""
    return f"{len(config.rerank.recipe) - 1}_{config.rerank.recipe[-1]}"


def write_submissions(context: Context) -> None:
    """Write retrieval.csv and recognition.csv; a rejected test photograph gets its row too, empty."""
    import numpy as np
    import pandas as pd

    from pipeline.competition.submission import (
        validate_recognition,
        validate_retrieval,
        write_recognition,
        write_retrieval,
    )

    tables = {
        name: pd.read_parquet(context.input(f"01_prepare_data:{name}.parquet")) for name in ("train", "index", "test")
    }
    rejected = pd.read_csv(context.input("01_prepare_data:rejected.csv"), dtype=str, keep_default_na=False)
    missing = rejected.loc[rejected["split"] == "test", "id"].tolist()
    test_ids, index_ids = tables["test"]["id"].tolist() + missing, tables["index"]["id"].tolist()
    rows = np.load(context.input("10_rerank_retrieval/recipe") / f"{last_step(context.config)}.rows.npy")
    answers = pd.read_parquet(context.input("09_predict_landmarks:recognition.parquet"))
    labels, scores = answers["labels"].to_numpy(), answers["scores"].to_numpy()

    suffix = ".csv.gz" if context.config.submit.gzip else ".csv"
    retrieval, recognition = (context.folder / f"{name}{suffix}" for name in ("retrieval", "recognition"))
    write_retrieval(retrieval, test_ids, np.pad(rows, ((0, len(missing)), (0, 0)), constant_values=-1), index_ids)
    filled = np.pad(labels, (0, len(missing)), constant_values=-1), np.pad(scores, (0, len(missing)))
    write_recognition(recognition, test_ids, *filled)
    validate_retrieval(retrieval, test_ids, index_ids)
    validate_recognition(recognition, test_ids, set(tables["train"]["landmark"].tolist()))
    context.facts |= {
        "test_photographs": len(test_ids),
        "rejected": len(missing),
        "recognised": int((labels >= 0).sum()),
    }
    log.info("%d rows in each of %s and %s", len(test_ids), retrieval.name, recognition.name)


STAGE = Stage("11_write_submissions", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
