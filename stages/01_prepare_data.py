"""Stage 01: which photographs there are.

Renders the demo world first when the data is one. Reads the organisers' tables, or a benchmark's judgements, inspects
every file, and writes one table per split; files that are no photographs go to rejected.csv with the reason.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext


def tasks(config: Config) -> list[Task]:
    """The demo world, when the data is one, and the tables of what there is."""
    root, settings = config.data.root.absolute(), config.data.prepare_settings
    settings |= {"non_landmarks": True} if config.recognition.non_landmarks else {}
    if config.data.source != "demo":
        return [Task(layout.PREPARE, prepare, settings, external=lambda: list_data(config), saves_on_stop=True)]
    demo = {"demo": config.demo.world_settings, "seed": config.seed}
    tables = Task(layout.PREPARE, prepare, settings, inputs=(str(root),), saves_on_stop=True)
    return [Task(str(root), render, demo), tables]


def list_data(config: Config) -> dict[str, Path]:
    """The tables, and the folders of photographs."""
    from pipeline.competition.sources import list_sources

    return list_sources(config.data, config.splits)


def render(task: TaskContext, config: Config) -> None:
    """Render the demo world."""
    from pipeline.demo_world.world import plan_demo_world, write_demo_world

    plan = plan_demo_world(config.demo, config.seed)
    with task.progress(len(plan.photographs), "photographs") as bar:
        write_demo_world(plan, task.folder, task.workers, lambda done: bar.update(done - bar.n))


def prepare(task: TaskContext, config: Config) -> None:
    """Write a table per split (train.parquet …), train_clean.csv, landmarks.csv, rejected.csv; judgements, if any."""
    import pandas as pd

    from pipeline.competition.archives import check_archives
    from pipeline.competition.judgement_table import write_kept_judgements
    from pipeline.competition.listing import write_photograph_digests
    from pipeline.competition.sources import read_source
    from pipeline.competition.train_clean import write_clean_list
    from pipeline.images.survey import survey_splits

    root = config.data.root.absolute()
    if config.data.check_archives:
        log.info("%d archives agree with their MD5 lists", check_archives(task, root))
    dataset, setups = read_source(config.data, config.splits)
    tables = survey_splits(task, root, dataset.splits, config.data)
    for name, (good, bad) in tables.items():
        good.to_parquet(task.folder / f"{name}.parquet", index=False)
        if config.data.photographs:
            write_photograph_digests(task.folder / f"{name}.sha256", root, good)
        task.facts[name] = {"photographs": len(good), "rejected": len(bad)}
        log.info("%s: %d photographs, %d rejected", name, len(good), len(bad))
    train = tables["train"][0]
    task.facts["train"]["landmarks"] = int(train["landmark"].nunique())
    write_clean_list(task.folder / "train_clean.csv", dataset.clean_list, set(train["id"]))
    landmarks = pd.DataFrame(dataset.landmark_names.items(), columns=["landmark_id", "name"])
    landmarks.to_csv(task.folder / "landmarks.csv", index=False)
    write_kept_judgements(task.folder, setups, dataset, {bad_id for _, bad in tables.values() for bad_id in bad["id"]})


STAGE = Stage(layout.PREPARE, version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
