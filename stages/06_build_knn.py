"""Stage 06: the nearest neighbours of test in index, of test in train and of index in train, models joined.

Also of index in itself when a step asks for it, and of test and train in non_landmark when recognition penalises by it.
Where a setting asks for it, the joined descriptors are whitened before, by what is fitted on train or index.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.runner import Stage, Task, main
from pipeline.settings import NON_LANDMARK
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import device_key
from pipeline.tasks.inputs import descriptor_references, open_descriptors, read_gaps
from pipeline.tasks.whitening import whitening_tasks

SHARD_ROWS = 65_536  # queries that a kill can cost; an approximate index, built again for each shard, has one shard
GPU_SHARD_ROWS = 262_144  # a GPU is given the base once a shard, and is done with one in seconds


def tasks(config: Config) -> list[Task]:
    """The whitening, where there is one, and one artifact per pair of splits."""
    pairs = [("test", "index"), ("test", "train"), ("index", "train")] + [("index", "index")] * config.needs_index_graph
    pairs += [("test", NON_LANDMARK), ("train", NON_LANDMARK)] * config.recognition.non_landmarks
    return whitening_tasks(config) + [search_task(config, *pair) for pair in pairs]


def search_task(config: Config, queries: str, base: str) -> Task:
    """The neighbours of `queries` in `base`."""
    search, k = config.search, config.count_neighbours(queries, base)
    settings = {
        "k": k,
        "index_factory": search.index_factory,
        "nprobe": search.nprobe if search.index_factory != "Flat" else None,
        "weights": {name: model.weight for name, model in config.models.items()},
    } | device_key(config)
    inputs = [name for split in dict.fromkeys((queries, base)) for name in descriptor_references(config, split)]
    work = partial(build_knn, queries=queries, base=base, k=k)
    return Task(layout.neighbours(queries, base), work, settings, tuple(inputs), saves_on_stop=True)


def build_knn(task: TaskContext, config: Config, queries: str, base: str, k: int) -> None:
    """Write rows.npy (Q, k) int32 and similarities.npy (Q, k) float32; unreadable photographs are in no list."""
    import numpy as np

    from pipeline.device import choose_device
    from pipeline.features.store import write_sharded
    from pipeline.matching.knn import SearchOptions, search

    factory = config.search.index_factory
    asked, known = (open_descriptors(task, config, split) for split in (queries, base))
    gaps = read_gaps(task, config, queries, base)
    options = SearchOptions(factory, config.search.nprobe, choose_device(config.runtime.device))
    find = partial(search, options=options)

    def find_neighbours(start: int, stop: int) -> dict[str, Any]:
        own = np.arange(start, stop) if queries == base else None  # an image is not its own neighbour
        try:
            return gaps.within(start, stop).search(find, asked[start:stop], known, k, own)._asdict()
        except ValueError as error:
            hint = "take Flat, or a faiss index_factory string that suits so many rows"
            raise PipelineError(str(error), f"search.index_factory = {factory}", hint) from error

    shard_rows = SHARD_ROWS if options.device.type == "cpu" else GPU_SHARD_ROWS
    shard_rows = shard_rows if factory == "Flat" else len(asked) or 1
    write_sharded(task, len(asked), shard_rows, find_neighbours, f"{queries} photographs")
    task.facts["rows"] = len(asked)


STAGE = Stage(layout.BUILD_KNN, version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
