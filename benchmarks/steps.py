"""Every ranking step by itself on a large synthetic index: seconds, queries per second, and the memory that it adds.

    python -m benchmarks.steps                                 1,000 queries, 100,000 index images
    python -m benchmarks.steps --index 761757 --steps dba,diffusion

Each step runs in a process of its own, so that its peak is its own. There is no baseline here: what is shown is that no
step needs the N x N products of the index (40 GB for 100,000 images). Neighbours of index images, in the index and in
train, are sought among the images of a few landmarks only: it is not this search that is measured.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.record import add_json_argument, measure_apart, publish
from pipeline.arrays import NONE, Floats, Labels
from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.memory import forget_peak, read_peak
from pipeline.processes import return_freed_memory
from pipeline.ranking.evidence import (
    DescriptorPair,
    Evidence,
    IndexGraph,
    LabelledNeighbours,
    LandmarkVotes,
    PropagatedLabels,
    TrainNeighbours,
    VerifiedPairs,
)
from pipeline.ranking.label_vector import make_label_vectors
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import RerankSettings, State, run_recipe
from pipeline.ranking.registry import STEPS
from pipeline.ranking.voting import neighbour_labels, soft_vote

NAMES = [name for name in STEPS if name != "knn"]
LISTED, TRAIN_K, GRAPH_K, VIEWS, NOISE = 100, 10, 50, 20, 1.2
LANDMARKS = 64  # among whose images neighbours of index images are sought


def scatter(random: np.random.Generator, centres: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(N, D) float32 unit vectors about the centres of their landmarks."""
    vectors = centres[landmarks] + NOISE * random.standard_normal((len(landmarks), centres.shape[1])) / 8
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_world(queries: int, images: int, dims: int, seed: int = 0) -> State:
    """Lists and all evidence: landmarks of 20 index images each, a train set of the same size, inliers by chance."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, images // VIEWS), dims)) / np.sqrt(dims)
    owner = {"index": images, "train": images, "test": queries}
    landmarks = {split: random.integers(0, len(centres), count) for split, count in owner.items()}
    vectors = {split: scatter(random, centres, owner) for split, owner in landmarks.items()}
    found = search_exact(vectors["test"], vectors["index"], LISTED)
    graph = search_apart(vectors["index"], vectors["index"], landmarks["index"], landmarks["index"], GRAPH_K)
    near = search_exact(vectors["test"], vectors["train"], TRAIN_K)
    near_index = search_apart(vectors["index"], vectors["train"], landmarks["index"], landmarks["train"], TRAIN_K)
    train = [
        LabelledNeighbours(each.similarities, neighbour_labels(each.rows, landmarks["train"]))
        for each in (near, near_index)
    ]
    inliers = random.integers(0, 40, found.rows.size)
    pairs = PairTable(np.repeat(np.arange(queries), LISTED), found.rows.ravel(), inliers)
    known = TrainNeighbours(train[0], train[1], np.arange(len(centres)))
    evidence = Evidence(
        LandmarkVotes(*(soft_vote(*near) for near in train)),
        DescriptorPair(vectors["test"], vectors["index"]),
        known,
        IndexGraph(graph),
        VerifiedPairs(pairs, LISTED),
        PropagatedLabels(*make_label_vectors(known, 5), landmarks=known.landmarks),
    )
    return State(Ranking(found.rows, found.similarities, images), evidence)


def search_apart(queries: Floats, base: Floats, own: Labels, of_base: Labels, k: int) -> Neighbours:
    """The k nearest of each query among the images of a few landmarks; in a search in itself without the query."""
    rows = np.full((len(queries), k), NONE, np.int32)
    similarities = np.zeros(rows.shape, np.float32)
    for first in range(0, int(own.max(initial=0)) + 1, LANDMARKS):
        asked, given = (np.flatnonzero((each >= first) & (each < first + LANDMARKS)) for each in (own, of_base))
        wanted = min(k, len(given) - (base is queries))
        exclude = np.arange(len(asked)) if base is queries else None
        near = search_exact(queries[asked], base[given], wanted, exclude=exclude)
        rows[asked, :wanted], similarities[asked, :wanted] = given[near.rows], near.similarities
    return Neighbours(rows, similarities)


def measure(step: str, world: State) -> dict[str, Any]:
    """Seconds and processor time of the step, and by how many MB the process has grown at its peak."""
    import cv2  # noqa: F401 (what a step imports is not what it takes)
    import scipy.sparse.linalg  # noqa: F401
    import torch  # noqa: F401

    return_freed_memory()  # of unpickling: a step would fill it without growing
    forget_peak()
    before, begun, used = read_peak(), time.perf_counter(), time.process_time()
    *_, done = run_recipe(["knn", step], world, RerankSettings(), search_exact)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    assert done.ranking.lengths.min() > 0
    queries = len(world.ranking)
    return {
        "step": step, "seconds": seconds, "processor time, s": used, "queries a second": queries / seconds,
        "MB": (read_peak() - before) / 1e6,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--index", type=int, default=100_000, help="index images, and as many train photographs")
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--steps", default=",".join(NAMES), help="default: %(default)s")
    add_json_argument(parser)
    asked = parser.parse_args()
    world = make_world(asked.queries, asked.index, asked.dims)
    found = [measure_apart(measure, step, world) for step in asked.steps.split(",")]
    title = f"{asked.queries:,} queries, {asked.index:,} index images, {asked.dims} dimensions, lists of {LISTED}"
    publish({title: found}, asked.json)


if __name__ == "__main__":
    main()
