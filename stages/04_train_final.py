"""Stage 04: the networks of phase 2. They start from stage 02 and train on the clean list, when there is one.

Those that were trained elsewhere pass through.
"""

from __future__ import annotations

import sys
from functools import partial

from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main


def tasks(config: Config) -> list[Task]:
    """One artifact a model."""
    return [plan(config, name) for name in config.models]


def plan(config: Config, name: str) -> Task:
    """The final network of one model."""
    model = config.models[name]
    if model.checkpoint is not None:
        work = partial(pass_on, name=name)
        return Task(f"04_train_final/{name}", work, model.architecture_settings, (f"02_train_base/{name}",))
    settings = {"model": model.model_dump(exclude={"base", "weight", "weights", "checkpoint"}), "seed": config.seed}
    inputs = (f"02_train_base/{name}", "01_prepare_data:train.parquet", "03_clean_train_set/list:train_clean.csv")
    return Task(f"04_train_final/{name}", partial(train_final, name=name), settings, inputs, saves_on_stop=True)


def pass_on(context: Context, name: str) -> None:
    """Write weights.safetensors and network.json as they are in stage 02."""
    from pipeline.network.checkpoint import copy_network

    copy_network(context.input(f"02_train_base/{name}"), context.folder, context.config.models[name])


def train_final(context: Context, name: str) -> None:
    """Write weights.safetensors, network.json and history.csv."""
    import pandas as pd

    from pipeline.competition.tables import read_clean_ids
    from pipeline.device import choose_device
    from pipeline.network.checkpoint import load_network
    from pipeline.network.training import train_and_save
    from pipeline.network.training_set import TrainingSet

    config, model = context.config, context.config.models[name]
    table = pd.read_parquet(context.input("01_prepare_data:train.parquet"))
    clean = read_clean_ids(context.input("03_clean_train_set/list:train_clean.csv"))
    kept = table[table["id"].isin(clean)] if clean else table
    log.info("%s: %d of %d photographs (%s)", name, len(kept), len(table), "clean list" if clean else "no clean list")
    photographs = TrainingSet.from_table(kept, config.data.root)
    start = load_network(context.input(f"02_train_base/{name}"), model)
    train_and_save(context, model, model.final, photographs, config.seed, choose_device(config.runtime.device), start)


STAGE = Stage("04_train_final", version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
