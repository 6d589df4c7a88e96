"""Stage 04: the networks of phase 2. They start from stage 02 and train on the clean list, where there is one."""

from __future__ import annotations

import sys
from functools import partial

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import training_key
from pipeline.tasks.inputs import explain_restored, open_split, split_references
from pipeline.tasks.train_labels import corrects_labels, read_labels


def tasks(config: Config) -> list[Task]:
    """One artifact per network."""
    return [training_task(config, name) for name in config.networks]


def training_task(config: Config, name: str) -> Task:
    """The final network of one model."""
    artifact, start, model = layout.final_network(name), layout.base_network(name), config.models[name]
    if not model.is_trained_here:
        return Task(artifact, partial(copy, name=name), model.architecture_settings, (start,))
    unused = {"base", "weight", "weights", "checkpoint", "descriptors", "train"}
    settings = training_key(config, model, "final", unused)
    listed = (layout.CORRECTED_IDS, layout.CORRECTED_LABELS) if corrects_labels(config) else (layout.CLEAN_IDS,)
    inputs = (start, *split_references("train"), *listed)
    work, doubt = partial(train_final, name=name), partial(explain_restored, config=config)
    return Task(artifact, work, settings, inputs, saves_on_stop=True, doubt=doubt, shared=True)


def copy(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors and network.json of stage 02 unchanged."""
    from pipeline.network.checkpoint import copy_checkpoint

    copy_checkpoint(task.input(layout.base_network(name)), task.folder, config.models[name])


def train_final(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors, network.json, history.csv and rejected.csv."""
    from dataclasses import replace

    from pipeline.competition.train_clean import read_clean_ids
    from pipeline.device import choose_device
    from pipeline.network.checkpoint import load_network
    from pipeline.network.training import train_and_save
    from pipeline.network.training_set import TrainingSet
    from pipeline.network.training_state import TrainingSetup

    model, split = config.models[name], open_split(task, config, "train")
    clean = read_clean_ids(task.input(layout.CORRECTED_IDS if corrects_labels(config) else layout.CLEAN_IDS))
    split = replace(split, table=split.table.assign(landmark=read_labels(task, config)))
    kept = replace(split, table=split.table[split.table["id"].isin(clean)]) if clean else split
    log.info("%s: %d of %d photographs (%s)", name, len(kept), len(split), "clean list" if clean else "no clean list")
    setup = TrainingSetup(model, model.final, config.seed, choose_device(config.runtime.device), config.runtime.compile)
    start = load_network(task.input(layout.base_network(name)), model)
    train_and_save(task, setup, TrainingSet.from_split(kept), start)


STAGE = Stage(layout.TRAIN_FINAL, version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
