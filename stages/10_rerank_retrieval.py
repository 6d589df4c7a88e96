"""Stage 10: the ranking of every test photograph after each step of the recipe, and of its baselines.

A benchmark is ranked once per setup, because each has other junk, which is removed before anything is re-ranked.
"""

from __future__ import annotations

import sys
from functools import partial

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.evidence import evidence_references, evidence_settings, open_search, read_evidence
from pipeline.tasks.hardware import device_key
from pipeline.tasks.inputs import junk_references, read_images, read_junk, read_neighbours


def tasks(config: Config) -> list[Task]:
    """One artifact per recipe; the submission's own is called recipe."""
    return [recipe_task(config, name) for name in config.rerank.recipes]


def recipe_task(config: Config, name: str) -> Task:
    """The rankings of one recipe."""
    recipe = config.rerank.recipes[name]
    needs = config.rerank.needs(recipe)
    inputs = [layout.neighbours("test", "index"), layout.images("index")]
    inputs += [*evidence_references(config, needs), *junk_references(config)]
    settings = config.rerank.key_settings(recipe) | evidence_settings(config, needs) | device_key(config)
    return Task(layout.ranking(name), partial(rerank, name=name), settings, tuple(dict.fromkeys(inputs)))


def rerank(task: TaskContext, config: Config, name: str) -> None:
    """Write <position>_<step>.rows.npy and .scores.npy, (Q, top_k) each, per step; in a folder per setup, if any."""
    import numpy as np

    from pipeline.ranking.evidence import Junk
    from pipeline.ranking.ranking import Ranking
    from pipeline.ranking.recipe import State, run_recipe

    recipe, near = config.rerank.recipes[name], read_neighbours(task, "test", "index")
    evidence = read_evidence(task, config, config.rerank.needs(recipe))
    neighbours = Ranking(near.rows, near.similarities, len(read_images(task, "index")))
    search = open_search(task, config, config.rerank.needs(recipe))
    seconds = [0.0] * len(recipe)
    for setup, junk in read_junk(task, config, len(neighbours)).items():
        folder, start = task.folder / setup, State(neighbours, evidence.replace(Junk(junk)))
        folder.mkdir(exist_ok=True)
        for position, (step, ranking, taken) in enumerate(run_recipe(recipe, start, config.rerank, search)):
            np.save(folder / f"{position}_{step}.rows.npy", ranking.rows)
            np.save(folder / f"{position}_{step}.scores.npy", ranking.scores)
            seconds[position] = round(seconds[position] + taken, 3)
    task.facts |= {"queries": len(ranking), "images_listed": int(ranking.lengths.sum()), "step_seconds": seconds}
    log.info("%s: %d queries, %d images listed", " > ".join(recipe), len(ranking), ranking.lengths.sum())


STAGE = Stage(layout.RERANK, version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
