"""Stage 02: the networks of phase 1, trained on the whole, noisy train set, copied from another run, or untrained."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from pipeline import layout
from pipeline.artifacts import digest_files
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import training_key
from pipeline.tasks.inputs import explain_restored, open_split, split_references
from pipeline.weights_folder import list_weights_files


def tasks(config: Config) -> list[Task]:
    """One artifact per network."""
    return [training_task(config, name) for name in config.networks]


def training_task(config: Config, name: str) -> Task:
    """The base network of one model."""
    artifact, model = layout.base_network(name), config.models[name]
    if model.checkpoint is not None:
        digests = partial(digest_files, *list_checkpoint(model.checkpoint))
        return Task(artifact, partial(copy, name=name), model.architecture_settings, (), digests)
    weights = partial(digest_files, *list_weights_files(model.weights_path)) if model.weights_path else dict
    if not model.train:
        settings = model.untrained_settings | {"seed": config.seed}
        return Task(artifact, partial(write_untrained, name=name), settings, (), weights)
    settings = training_key(config, model, "base", {"final", "weight", "checkpoint", "descriptors", "train"})
    work = partial(train_base, name=name)
    doubt = partial(explain_restored, config=config)
    return Task(
        artifact, work, settings, split_references("train"), weights, saves_on_stop=True, doubt=doubt, shared=True
    )


def list_checkpoint(folder: Path) -> list[Path]:
    """The files of a given network, saved by a run or exported."""
    exported, saved = ([folder / file for file in files] for files in (layout.EXPORTED_FILES, layout.NETWORK_FILES))
    return exported if exported[-1].is_file() and not saved[-1].exists() else saved


def copy(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors and network.json of the given checkpoint."""
    from pipeline.network.checkpoint import copy_checkpoint

    model = config.models[name]
    assert model.checkpoint is not None
    copy_checkpoint(model.checkpoint, task.folder, model)


def write_untrained(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors and network.json of the backbone as it is."""
    from pipeline.network.checkpoint import save_network
    from pipeline.network.landmark_network import build_untrained_network

    save_network(task.folder, build_untrained_network(config.models[name], config.seed))


def train_base(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors, network.json, history.csv and rejected.csv."""
    from pipeline.device import choose_device
    from pipeline.network.training import train_and_save
    from pipeline.network.training_set import TrainingSet
    from pipeline.network.training_state import TrainingSetup

    model = config.models[name]
    setup = TrainingSetup(model, model.base, config.seed, choose_device(config.runtime.device), config.runtime.compile)
    train_and_save(task, setup, TrainingSet.from_split(open_split(task, config, "train")))


STAGE = Stage(layout.TRAIN_BASE, version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
