"""The tasks that train the final network of a model: once, or several times for the mean of the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import training_key
from pipeline.tasks.inputs import explain_restored, open_split, split_references
from pipeline.tasks.train_labels import corrects_labels, read_labels

UNUSED = {"base", "weight", "weights", "checkpoint", "descriptors", "train"}  # by phase 2


def final_tasks(config: Config, name: str) -> list[Task]:
    """The training of the final network; or several, each an artifact of its own, and their mean."""
    trainings = layout.final_trainings(name, config.models[name].averaged_trainings)
    settings = training_key(config, config.models[name], "final", UNUSED)
    tasks = [_training_task(one, config, name, number, settings) for number, one in enumerate(trainings)]
    if len(trainings) == 1:
        return tasks
    return [*tasks, Task(layout.final_network(name), partial(average, name=name), settings, tuple(trainings))]


def _training_task(artifact: str, config: Config, name: str, number: int, settings: dict[str, Any]) -> Task:
    listed = (layout.CORRECTED_IDS, layout.CORRECTED_LABELS) if corrects_labels(config) else (layout.CLEAN_IDS,)
    return Task(
        artifact,
        partial(train_final, name=name, number=number),
        settings | ({"training": number} if number else {}),
        (layout.base_network(name), *split_references("train"), *listed),
        saves_on_stop=True,
        doubt=partial(explain_restored, config=config),
        shared=True,
    )


def train_final(task: TaskContext, config: Config, name: str, number: int) -> None:
    """Write weights.safetensors, network.json, history.csv and rejected.csv. Each training draws other numbers."""
    from dataclasses import replace

    from pipeline.competition.train_clean import read_clean_ids
    from pipeline.device import choose_device
    from pipeline.network.checkpoint import load_network
    from pipeline.network.training import train_and_save
    from pipeline.network.training_set import TrainingSet
    from pipeline.network.training_state import TrainingSetup
    from pipeline.seeds import derive_seed

    model, split = config.models[name], open_split(task, config, "train")
    clean = read_clean_ids(task.input(layout.CORRECTED_IDS if corrects_labels(config) else layout.CLEAN_IDS))
    split = replace(split, table=split.table.assign(landmark=read_labels(task, config)))
    kept = replace(split, table=split.table[split.table["id"].isin(clean)]) if clean else split
    log.info("%s: %d of %d photographs (%s)", name, len(kept), len(split), "clean list" if clean else "no clean list")
    seed = derive_seed(config.seed, "training", number) if number else config.seed
    setup = TrainingSetup(model, model.final, seed, choose_device(config.runtime.device), config.runtime.compile)
    start = load_network(task.input(layout.base_network(name)), model)
    train_and_save(task, setup, TrainingSet.from_split(kept), start)


def average(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors and network.json of the mean of all trainings."""
    from pipeline.network.checkpoint import load_network, save_network
    from pipeline.network.weight_average import average_networks

    model = config.models[name]
    trainings = layout.final_trainings(name, model.averaged_trainings)
    save_network(task.folder, average_networks([load_network(task.input(one), model) for one in trainings]))
