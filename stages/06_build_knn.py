"""Stage 06: the nearest neighbours of test in index, of test in train and of index in train, models joined.

Also of index in itself when a step walks there, and of test and train in non_landmark when recognition penalises by it.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.runner import Context, Stage, Task, main
from pipeline.sections import NON_LANDMARK

SHARD_ROWS = 65_536  # queries: what a kill can cost. An approximate index, built for each shard anew, has one


def tasks(config: Config) -> list[Task]:
    """One artifact a pair of splits."""
    pairs = [("test", "index"), ("test", "train"), ("index", "train")] + [("index", "index")] * config.walks_index
    pairs += [("test", NON_LANDMARK), ("train", NON_LANDMARK)] * config.recognition.non_landmarks
    return [plan(config, *pair) for pair in pairs]


def plan(config: Config, queries: str, base: str) -> Task:
    """The neighbours of `queries` in `base`."""
    search, k = config.search, count_neighbours(config, queries, base)
    settings = {
        "k": k,
        "factory": search.factory,
        "probes": search.probes if search.factory != "Flat" else None,
        "weights": {name: model.weight for name, model in config.models.items()},
    }
    splits = dict.fromkeys((queries, base))
    inputs = [f"05_extract_global/{name}/{split}" for split in splits for name in config.models]
    work = partial(build_knn, queries=queries, base=base, k=k)
    return Task(f"06_build_knn/{queries}_{base}", work, settings, tuple(inputs), saves_on_stop=True)


def count_neighbours(config: Config, queries: str, base: str) -> int:
    """How many neighbours in `base` each of `queries` gets."""
    if base == NON_LANDMARK:
        return config.recognition.penalty_test_k if queries == "test" else config.recognition.penalty_train_k
    if queries == base:
        return config.search.graph_k
    return config.search.index_k if base == "index" else config.search.train_k


def build_knn(context: Context, queries: str, base: str, k: int) -> None:
    """Write rows.npy (Q, k) int32 and similarities.npy (Q, k) float32."""
    import numpy as np

    from pipeline.features.ensemble import JoinedDescriptors
    from pipeline.features.store import write_at
    from pipeline.matching.knn import search
    from pipeline.network.embedding import choose_device

    settings = context.config.search
    weights = [model.weight for model in context.config.models.values()]
    asked, known = (
        JoinedDescriptors(
            [np.load(path / "descriptors.npy", mmap_mode="r") for path in folders(context, split)], weights
        )
        for split in (queries, base)
    )
    chosen = choose_device(context.config.runtime.device)
    device = None if chosen.type == "cpu" else str(chosen)

    def neighbours(start: int, stop: int) -> dict:
        try:
            own = np.arange(start, stop) if queries == base else None  # an image is not its own neighbour
            found = search(
                asked[start:stop], known, k,
                factory=settings.factory, probes=settings.probes, device=device, exclude=own,
            )  # fmt: skip
            return found._asdict()
        except ValueError as error:
            hint = "take Flat, or a faiss index_factory string that suits so many rows"
            raise PipelineError(str(error), f"search.factory = {settings.factory}", hint) from error

    shard_rows = SHARD_ROWS if settings.factory == "Flat" else len(asked) or 1
    write_at(context, len(asked), shard_rows, neighbours, f"{queries} photographs")
    context.facts["rows"] = len(asked)


def folders(context: Context, split: str) -> list[Path]:
    """Where the descriptors of a split are, model by model."""
    return [context.input(f"05_extract_global/{name}/{split}") for name in context.config.models]


STAGE = Stage("06_build_knn", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
