"""Sort-step and insert-step at the size of GLDv2, beside a pandas loop of the published shape in the same process.

    python -m benchmarks.rerank                      117,577 queries x 100, 761,757 index images, 81,313 landmarks
    python -m benchmarks.rerank --queries 5000

The loop handles a sample of the queries, with landmarks as text, as published, and as numbers, which is kinder to it;
all must give the same lists for the sample.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.record import add_json_argument, publish
from pipeline.ranking.landmark_groups import group_by_landmark
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.two_stage import insert_step, sort_step
from pipeline.ranking.voting import Votes

MIN_CONFIDENCE = 0.6
FORMS: dict[str, Callable[[int], Any]] = {"text": str, "numbers": int}  # of landmarks in the loop's tables


@dataclass(frozen=True)
class World:
    """Synthetic retrieval lists, and landmarks with confidences of index images and queries."""

    ranking: Ranking
    queries: Votes
    index: Votes


def make_world(queries: int, images: int, landmarks: int, places: int, seed: int = 0) -> World:
    """Landmark sizes follow a long tail; lists hold some images of the query's landmark, where it has them."""
    random = np.random.default_rng(seed)
    sizes = 1.0 / np.arange(1, landmarks + 1) ** 0.7
    index_labels = random.choice(landmarks, size=images, p=sizes / sizes.sum())
    query_labels = random.choice(landmarks, size=queries, p=sizes / sizes.sum())
    index = Votes(index_labels, random.random(images).round(6).astype(np.float32))
    asked = Votes(query_labels, random.random(queries).round(6).astype(np.float32))
    groups = group_by_landmark(index)
    rows = np.stack([_make_list(random, label, groups, images, places) for label in query_labels])
    scores = -np.sort(-random.random(rows.shape), axis=1).astype(np.float32)
    return World(Ranking(rows.astype(np.int32), scores, images), asked, index)


def _make_list(random: np.random.Generator, label: int, groups: Any, images: int, places: int) -> np.ndarray:
    """`places` different rows: some of the landmark's, the others from anywhere, mixed."""
    start, stop = np.searchsorted(groups.labels, [label, label + 1])
    own = groups.rows[groups.offsets[start] : groups.offsets[stop]]
    found = own[random.random(len(own)) < random.random()][: random.integers(0, 2 * places // 3)]
    anywhere = np.setdiff1d(random.integers(0, images, places + 20), found)  # some of them may be repeats
    while len(anywhere) + len(found) < places:
        anywhere = np.setdiff1d(random.integers(0, images, 2 * places), found)
    rows = np.concatenate([found, random.permutation(anywhere)])[:places]
    return random.permutation(rows)


def make_tables(world: World, sample: int, labels: Callable[[int], Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the loop reads: the sampled queries with their lists as text, and the index by image id; labels as asked."""
    names = [f"{row:016x}" for row in range(len(world.index.labels))]
    index = pd.DataFrame(
        {"label": _column(world.index.labels, labels), "confidence": world.index.confidences.astype(float)},
        index=pd.Index(names),
    )
    lists = [" ".join(names[row] for row in rows) for rows in world.ranking.rows[:sample]]
    queries = pd.DataFrame(
        {
            "images": lists,
            "label": _column(world.queries.labels[:sample], labels),
            "confidence": world.queries.confidences[:sample],
        }
    )
    _rerank_one(queries.iloc[0], index)  # builds the index's hash table, which the loop's time leaves out
    return queries, index


def _column(labels: np.ndarray, form: Callable[[int], Any]) -> np.ndarray:
    return np.array([form(label) for label in labels.tolist()], dtype=object if form is str else np.int64)


def rerank_by_loop(queries: pd.DataFrame, index: pd.DataFrame) -> list[list[str]]:
    """The published shape: one query after the other, labels by .loc, positives by a scan of the whole index table."""
    return [_rerank_one(query, index) for _, query in queries.iterrows()]


def _rerank_one(query: pd.Series, index: pd.DataFrame) -> list[str]:
    images = query["images"].split(" ")
    labels = index.loc[images, "label"].to_numpy()
    positives = [name for name, label in zip(images, labels, strict=True) if label == query["label"]]
    negatives = [name for name, label in zip(images, labels, strict=True) if label != query["label"]]
    same = index[index["label"] == query["label"]]
    same = same.sort_values("confidence", ascending=False, kind="stable")
    listed = set(images)
    sums = (float(query["confidence"]) + same["confidence"]).round(6)
    inserted = [name for name in same.index[sums > MIN_CONFIDENCE] if name not in listed]
    return (positives + inserted + negatives)[: len(images)]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=117_577)
    parser.add_argument("--images", type=int, default=761_757)
    parser.add_argument("--landmarks", type=int, default=81_313)
    parser.add_argument("--places", type=int, default=100, help="length of a list")
    parser.add_argument("--sample", type=int, default=200, help="queries that the loop handles")
    add_json_argument(parser)
    asked = parser.parse_args()

    world = make_world(asked.queries, asked.images, asked.landmarks, asked.places)
    groups, grouping = timed(lambda: group_by_landmark(world.index))
    after_sort, sorting = timed(lambda: sort_step(world.ranking, world.queries.labels, world.index.labels))
    after_insert, inserting = timed(
        lambda: insert_step(after_sort, world.queries, groups, min_confidence=MIN_CONFIDENCE, top_k=asked.places)
    )
    ours = grouping + sorting + inserting
    sample = min(asked.sample, asked.queries)
    steps = {"index grouped by landmark": grouping, "sort-step": sorting, "insert-step": inserting, "together": ours}
    found: list[dict[str, Any]] = [{"step": name, "seconds": seconds, "ratio": None} for name, seconds in steps.items()]
    ids = [[f"{row:016x}" for row in rows] for rows in after_insert.rows[:sample]]
    for name, form in FORMS.items():
        tables = make_tables(world, sample, form)
        expected, looped = timed(partial(rerank_by_loop, *tables))
        assert ids == expected
        theirs = looped / sample * asked.queries
        what = f"pandas loop, landmarks as {name}, from {sample} queries"
        found.append({"step": what, "seconds": theirs, "ratio": theirs / ours})
    title = f"{asked.queries:,} queries x {asked.places}, {asked.images:,} index images, {asked.landmarks:,} landmarks"
    ratios = {f"sort + insert, pandas loop ({name})": row["ratio"] for name, row in zip(FORMS, found[-2:], strict=True)}
    publish({title: found}, asked.json, ratios=ratios)


if __name__ == "__main__":
    main()
