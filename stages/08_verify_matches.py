"""Stage 08: how many local features of a test photograph and of each of its nearest neighbours agree on one surface."""

from __future__ import annotations

import sys
from functools import partial

from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main


def tasks(config: Config) -> list[Task]:
    """One artifact a split that test is compared with."""
    return [plan(config, split) for split in config.verified_splits]


def plan(config: Config, split: str) -> Task:
    """The comparisons of test with one split."""
    settings = {"first": config.verify.first(split), "verify": config.verify.pair_settings}
    judged = ("01_prepare_data:judgements.parquet",) if split == "index" and config.data.is_benchmark else ()
    inputs = (
        f"06_build_knn/test_{split}:rows.npy",
        *(f"07_extract_local/{config.local_model}/{side}" for side in ("test", split)),
        f"01_prepare_data:{split}.parquet",
        *judged,
    )
    work = partial(verify_matches, split=split)
    return Task(f"08_verify_matches/test_{split}", work, settings, inputs, saves_on_stop=True)


def verify_matches(context: Context, split: str) -> None:
    """Write pairs.parquet: query row, split, row, matches, inliers."""
    import numpy as np
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.features.local_store import LocalStore
    from pipeline.matching.pair_table import read_compared, verify_split

    config = context.config
    pairs = read_compared(context.input, config, split)
    queries, base = (
        LocalStore(context.input(f"07_extract_local/{config.local_model}/{side}")) for side in ("test", split)
    )
    sides = pd.read_parquet(context.input(f"01_prepare_data:{split}.parquet"), columns=["width", "height"])
    longer = sides.max(axis=1).to_numpy()
    device = choose_device(config.runtime.device)
    inliers = verify_split(context, queries, base, pairs, longer, split, config.verify, device)
    context.facts |= {"pairs": len(pairs), "median_inliers": float(np.median(inliers)) if len(pairs) else 0.0}
    log.info("test and %s: %d pairs compared", split, len(pairs))


STAGE = Stage("08_verify_matches", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
