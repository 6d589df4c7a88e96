"""Exact search compared with faiss's flat index and other baselines: 100,000 x 512, 1,000 queries, k 100.

    python -m benchmarks.knn
    python -m benchmarks.knn --base 761757 --queries 2000 --baselines faiss

Ours also re-scores every list in float64 and breaks ties by row; "candidates only" shows what that costs. Every
round runs each method once in one process, so that a busy machine slows all of them; the best round of each counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import faiss
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from benchmarks.record import add_json_argument, publish
from pipeline.matching import knn

Floats = np.ndarray


def unit_vectors(count: int, width: int, seed: int) -> Floats:
    """Random unit vectors (count, width) float32."""
    vectors = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_faiss(queries: Floats, index: faiss.Index, k: int) -> np.ndarray:
    """Rows of the k nearest by faiss's flat index."""
    return index.search(queries, k)[1]


def by_torch(queries: Floats, base: Floats, k: int, tile: int = 65_536) -> np.ndarray:
    """Rows by matrix products with tiles of the base and top-k."""
    asked, best, rows = torch.from_numpy(queries), torch.empty(len(queries), 0), torch.empty(len(queries), 0).long()
    for start in range(0, len(base), tile):
        values, at = (asked @ torch.from_numpy(base[start : start + tile]).T).topk(k)
        best, rows = torch.cat([best, values], 1), torch.cat([rows, at + start], 1)
        best, order = best.topk(k)
        rows = rows.gather(1, order)
    return rows.numpy()


def by_numpy(queries: Floats, base: Floats, k: int) -> np.ndarray:
    """Rows by one matrix product and argpartition."""
    similarities = queries @ base.T
    rows = np.argpartition(-similarities, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarities, rows, axis=1), axis=1)
    return np.take_along_axis(rows, order, axis=1)


def by_sklearn(queries: Floats, base: Floats, k: int) -> np.ndarray:
    """Rows by brute force on unit vectors, where Euclidean and cosine order agree."""
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(base).kneighbors(queries, return_distance=False)


def candidates_only(queries: Floats, base: Floats, k: int) -> np.ndarray:
    """The first step of our search."""
    search = knn._prepare(queries, base, k, None, knn.Tiling())
    return knn._generate_candidates(search).rows[:, :k]


def best_seconds(
    methods: dict[str, Callable[[], np.ndarray]], rounds: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The least seconds of each method over the rounds, and its rows."""
    seconds, rows = dict.fromkeys(methods, np.inf), {}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            rows[name] = method()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baselines", nargs="*", default=["torch", "numpy", "sklearn"], help="compared besides faiss")
    add_json_argument(parser)
    asked = parser.parse_args()

    queries, base, k = unit_vectors(asked.queries, asked.width, 1), unit_vectors(asked.base, asked.width, 2), asked.k
    flat = faiss.IndexFlatIP(asked.width)
    flat.add(base)
    methods: dict[str, Callable[[], np.ndarray]] = {
        "faiss IndexFlatIP": partial(by_faiss, queries, flat, k),
        "ours, exact ties": lambda: knn.search_exact(queries, base, k).rows,
        "ours, candidates only": partial(candidates_only, queries, base, k),
    }
    others = {"torch": by_torch, "numpy": by_numpy, "sklearn": by_sklearn}
    methods |= {name: partial(other, queries, base, k) for name, other in others.items() if name in asked.baselines}
    seconds, rows = best_seconds(methods, asked.rounds)
    fastest = seconds["faiss IndexFlatIP"]
    found = [
        {
            "search": name,
            "seconds": taken,
            "queries a second": asked.queries / taken,
            "time / faiss's": taken / fastest,
            "rows as ours, %": 100 * float(np.mean(rows[name] == rows["ours, exact ties"])),
        }
        for name, taken in seconds.items()
    ]
    title = f"{asked.queries} queries, {asked.base:,} vectors of {asked.width}, k {k}, best of {asked.rounds} rounds"
    ours = seconds["ours, exact ties"]
    ratios = {f"exact search, {name}": taken / ours for name, taken in seconds.items() if not name.startswith("ours")}
    publish({title: found}, asked.json, ratios=ratios)


if __name__ == "__main__":
    main()
