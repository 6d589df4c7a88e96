"""Stage 03: the clean train set: photographs that share a surface with others of their landmark, or the given list."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.competition.tables import has_clean_list
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main

NAME, TRAIN = "03_clean_train_set", "01_prepare_data:train.parquet"
NEAR, PAIRS = f"{NAME}/neighbours:neighbours.npy", f"{NAME}/pairs:pairs.parquet"
GIVEN = "01_prepare_data:train_clean.csv"


def tasks(config: Config) -> list[Task]:
    """The list; before it, where it is made here, descriptors, neighbours, local features and their comparison."""
    source, clean, base = choose_source(config), config.clean, f"02_train_base/{config.local_model}"
    if source != "verify":
        return [Task(f"{NAME}/list", pass_on, {"source": source}, (GIVEN, TRAIN))]
    described = config.extract.descriptor_settings
    local, threshold = config.local.feature_settings, config.local.threshold_settings | {"seed": config.seed}
    nearest, kept = clean.model_dump(include={"nearest", "candidates"}), clean.kept_settings
    return [
        Task(f"{NAME}/global", extract_global, described, (base, TRAIN), saves_on_stop=True),
        Task(f"{NAME}/neighbours", pick_candidates, nearest, (f"{NAME}/global", TRAIN), saves_on_stop=True),
        Task(f"{NAME}/threshold", calibrate, threshold, (base, TRAIN)),
        Task(f"{NAME}/local", extract_local, local, (base, f"{NAME}/threshold", NEAR, TRAIN), saves_on_stop=True),
        Task(f"{NAME}/pairs", compare, config.verify.pair_settings, (f"{NAME}/local", NEAR, TRAIN), saves_on_stop=True),
        Task(f"{NAME}/list", write_list, {"source": source} | kept, (PAIRS, TRAIN)),
    ]


def choose_source(config: Config) -> str:
    """Where the clean list comes from: "given", "verify" or "none"."""
    if config.clean.source != "auto":
        return config.clean.source
    if config.data.clean_root is not None and has_clean_list(config.data.clean_root, config.data.source):
        return "given"
    trains = any(model.checkpoint is None for model in config.models.values())  # else nothing would learn from the list
    return "verify" if trains and config.local_model else "none"


def open_train(context: Context) -> tuple[Any, Any, Any]:
    """The table of train, the base network whose local features are compared, and the device."""
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.network.checkpoint import load_network

    config, name = context.config, context.config.local_model
    network = load_network(context.input(f"02_train_base/{name}"), config.models[name])
    return pd.read_parquet(context.input(TRAIN)), network, choose_device(config.runtime.device)


def extract_global(context: Context) -> None:
    """Write descriptors.npy, (N, D) float32, by the base network."""
    from pipeline.features.global_descriptors import describe_split

    (table, network, device), config = open_train(context), context.config
    describe_split(context, network.embedding.to(device), table, config.data.root, config.extract, device)


def pick_candidates(context: Context) -> None:
    """Write neighbours.npy, (N, candidates) int32: the nearest of the same landmark."""
    import numpy as np

    from pipeline.matching.clean_list import find_candidates

    table, _, device = open_train(context)
    descriptors = np.load(context.input(f"{NAME}/global") / "descriptors.npy", mmap_mode="r")
    find_candidates(context, descriptors, table["landmark"].to_numpy(), context.config.clean, device)


def calibrate(context: Context) -> None:
    """Write threshold.json: the attention that a feature has to exceed."""
    from pipeline.features.local_features import LocalNetwork, calibrate_split

    (table, network, device), config = open_train(context), context.config
    calibrate_split(context, LocalNetwork(network), table, config.data.root, config.local, config.seed, device)


def extract_local(context: Context) -> None:
    """Write the store of local features of the photographs that have candidates or are one."""
    import numpy as np

    from pipeline.features.local_features import LocalNetwork, extract_split

    (table, network, device), config = open_train(context), context.config
    near, threshold = np.load(context.input(NEAR)), context.input(f"{NAME}/threshold")
    wanted = (near >= 0).any(axis=1) | np.isin(np.arange(len(table)), near)
    extract_split(context, LocalNetwork(network), table, wanted, config.data.root, config.local, threshold, device)


def compare(context: Context) -> None:
    """Write pairs.parquet: query row, split, row, matches, inliers."""
    import numpy as np

    from pipeline.features.local_store import LocalStore
    from pipeline.matching.cleaning import list_pairs
    from pipeline.matching.pair_table import verify_split

    table, _, device = open_train(context)
    store, pairs = LocalStore(context.input(f"{NAME}/local")), list_pairs(np.load(context.input(NEAR)))
    sides = table[["width", "height"]].max(axis=1).to_numpy()
    verify_split(context, store, store, pairs, sides, "train", context.config.verify, device)


def write_list(context: Context) -> None:
    """Write train_clean.csv, and support.parquet: how many others agree with each photograph, and whether it stays."""
    import pandas as pd

    from pipeline.matching.clean_list import make_clean_list

    pairs, train = (pd.read_parquet(context.input(name)) for name in (PAIRS, TRAIN))
    context.facts |= make_clean_list(context.folder, train, pairs, context.config.clean)
    log.info("clean list: %(kept)d photographs of %(landmarks)d landmarks stay, %(dropped)d go", context.facts)


def pass_on(context: Context) -> None:
    """Write train_clean.csv: the list that came with the data, or none."""
    import pandas as pd

    from pipeline.matching.clean_list import pass_clean_list_on

    train, source = pd.read_parquet(context.input(TRAIN)), choose_source(context.config)
    context.facts |= pass_clean_list_on(context.folder, context.input(GIVEN), train, source)


STAGE = Stage("03_clean_train_set", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
