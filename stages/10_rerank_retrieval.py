"""Stage 10: the ranking of every test photograph after each step of the recipe, and of its rivals."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main

if TYPE_CHECKING:
    from pipeline.ranking.voting import Votes

PAIRS = "08_verify_matches/test_index:pairs.parquet"


def tasks(config: Config) -> list[Task]:
    """One artifact a recipe; the submission's own is called recipe."""
    return [plan(config, name, steps) for name, steps in config.rerank.recipes.items()]


def plan(config: Config, name: str, steps: Sequence[str]) -> Task:
    """The ranking by one recipe."""
    settings = {"steps": list(steps), "rerank": config.rerank.model_dump(exclude={"recipe", "rivals"})}
    inputs = ["06_build_knn/test_index", "09_predict_landmarks:index.parquet", "09_predict_landmarks:test.parquet"]
    if "verify" in steps:
        settings["verify"] = config.verify.model_dump(include={"index_k", "min_inliers"})
        inputs.append(PAIRS)
    return Task(f"10_rerank_retrieval/{name}", partial(rerank, steps=steps), settings, tuple(inputs))


def rerank(context: Context, steps: Sequence[str]) -> None:
    """Write <place>_<step>.rows.npy and .scores.npy, (Q, top_k) each, for every step."""
    import numpy as np

    from pipeline.matching.pair_table import PairTable
    from pipeline.ranking.ranking import Ranking
    from pipeline.ranking.recipe import Evidence, run_recipe

    found = context.input("06_build_knn/test_index")
    query_votes, index_votes = (read_votes(context, split) for split in ("test", "index"))
    neighbours = Ranking(np.load(found / "rows.npy"), np.load(found / "similarities.npy"), len(index_votes.labels))
    settings, verify = context.config.rerank, context.config.verify
    pairs = PairTable.read(context.input(PAIRS)) if "verify" in steps else None
    evidence = Evidence(
        query_votes, index_votes, settings.min_confidence, settings.top_k, pairs, verify.index_k, verify.min_inliers
    )
    for place, (step, ranking) in enumerate(run_recipe(steps, neighbours, evidence)):
        np.save(context.folder / f"{place}_{step}.rows.npy", ranking.rows)
        np.save(context.folder / f"{place}_{step}.scores.npy", ranking.scores)
    context.facts |= {"queries": len(ranking), "images_listed": int(ranking.lengths.sum())}
    log.info("%s: %d queries, %d images listed", " > ".join(steps), len(ranking), ranking.lengths.sum())


def read_votes(context: Context, split: str) -> Votes:
    """The landmarks and confidences that stage 09 gave to a split."""
    import pandas as pd

    from pipeline.ranking.voting import Votes

    table = pd.read_parquet(context.input(f"09_predict_landmarks:{split}.parquet"))
    return Votes(table["labels"].to_numpy(), table["confidences"].to_numpy())


STAGE = Stage("10_rerank_retrieval", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
