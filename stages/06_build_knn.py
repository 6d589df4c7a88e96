"""Stage 06: the nearest neighbours of test in index, of test in train and of index in train, models joined.

Also of index in itself when a step walks there, and of test and train in non_landmark when recognition penalises by it.
Where a setting asks for it, the joined descriptors are whitened before, by what is fitted on train.
"""

from __future__ import annotations

import sys
from functools import partial

from pipeline.config import Config
from pipeline.console import log
from pipeline.errors import PipelineError
from pipeline.features.searched import (
    WHITENED,
    WHITENING,
    name_descriptors,
    name_joined,
    open_descriptors,
    open_joined,
    write_whitened,
    write_whitening,
)
from pipeline.runner import Context, Stage, Task, main
from pipeline.settings import NON_LANDMARK

SHARD_ROWS = 65_536  # queries: what a kill can cost. An approximate index, built for each shard anew, has one


def tasks(config: Config) -> list[Task]:
    """One artifact a pair of splits."""
    pairs = [("test", "index"), ("test", "train"), ("index", "train")] + [("index", "index")] * config.walks_index
    pairs += [("test", NON_LANDMARK), ("train", NON_LANDMARK)] * config.recognition.non_landmarks
    return plan_whitening(config) + [plan(config, *pair) for pair in pairs]


def plan_whitening(config: Config) -> list[Task]:
    """The whitening and the whitened splits, where there is one."""
    if not config.search.whiten_dims:
        return []
    weights = {"weights": {name: model.weight for name, model in config.models.items()}}
    fitted = config.search.model_dump(include={"whiten_dims", "whiten_power"}) | weights
    splits = [
        Task(
            f"{WHITENED}/{split}", partial(whiten, split=split), weights, (WHITENING, *name_joined(config, split)),
            saves_on_stop=True,
        )
        for split in config.splits
    ]  # fmt: skip
    return [Task(WHITENING, fit, fitted, tuple(name_joined(config, "train"))), *splits]


def plan(config: Config, queries: str, base: str) -> Task:
    """The neighbours of `queries` in `base`."""
    search, k = config.search, count_neighbours(config, queries, base)
    settings = {
        "k": k,
        "factory": search.index_factory,
        "nprobe": search.nprobe if search.index_factory != "Flat" else None,
        "weights": {name: model.weight for name, model in config.models.items()},
    }
    splits = dict.fromkeys((queries, base))
    inputs = [name for split in splits for name in name_descriptors(config, split)]
    work = partial(build_knn, queries=queries, base=base, k=k)
    return Task(f"06_build_knn/{queries}_{base}", work, settings, tuple(inputs), saves_on_stop=True)


def count_neighbours(config: Config, queries: str, base: str) -> int:
    """How many neighbours in `base` each of `queries` gets."""
    if base == NON_LANDMARK:
        return config.recognition.penalty_test_k if queries == "test" else config.recognition.penalty_train_k
    if queries == base:
        return config.search.graph_k
    return config.search.index_k if base == "index" else config.search.train_k


def fit(context: Context) -> None:
    """Write mean.npy, projection.npy and explained.npy."""
    config, train = context.config, open_joined(context.input, context.config, "train")
    whitening = write_whitening(context.folder, train, config.search)
    kept, share = whitening.projection.shape[1], whitening.explained
    context.facts |= {"rows": len(train), "dims": kept, "explained": share}
    log.info("%d of %d components hold %.1f %% of the variance", kept, train.shape[1], 100 * share)


def whiten(context: Context, split: str) -> None:
    """Write descriptors.npy, (N, dims) float32."""
    write_whitened(context, context.input(WHITENING), open_joined(context.input, context.config, split))


def build_knn(context: Context, queries: str, base: str, k: int) -> None:
    """Write rows.npy (Q, k) int32 and similarities.npy (Q, k) float32."""
    import numpy as np

    from pipeline.device import choose_device
    from pipeline.features.store import write_at
    from pipeline.matching.knn import search

    settings = context.config.search
    asked, known = (open_descriptors(context.input, context.config, split) for split in (queries, base))
    chosen = choose_device(context.config.runtime.device)
    device = None if chosen.type == "cpu" else str(chosen)

    def neighbours(start: int, stop: int) -> dict:
        try:
            own = np.arange(start, stop) if queries == base else None  # an image is not its own neighbour
            found = search(
                asked[start:stop], known, k,
                index_factory=settings.index_factory, nprobe=settings.nprobe, device=device, exclude=own,
            )  # fmt: skip
            return found._asdict()
        except ValueError as error:
            hint = "take Flat, or a faiss index_factory string that suits so many rows"
            raise PipelineError(str(error), f"search.index_factory = {settings.index_factory}", hint) from error

    shard_rows = SHARD_ROWS if settings.index_factory == "Flat" else len(asked) or 1
    write_at(context, len(asked), shard_rows, neighbours, f"{queries} photographs")
    context.facts["rows"] = len(asked)


STAGE = Stage("06_build_knn", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
