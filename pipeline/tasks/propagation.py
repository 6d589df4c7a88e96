"""The task that spreads labels through the graph of train and index, and the reader of what it gives to queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Task
from pipeline.settings import GRAPH, GRAPH_SPLITS
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import read_neighbours, read_pairs
from pipeline.tasks.train_labels import choose_source, label_references, read_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.arrays import Doubles, Rows
    from pipeline.matching.neighbours import Neighbours
    from pipeline.matching.pair_table import PairTable
    from pipeline.ranking.evidence import PropagatedLabels
    from pipeline.ranking.propagation import Spread


def propagation_tasks(config: Config) -> list[Task]:
    """The labels of all images, where a recipe or the recognition asks for them."""
    if not config.needs_propagation:
        return []
    inputs = [layout.neighbours(GRAPH, GRAPH), *label_references(config), layout.images("index")]
    inputs += [layout.neighbours("test", split) for split in GRAPH_SPLITS]
    inputs += [layout.CLEAN_PAIRS] * compares_train(config)
    inputs += [layout.verified_pairs("train")] * ("train" in config.verified_splits)
    settings = config.propagation.model_dump(exclude={"neighbours"})
    return [Task(layout.PROPAGATE, propagate, settings, tuple(inputs))]


def propagate(task: TaskContext, config: Config) -> None:
    """Write the propagated labels of train, index and test, the landmarks and the degrees of the graph."""
    import numpy as np

    from pipeline.arrays import NO_LABEL
    from pipeline.ranking.label_files import write_graph, write_labels
    from pipeline.ranking.propagation import propagate_labels

    own = read_labels(task, config)
    landmarks, near = np.unique(own), read_neighbours(task, GRAPH, GRAPH)
    labels = np.full(len(near.rows), NO_LABEL, np.int64)
    labels[: len(own)] = own
    weights = weigh_graph(task, config, near, len(own))
    kept, alpha = config.propagation.kept_labels, config.propagation.alpha
    spread = propagate_labels(near.rows, weights, labels, landmarks, alpha, kept)
    inliers = read_pairs(task, "train") if "train" in config.verified_splits else None
    lists = [read_neighbours(task, "test", split) for split in GRAPH_SPLITS]
    received = receive(spread, lists, config, inliers, len(own))
    parts = {"train": spread.labels[: len(own)], "index": spread.labels[len(own) :], "test": received}
    for split, part in parts.items():
        write_labels(task.folder, split, part)
    write_graph(task.folder, landmarks, spread.degrees)
    reached = int((np.diff(spread.labels.indptr)[len(own) :] > 0).sum())
    task.facts |= {"images": len(near.rows), "index_images_reached": reached}
    log.info("labels reach %d of %d index photographs", reached, len(near.rows) - len(own))


def receive(spread: Spread, lists: list[Neighbours], config: Config, inliers: Any, train_count: int) -> Any:
    """The labels (Q, L) that queries receive. lists: their neighbours in train and in index. inliers: with train."""
    from pipeline.ranking.propagation import edge_weights, join_lists, receive_labels

    settings = config.propagation
    near = join_lists(lists, [0, train_count], settings.neighbours)
    counted = inliers.look_up(_only_train(near.rows, train_count)) if inliers is not None else None
    return receive_labels(near.rows, edge_weights(near, settings, counted), spread, settings.kept_labels)


def read_propagated(task: TaskContext, config: Config) -> PropagatedLabels:
    """The propagated labels of test and index images."""
    import numpy as np

    from pipeline.ranking.evidence import PropagatedLabels
    from pipeline.ranking.label_files import LANDMARKS, read_labels

    folder = task.input(layout.PROPAGATE)
    landmarks = np.load(folder / LANDMARKS)
    queries, index = (read_labels(folder, split, len(landmarks)) for split in ("test", "index"))
    return PropagatedLabels(queries, index, landmarks)


def read_spread(task: TaskContext) -> Spread:
    """The labels of the whole graph, for a query that receives from it."""
    import numpy as np
    from scipy import sparse

    from pipeline.ranking.label_files import DEGREES, LANDMARKS, read_labels
    from pipeline.ranking.propagation import Spread

    folder = task.input(layout.PROPAGATE)
    count = len(np.load(folder / LANDMARKS))
    parts = [read_labels(folder, split, count) for split in GRAPH_SPLITS]
    return Spread(sparse.csr_array(sparse.vstack(parts, format="csr")), np.load(folder / DEGREES))


def read_train_pairs(task: TaskContext) -> PairTable:
    """The inliers of the train pairs that stage 03 has compared, each pair in both directions."""
    import numpy as np
    import pandas as pd

    from pipeline.matching.pair_table import PairTable

    table = pd.read_parquet(task.input(layout.CLEAN_PAIRS))
    one, other, inliers = (table[name].to_numpy() for name in ("query", "row", "inliers"))
    return PairTable(np.concatenate([one, other]), np.concatenate([other, one]), np.concatenate([inliers, inliers]))


def weigh_graph(task: TaskContext, config: Config, near: Neighbours, train_count: int) -> Doubles:
    """The weights of the edges of the graph, (N, k)."""
    from pipeline.ranking.propagation import edge_weights

    return edge_weights(near, config.propagation, _compare_train(task, config, near.rows, train_count))


def compares_train(config: Config) -> bool:
    """Whether edges of the graph count for more by the inliers of train pairs."""
    return config.propagation.inlier_weight > 0 and choose_source(config) == "verify"


def _compare_train(task: TaskContext, config: Config, rows: Rows, train_count: int) -> NDArray[np.int32] | None:
    """The inliers of the train pairs that stage 03 has compared, (N, k); None where it has not."""
    return read_train_pairs(task).look_up(_only_train(rows, train_count)) if compares_train(config) else None


def _only_train(rows: Rows, train_count: int) -> Rows:
    import numpy as np

    from pipeline.arrays import NONE

    return np.where(rows < train_count, rows, NONE).astype(np.int32)
