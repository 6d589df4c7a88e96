"""Stage 04: the networks of phase 2. They start from stage 02 and train on the clean list, where there is one."""

from __future__ import annotations

import sys
from functools import partial

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.task_context import TaskContext
from pipeline.tasks.final_training import final_tasks


def tasks(config: Config) -> list[Task]:
    """One network per model, and the trainings that it is the mean of."""
    return [task for name in config.networks for task in network_tasks(config, name)]


def network_tasks(config: Config, name: str) -> list[Task]:
    """Those of one model; a network that this run does not train is copied."""
    model = config.models[name]
    if model.is_trained_here:
        return final_tasks(config, name)
    artifact, start = layout.final_network(name), layout.base_network(name)
    return [Task(artifact, partial(copy, name=name), model.architecture_settings, (start,))]


def copy(task: TaskContext, config: Config, name: str) -> None:
    """Write weights.safetensors and network.json of stage 02 unchanged."""
    from pipeline.network.checkpoint import copy_checkpoint

    copy_checkpoint(task.input(layout.base_network(name)), task.folder, config.models[name])


STAGE = Stage(layout.TRAIN_FINAL, version=3, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
