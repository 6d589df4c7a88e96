"""Stage 02: the networks of phase 1, trained on the whole train set, wrong labels and all; or those of another run."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from pipeline.artifacts import digest_file
from pipeline.config import Config
from pipeline.runner import Context, Stage, Task, main


def tasks(config: Config) -> list[Task]:
    """One artifact a model."""
    return [plan(config, name) for name in config.models]


def plan(config: Config, name: str) -> Task:
    """The base network of one model."""
    model = config.models[name]
    if model.checkpoint is not None:
        settings, files = model.architecture_settings, partial(digest_network, model.checkpoint)
        return Task(f"02_train_base/{name}", partial(take_over, name=name), settings, (), files)
    settings = {"model": model.model_dump(exclude={"final", "weight", "checkpoint"}), "seed": config.seed}
    weights = partial(digest_file, model.weights_file) if model.weights_file else dict
    inputs = ("01_prepare_data:train.parquet",)
    return Task(f"02_train_base/{name}", partial(train_base, name=name), settings, inputs, weights, saves_on_stop=True)


def digest_network(folder: Path) -> dict[str, str]:
    """The digests of a network trained elsewhere."""
    return digest_file(folder / "weights.safetensors") | digest_file(folder / "network.json")


def take_over(context: Context, name: str) -> None:
    """Write weights.safetensors and network.json of the network trained elsewhere."""
    from pipeline.network.checkpoint import copy_network

    model = context.config.models[name]
    assert model.checkpoint is not None
    copy_network(model.checkpoint, context.folder, model)


def train_base(context: Context, name: str) -> None:
    """Write weights.safetensors, network.json and history.csv."""
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.network.training import train_and_save
    from pipeline.network.training_set import TrainingSet

    config, model = context.config, context.config.models[name]
    table = pd.read_parquet(context.input("01_prepare_data:train.parquet"))
    photographs = TrainingSet.from_table(table, config.data.root)
    train_and_save(context, model, model.base, photographs, config.seed, choose_device(config.runtime.device))


STAGE = Stage("02_train_base", version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
