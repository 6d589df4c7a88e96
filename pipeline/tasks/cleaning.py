"""Where the clean list comes from, and the tasks that find out which train images verify against their landmark.

They are stages 05 to 08 for one network and the train split: descriptors, neighbours, local features, verified pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Task
from pipeline.task_context import TaskContext
from pipeline.tasks.comparison import PairSelection, comparison_task
from pipeline.tasks.extraction import Extraction, LocalSelection, global_task, local_task, threshold_task
from pipeline.tasks.hardware import device_key
from pipeline.tasks.inputs import read_images, read_landmarks

if TYPE_CHECKING:
    from pipeline.arrays import Integers, Mask

NEIGHBOURS, PAIRS, OTHER_NEIGHBOURS, OTHER_PAIRS = (
    layout.split_reference(name)[0]
    for name in (layout.CLEAN_NEIGHBOURS, layout.CLEAN_PAIRS, layout.OTHER_NEIGHBOURS, layout.OTHER_PAIRS)
)


def support_tasks(config: Config) -> list[Task]:
    """What ends with the verified pairs of train images of one landmark, by the base network."""
    base = Extraction(layout.base_network(config.local_model), config.local_model, "train")
    nearest = config.clean.model_dump(include={"nearest", "candidates"}) | device_key(config)
    read = (layout.CLEAN_GLOBAL, layout.images("train"))
    selected = LocalSelection(_choose_compared, (layout.CLEAN_NEIGHBOURS,))
    store = layout.CLEAN_LOCAL
    pairs = PairSelection(store, store, "train", _list_candidates, (layout.CLEAN_NEIGHBOURS,))
    return [
        global_task(layout.CLEAN_GLOBAL, base, config),
        Task(NEIGHBOURS, _pick_candidates, nearest, read, saves_on_stop=True, shared=True),
        threshold_task(layout.CLEAN_THRESHOLD, base, config),
        local_task(store, base, layout.CLEAN_THRESHOLD, selected, config),
        comparison_task(PAIRS, pairs, config),
    ]


def correction_tasks(config: Config) -> list[Task]:
    """The dropped images with the nearest kept ones of other landmarks, verified, and the labels that follow."""
    nearest = config.clean.model_dump(include={"nearest", "other_candidates"}) | device_key(config)
    read = (layout.CLEAN_GLOBAL, layout.images("train"), layout.CLEAN_SUPPORT)
    store = layout.CLEAN_LOCAL
    pairs = PairSelection(store, store, "train", _list_others, (layout.OTHER_NEIGHBOURS,))
    labels = (layout.CLEAN_PAIRS, layout.OTHER_PAIRS, layout.CLEAN_SUPPORT, layout.images("train"))
    return [
        Task(OTHER_NEIGHBOURS, _pick_others, nearest, read, saves_on_stop=True, shared=True),
        comparison_task(OTHER_PAIRS, pairs, config),
        Task(layout.CORRECTED, _correct, config.clean.correct_settings, labels),
    ]


def _pick_candidates(task: TaskContext, config: Config) -> None:
    """Write neighbours.npy, (N, candidates) int32: the nearest images of the same landmark."""
    import numpy as np

    from pipeline.device import choose_device
    from pipeline.images.rejection import read_rejected
    from pipeline.matching.clean_list import write_candidates

    descriptors = np.load(task.input(layout.CLEAN_GLOBAL) / "descriptors.npy", mmap_mode="r")
    device, missing = choose_device(config.runtime.device), read_rejected([task.input(layout.CLEAN_GLOBAL)])
    write_candidates(task, descriptors, read_landmarks(task), config.clean, device, missing)


def _pick_others(task: TaskContext, config: Config) -> None:
    """Write neighbours.npy, (N, other_candidates) int32: the nearest kept images of other landmarks."""
    import numpy as np
    import pandas as pd

    from pipeline.device import choose_device
    from pipeline.images.rejection import read_rejected
    from pipeline.matching.clean_list import write_other_candidates
    from pipeline.matching.gaps import Gaps

    descriptors = np.load(task.input(layout.CLEAN_GLOBAL) / "descriptors.npy", mmap_mode="r")
    kept = pd.read_parquet(task.input(layout.CLEAN_SUPPORT))["kept"].to_numpy()
    missing, device = read_rejected([task.input(layout.CLEAN_GLOBAL)]), choose_device(config.runtime.device)
    gaps = Gaps(np.union1d(missing, np.flatnonzero(kept)), np.union1d(missing, np.flatnonzero(~kept)))
    write_other_candidates(task, descriptors, read_landmarks(task), config.clean, device, gaps)


def _list_others(task: TaskContext, config: Config) -> Integers:
    """Every pair of a dropped image and a candidate, (P, 2)."""
    import numpy as np

    near = np.load(task.input(layout.OTHER_NEIGHBOURS))
    dropped, position = np.nonzero(near >= 0)
    return np.stack([dropped, near[dropped, position]], axis=1)


def _correct(task: TaskContext, config: Config) -> None:
    """Write labels.npy and train_clean.csv."""
    import pandas as pd

    from pipeline.matching.clean_list import write_corrected

    pairs, others = (pd.read_parquet(task.input(name)) for name in (layout.CLEAN_PAIRS, layout.OTHER_PAIRS))
    kept = pd.read_parquet(task.input(layout.CLEAN_SUPPORT))["kept"].to_numpy()
    task.facts |= write_corrected(task.folder, read_images(task, "train"), kept, pairs, others, config.clean)
    log.info("labels: %(corrected)d dropped photographs get the landmark of others that they verify with", task.facts)


def _choose_compared(task: TaskContext, config: Config, count: int) -> Mask:
    """The images that have candidates or are one, (N,) bool."""
    import numpy as np

    near = np.load(task.input(layout.CLEAN_NEIGHBOURS))
    return (near >= 0).any(axis=1) | np.isin(np.arange(count), near)


def _list_candidates(task: TaskContext, config: Config) -> Integers:
    """Every pair of an image and a candidate once, (P, 2)."""
    import numpy as np

    from pipeline.matching.cleaning import list_pairs

    return list_pairs(np.load(task.input(layout.CLEAN_NEIGHBOURS)))
