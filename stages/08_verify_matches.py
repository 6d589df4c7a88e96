"""Stage 08: geometric verification of every test photograph with its nearest neighbours in index and train."""

from __future__ import annotations

import sys
from functools import partial

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.tasks.comparison import PairSelection, comparison_task
from pipeline.tasks.inputs import compared_references, read_compared


def tasks(config: Config) -> list[Task]:
    """One artifact per split that test is compared with."""
    return [verification_task(config, split) for split in config.verified_splits]


def verification_task(config: Config, split: str) -> Task:
    """The verified pairs of test and one split."""
    queries, base = (layout.local_features(config.local_model, side) for side in ("test", split))
    settings = {"first": config.verify.first(split)}
    pairs, references = partial(read_compared, split=split), tuple(compared_references(config, split))
    selection = PairSelection(queries, base, split, pairs, references, settings)
    return comparison_task(layout.split_reference(layout.verified_pairs(split))[0], selection, config)


STAGE = Stage(layout.VERIFY, version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
