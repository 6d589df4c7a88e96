"""Stage 06: the nearest neighbours of test in index, of test in train and of index in train, models joined.

Also, where a step asks for it, of index in itself and of train and index in both; of test and train in non_landmark
when recognition penalises by it.
Where a setting asks for it, the joined descriptors are whitened before, by what is fitted on train or index.
"""

from __future__ import annotations

import sys
from functools import partial

from pipeline import layout
from pipeline.config import Config
from pipeline.runner import Stage, Task, main
from pipeline.settings import GRAPH, NON_LANDMARK
from pipeline.task_context import TaskContext
from pipeline.tasks.hardware import device_key
from pipeline.tasks.inputs import descriptor_references, open_descriptors, read_gaps
from pipeline.tasks.overlap import overlap_tasks
from pipeline.tasks.whitening import whitening_tasks


def tasks(config: Config) -> list[Task]:
    """The whitening, where there is one, one artifact per pair of splits, and the near-duplicates in train."""
    pairs = [("test", "index"), ("test", "train"), ("index", "train")] + [("index", "index")] * config.needs_index_graph
    pairs += [(GRAPH, GRAPH)] * config.needs_propagation
    pairs += [("test", NON_LANDMARK), ("train", NON_LANDMARK)] * config.recognition.non_landmarks
    return whitening_tasks(config) + [search_task(config, *pair) for pair in pairs] + overlap_tasks(config)


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
    is_exact = search.index_factory == "Flat"  # an approximate index is built once, by one rank
    return Task(layout.neighbours(queries, base), work, settings, tuple(inputs), saves_on_stop=True, shared=is_exact)


def build_knn(task: TaskContext, config: Config, queries: str, base: str, k: int) -> None:
    """Write rows.npy (Q, k) int32 and similarities.npy (Q, k) float32; unreadable photographs are in no list."""
    from pipeline.device import choose_device
    from pipeline.matching.knn import SearchOptions
    from pipeline.matching.neighbour_lists import NeighbourSearch, write_neighbours

    asked, known = (open_descriptors(task, config, split) for split in (queries, base))
    gaps = read_gaps(task, config, queries, base)
    options = SearchOptions(config.search.index_factory, config.search.nprobe, choose_device(config.runtime.device))
    search = NeighbourSearch(asked, known, k, gaps, options, in_itself=queries == base)
    write_neighbours(task, search, f"{queries} photographs")


STAGE = Stage(layout.BUILD_KNN, version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
