"""Stage 05: the global descriptors of train, index and test, and of non-landmarks where asked for, by every model."""

from __future__ import annotations

import sys
from functools import partial

from pipeline.config import Config
from pipeline.runner import Context, Stage, Task, main


def tasks(config: Config) -> list[Task]:
    """One artifact a model and split: new test photographs leave the train descriptors alone."""
    return [plan(config, name, split) for name in config.models for split in config.splits]


def plan(config: Config, name: str, split: str) -> Task:
    """The descriptors of one split by one model."""
    settings = config.extract.descriptor_settings
    inputs = (f"04_train_final/{name}", f"01_prepare_data:{split}.parquet")
    work = partial(extract_global, name=name, split=split)
    return Task(f"05_extract_global/{name}/{split}", work, settings, inputs, saves_on_stop=True)


def extract_global(context: Context, name: str, split: str) -> None:
    """Write descriptors.npy, (N, D) float32, rows as in 01."""
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.features.global_descriptors import describe_split
    from pipeline.network.checkpoint import load_network

    config = context.config
    table = pd.read_parquet(context.input(f"01_prepare_data:{split}.parquet"))
    device = choose_device(config.runtime.device)
    network = load_network(context.input(f"04_train_final/{name}"), config.models[name]).embedding.to(device)
    describe_split(context, network, table, config.data.root, config.extract, device)
    context.facts["rows"] = len(table)


STAGE = Stage("05_extract_global", version=2, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
