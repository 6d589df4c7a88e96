"""Stage 10: the ranking of every test photograph after each step of the recipe, and of its baselines.

A benchmark is ranked once a setup, because each has other junk, which is out before anything is re-ranked.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from pipeline.config import Config
from pipeline.console import log
from pipeline.features.searched import name_descriptors
from pipeline.runner import Context, Stage, Task, main
from pipeline.steps import NEEDS_DESCRIPTORS, NEEDS_GRAPH, NEEDS_TRAIN_NEIGHBOURS, Step


def tasks(config: Config) -> list[Task]:
    """One artifact a recipe; the submission's own is called recipe."""
    return [plan(config, name, steps) for name, steps in config.rerank.recipes.items()]


def plan(config: Config, name: str, steps: list[Step]) -> Task:
    """The ranking by one recipe."""
    settings: dict[str, Any] = {"steps": steps, "rerank": config.rerank.settings_of(steps)}
    inputs = ["06_build_knn/test_index", "09_predict_landmarks:index.parquet", "09_predict_landmarks:test.parquet"]
    if config.data.is_benchmark:
        inputs.append("01_prepare_data:judgements.parquet")
    if "verify" in steps:
        settings["verify"] = config.verify.model_dump(include={"index_k", "min_inliers"})
        inputs.append("08_verify_matches/test_index:pairs.parquet")
    if any(step in NEEDS_GRAPH for step in steps):
        inputs.append("06_build_knn/index_index")
    if any(step in NEEDS_DESCRIPTORS for step in steps):
        settings["weights"] = {model: config.models[model].weight for model in config.models}
        inputs += [name for split in ("test", "index") for name in name_descriptors(config, split)]
    if any(step in NEEDS_TRAIN_NEIGHBOURS for step in steps):
        inputs += [*(f"06_build_knn/{split}_train" for split in ("test", "index")), "01_prepare_data:train.parquet"]
    return Task(f"10_rerank_retrieval/{name}", partial(rerank, steps=steps), settings, tuple(inputs))


def rerank(context: Context, steps: list[Step]) -> None:
    """Write <place>_<step>.rows.npy and .scores.npy, (Q, top_k) each, for every step; in a folder a setup, if any."""
    from dataclasses import replace

    import numpy as np

    from pipeline.device import choose_device
    from pipeline.ranking.evidence import read_evidence, read_ranking, read_setups
    from pipeline.ranking.recipe import run_recipe

    device = choose_device(context.config.runtime.device)
    evidence = read_evidence(context.input, context.config, steps, None if device.type == "cpu" else str(device))
    neighbours = read_ranking(context.input, len(evidence.index_votes.labels))
    seconds = [0.0] * len(steps)
    for setup, junk in read_setups(context.input, context.config, len(neighbours)).items():
        folder = context.folder / setup
        folder.mkdir(exist_ok=True)
        for place, done in enumerate(run_recipe(steps, neighbours, replace(evidence, junk=junk))):
            ranking = done.ranking
            np.save(folder / f"{place}_{done.step}.rows.npy", ranking.rows)
            np.save(folder / f"{place}_{done.step}.scores.npy", ranking.scores)
            seconds[place] = round(seconds[place] + done.seconds, 3)
    context.facts |= {"queries": len(ranking), "images_listed": int(ranking.lengths.sum()), "step_seconds": seconds}
    log.info("%s: %d queries, %d images listed", " > ".join(steps), len(ranking), ranking.lengths.sum())


STAGE = Stage("10_rerank_retrieval", version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
