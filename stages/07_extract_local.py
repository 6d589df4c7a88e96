"""Stage 07: the local features of the photographs that stage 08 compares."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from pipeline.config import Config
from pipeline.runner import Context, Stage, Task, main


def tasks(config: Config) -> list[Task]:
    """The threshold of attention, and one artifact a split; nothing when nothing is compared."""
    splits = config.verified_splits
    if not splits:
        return []
    inputs = (f"04_train_final/{config.local_model}", calibration_table(config))
    settings = {"local": config.local.threshold_settings, "seed": config.seed}
    threshold = Task(f"07_extract_local/{config.local_model}/threshold", calibrate, settings, inputs)
    return [threshold, *(plan(config, split) for split in (*splits, "test"))]


def plan(config: Config, split: str) -> Task:
    """The features of one split."""
    name = config.local_model
    settings: dict[str, Any] = {"local": config.local.feature_settings}
    inputs = [f"04_train_final/{name}", f"07_extract_local/{name}/threshold", f"01_prepare_data:{split}.parquet"]
    if split != "test":  # of test all photographs are compared
        settings["first"] = config.verify.first(split)
        inputs.append(f"06_build_knn/test_{split}:rows.npy")
    if split == "index" and config.data.is_benchmark:
        inputs.append("01_prepare_data:judgements.parquet")
    work = partial(extract_local, split=split)
    return Task(f"07_extract_local/{name}/{split}", work, settings, tuple(inputs), saves_on_stop=True)


def calibration_table(config: Config) -> str:
    """The photographs on which the threshold is found: of train, or of the database where there is no train set."""
    return f"01_prepare_data:{'train' if config.data.has_train else 'index'}.parquet"


def calibrate(context: Context) -> None:
    """Write threshold.json: the attention that a feature has to exceed."""
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.features.local_features import LocalNetwork, calibrate_split
    from pipeline.network.checkpoint import load_network

    config, name = context.config, context.config.local_model
    known = pd.read_parquet(context.input(calibration_table(config)))
    network = LocalNetwork(load_network(context.input(f"04_train_final/{name}"), config.models[name]))
    device = choose_device(config.runtime.device)
    calibrate_split(context, network, known, config.data.root, config.local, config.seed, device)


def extract_local(context: Context, split: str) -> None:
    """Write the store of local features of a split: of those photographs alone that are compared."""
    import numpy as np
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.features.local_features import LocalNetwork, extract_split
    from pipeline.matching.pair_table import read_compared
    from pipeline.network.checkpoint import load_network

    config, name = context.config, context.config.local_model
    table = pd.read_parquet(context.input(f"01_prepare_data:{split}.parquet"))
    wanted = np.ones(len(table), np.bool_)
    if split != "test":
        wanted = np.isin(np.arange(len(table)), read_compared(context.input, config, split)[:, 1])
    network = LocalNetwork(load_network(context.input(f"04_train_final/{name}"), config.models[name]))
    threshold = context.input(f"07_extract_local/{name}/threshold")
    device = choose_device(config.runtime.device)
    extract_split(context, network, table, wanted, config.data.root, config.local, threshold, device)
    context.facts |= {"rows": len(table), "photographs": int(wanted.sum())}


STAGE = Stage("07_extract_local", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
