"""Geometric verification compared with the published loop in one process, one thread each, over the same pairs.

    python -m benchmarks.verification
    python -m benchmarks.verification --lists 10 --keypoints 500

The baseline does what the published pipelines do: a k-d tree over the base's descriptors, each query keypoint's nearest
within a distance, scikit-image's RANSAC with an affine map of three points, 20 px and 1,000 iterations. An exception
counts as 0 inliers. Half of the pairs share a surface: 30 % of the keypoints, with noisy descriptors and locations.
Descriptors are clustered around visual words, as features of buildings are, so that keypoints of different objects are
often within the distance as well.
Every round runs both once, so that a busy machine slows both; the best round of each counts, in processor time.
"""

from __future__ import annotations

import argparse
import warnings
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import ransac
from skimage.transform import AffineTransform

from benchmarks.record import add_json_argument, publish
from benchmarks.rivals import best_seconds, use_one_thread
from pipeline.features.local_store import LocalFeatures
from pipeline.matching.geometry import fit_affine
from pipeline.matching.mutual import match_mutual
from pipeline.matching.verification import MatchOptions, verify_pair, verify_pairs

WIDTH = 128
SIZE_PX = (1024, 768)
MAX_DISTANCE = 0.9  # between L2-normalised descriptors …
MIN_SIMILARITY = 1 - MAX_DISTANCE**2 / 2  # … is this inner product
THRESHOLD_PX = 20.0
MAX_ITERATIONS = 1000
OPTIONS = MatchOptions(MIN_SIMILARITY, max_iterations=MAX_ITERATIONS)
WORDS = 300
WORD_SHARE = 0.55  # the mean inner product of two keypoints of a word: the nearest of a few is about at the limit
MATCH_SIMILARITY = 0.8  # the mean inner product of two views of a keypoint
NOISE_PX = 3.0
LIST = 10  # images that a query is compared with

Rows = np.ndarray


class Pair(NamedTuple):
    """Two images; partners (M,): the base keypoint that shows the same as each query keypoint, -1 = none."""

    query: LocalFeatures
    base: LocalFeatures
    partners: Rows


class Found(NamedTuple):
    """The inliers of a pair: rows of query keypoints and of base keypoints, (m, 2)."""

    inliers: Rows


def noisy(directions: Rows, similarity: float, rng: np.random.Generator) -> Rows:
    """Unit vectors whose inner product with the directions is about `similarity`."""
    noise = rng.standard_normal(directions.shape) / np.sqrt(directions.shape[1])
    vectors = similarity * directions + np.sqrt(1 - similarity**2) * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def view(rng: np.random.Generator) -> Rows:
    """A random affine map (2, 3) about the centre of the image: another camera position."""
    turn, axes = (
        np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in rng.uniform([-0.3, 0], [0.3, np.pi])
    )
    root = np.sqrt(rng.uniform(1, 1.8))  # of the anisotropy
    linear = 2 ** rng.uniform(-0.7, 0.7) * turn @ axes @ np.diag([root, 1 / root]) @ axes.T
    centre = np.array(SIZE_PX) / 2
    return np.column_stack([linear, centre - linear @ centre + rng.uniform(-80, 80, 2)])


def make_pairs(words: Rows, keypoints: int, share: float, count: int, seed: int) -> list[Pair]:
    """A query with `count` images, of every other one of which the given share of keypoints shows its surface."""
    rng = np.random.default_rng(seed)
    query = make_image(words, keypoints, rng)
    pairs = []
    for at in range(count):
        base, partners = make_image(words, keypoints, rng), np.full(keypoints, -1)
        query_rows, base_rows = (rng.permutation(keypoints)[: round(share * (at % 2) * keypoints)] for _ in range(2))
        partners[query_rows] = base_rows
        matrix = view(rng)
        there = query.points[query_rows] @ matrix[:, :2].T + matrix[:, 2]
        base.points[base_rows] = there + NOISE_PX * rng.standard_normal(there.shape)
        base.descriptors[base_rows] = noisy(query.descriptors[query_rows], MATCH_SIMILARITY, rng)
        pairs.append(Pair(query, base, partners))
    return pairs


def make_image(words: Rows, keypoints: int, rng: np.random.Generator) -> LocalFeatures:
    """Keypoints anywhere, each of a random visual word."""
    points = rng.uniform(0, SIZE_PX, (keypoints, 2)).astype(np.float32)
    vectors = noisy(words[rng.integers(0, len(words), keypoints)], np.sqrt(WORD_SHARE), rng)
    ones = np.ones(keypoints, np.float32)
    return LocalFeatures(points, ones, ones, vectors.astype(np.float32))


def by_published_loop(query: LocalFeatures, base: LocalFeatures) -> Found:
    """Nearest neighbours from a k-d tree, then scikit-image's RANSAC."""
    _, nearest = cKDTree(base.descriptors).query(query.descriptors, distance_upper_bound=MAX_DISTANCE)
    rows = np.flatnonzero(nearest < len(base.points))
    matches = np.stack([rows, nearest[rows]], axis=1)
    try:
        _, inliers = ransac(
            (query.points[matches[:, 0]], base.points[matches[:, 1]]),
            AffineTransform, min_samples=3, residual_threshold=THRESHOLD_PX, max_trials=MAX_ITERATIONS, rng=0,
        )  # fmt: skip
    except Exception:  # as published: a pair that fails has no inliers
        inliers = None
    return Found(matches[inliers] if inliers is not None else matches[:0])


def by_ours(query: LocalFeatures, base: LocalFeatures) -> Found:
    """Ours, one pair in detail."""
    matches, affine = verify_pair(query, base, THRESHOLD_PX, OPTIONS)
    return Found(matches[affine.inliers])


def count_ours(pairs: list[Pair]) -> None:
    """Ours, all pairs by one call."""
    rows = np.array([(at // LIST, at) for at in range(len(pairs))])
    queries, base = [pair.query for pair in pairs[::LIST]], [pair.base for pair in pairs]
    verify_pairs(queries, base, rows, np.full(len(pairs), THRESHOLD_PX), OPTIONS, threads=1)


def recall(pair: Pair, found: Found) -> float:
    """The fraction of the planted matches that are among the inliers."""
    true = pair.partners[found.inliers[:, 0]] == found.inliers[:, 1]
    return true.sum() / (pair.partners >= 0).sum()


def milliseconds_of_steps(pairs: list[Pair], rounds: int) -> tuple[float, float]:
    """Milliseconds per pair that ours takes to match and to fit."""
    matches = [match_mutual(query.descriptors, base.descriptors, MIN_SIMILARITY) for query, base, _ in pairs]

    def fit() -> None:
        for pair, rows in zip(pairs, matches, strict=True):
            fit_affine(pair.query.points[rows[:, 0]], pair.base.points[rows[:, 1]], THRESHOLD_PX, MAX_ITERATIONS)

    def match() -> None:
        for query, base, _ in pairs:
            match_mutual(query.descriptors, base.descriptors, MIN_SIMILARITY)

    seconds = best_seconds({"match": match, "fit": fit}, rounds)
    return 1000 * seconds["match"] / len(pairs), 1000 * seconds["fit"] / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=4, help=f"queries, with {LIST} images each")
    parser.add_argument("--keypoints", type=int, default=1_000)
    parser.add_argument("--share", type=float, default=0.3, help="fraction of the keypoints on the surface")
    parser.add_argument("--rounds", type=int, default=3)
    add_json_argument(parser)
    asked = parser.parse_args()
    use_one_thread()
    warnings.simplefilter("ignore")  # scikit-image warns where it finds nothing

    words = noisy(np.zeros((WORDS, WIDTH)), 0.0, np.random.default_rng(0))
    lists = [make_pairs(words, asked.keypoints, asked.share, LIST, seed) for seed in range(asked.lists)]
    pairs = [pair for pairs in lists for pair in pairs]
    apart, together = pairs[::2], pairs[1::2]
    methods = {"published loop": by_published_loop, "ours": by_ours}
    seconds = best_seconds(
        {
            "published loop": lambda: [by_published_loop(pair.query, pair.base) for pair in pairs],
            "ours": lambda: count_ours(pairs),
        },
        asked.rounds,
    )
    compared = []
    for name, method in methods.items():
        recalls = [recall(pair, method(pair.query, pair.base)) for pair in together]
        false = [len(method(pair.query, pair.base).inliers) for pair in apart]
        compared.append(
            {
                "method": name, "pairs a second": len(pairs) / seconds[name],
                "ratio": seconds["published loop"] / seconds[name], "recall": float(np.mean(recalls)),
                "least recall": float(np.min(recalls)), "inliers where nothing is shared": float(np.mean(false)),
                "at most": int(np.max(false)),
            }
        )  # fmt: skip
    steps = []
    for name, some in {"sharing a surface": together, "sharing nothing": apart}.items():
        match, fit = milliseconds_of_steps(some, asked.rounds)
        steps.append({"ours, one pair at a time": name, "matching, ms": match, "fitting, ms": fit})
    title = f"{len(pairs)} pairs, {asked.keypoints} keypoints x {WIDTH}, one thread, best of {asked.rounds} rounds"
    ratios = {"verification, kd-tree + scikit-image": compared[-1]["ratio"]}
    publish({title: compared, "of these": steps}, asked.json, ratios=ratios)


if __name__ == "__main__":
    main()
