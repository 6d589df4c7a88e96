"""Every ranking step by itself on a large synthetic index: seconds, queries per second, and the memory that it adds.

    python -m benchmarks.steps                                 1,000 queries, 100,000 index images
    python -m benchmarks.steps --queries 5000 --steps soft,dba

Each step runs in a process of its own, so that its peak is its own. There is no baseline here: what is shown is that no
step needs the N x N products of the index (40 GB for 100,000 images).
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from pipeline.matching.knn import search_exact
from pipeline.matching.pair_table import PairTable
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
    graph = search_exact(vectors["index"], vectors["index"], GRAPH_K, exclude=np.arange(images))
    train = []
    for split in ("test", "index"):
        near = search_exact(vectors[split], vectors["train"], TRAIN_K)
        train.append(LabelledNeighbours(near.similarities, neighbour_labels(near.rows, landmarks["train"])))
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


def measure(step: str, world: State) -> tuple[float, float]:
    """Seconds of the step, and by how many MB the process has grown at its peak (as Linux tells it)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = read_peak_mb()
    begun = time.perf_counter()
    *_, done = run_recipe(["knn", step], world, RerankSettings(), search_exact)
    seconds = time.perf_counter() - begun
    assert done.ranking.lengths.min() > 0
    return seconds, read_peak_mb() - before


def read_peak_mb() -> float:
    """The most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def answer(step: str, world: State, answers: Connection) -> None:
    """Send what `measure` gives."""
    answers.send(measure(step, world))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--index", type=int, default=100_000, help="index images, and as many train photographs")
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--steps", default=",".join(NAMES), help="default: %(default)s")
    asked = parser.parse_args()
    print(f"{asked.queries} queries, {asked.index} index images, {asked.dims} dimensions, lists of {LISTED}")
    world = make_world(asked.queries, asked.index, asked.dims)
    context = multiprocessing.get_context("spawn")
    for step in asked.steps.split(","):
        answers, sender = context.Pipe(duplex=False)
        process = context.Process(target=answer, args=(step, world, sender))
        process.start()
        sender.close()
        seconds, megabytes = answers.recv()
        process.join()
        print(f"{step:16} {seconds:8.2f} s  {asked.queries / seconds:10.0f} queries/s  {megabytes:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
