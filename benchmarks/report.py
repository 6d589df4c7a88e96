"""How large the report of many test images is, and how long it takes to make: python -m benchmarks.report [--images N]

Made-up lists, landmarks and answers of N test and N index images, which share a few photographs. The page is written
where --page says, so that a browser can be timed on it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.record import add_json_argument, publish
from pipeline.competition.evaluation import Part
from pipeline.competition.metrics import Truth
from pipeline.images.split import Split
from pipeline.ranking.recognition import Recognition
from pipeline.report.confidence import judge_answers
from pipeline.report.measures import RankedStep, judge_by_solution, measure_retrieval
from pipeline.report.misses import Reading
from pipeline.report.query_table import tabulate_queries
from pipeline.report.run_report import Run, render_report

PHOTOGRAPHS, LANDMARKS, TRAIN, LIST, TO_FIND = 40, 20_000, 50_000, 100, 6


def main() -> None:
    """Print megabytes and seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000, help="test and index images each")
    parser.add_argument("--page", type=Path, help="where the page is written")
    add_json_argument(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, metrics = make_run(given.images, Path(folder))
        start = time.perf_counter()
        page = render_report(run, metrics).encode()
        seconds = time.perf_counter() - start
    publish({"report": [{"test images": given.images, "MB": len(page) / 1e6, "seconds": seconds}]}, given.json)
    if given.page:
        given.page.write_bytes(page)


def make_run(count: int, folder: Path) -> tuple[Run, dict]:
    """A run of `count` test and index images, and its metrics."""
    rng = np.random.default_rng(0)
    for number in range(PHOTOGRAPHS):
        noise = cv2.resize(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), (800, 600), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.jpg"), noise)
    test, index, train = (_make_split(rng, size, folder) for size in (count, count, TRAIN))
    relevant = Truth.from_lists(rng.integers(0, count, (count, TO_FIND)).tolist())
    first = rng.integers(0, count, (count, LIST)).astype(np.int32)
    last = first.copy()
    places = rng.integers(0, LIST, count)
    last[np.arange(count), places] = relevant.values[relevant.offsets[:-1]]
    steps = [RankedStep("knn", first, 1.0), RankedStep("sort", last, 2.0)]
    part, shows = Part(np.arange(count), relevant), rng.integers(0, LANDMARKS, (count, 1))
    answer = Recognition(np.where(rng.random(count) < 0.5, shows[:, 0], 3), rng.random(count).astype(np.float32))
    right = Truth.from_lists(shows.tolist())
    judged = judge_by_solution(steps, part)
    near = rng.integers(0, TRAIN, (count, 3)).astype(np.int32), rng.random((count, 3)).astype(np.float32)
    names = {number: f"A landmark of number {number}" for number in range(LANDMARKS)}
    votes = answer.labels, rng.integers(0, LANDMARKS, count)
    reading = Reading(*votes, *near, train.table["landmark"].to_numpy(), names, right)
    run = Run(
        "many", test, index, train, judged,
        names=names, reading=reading, votes=3, queries=tabulate_queries(test, judged, answer, right),
        recognition=judge_answers(*answer, Part(np.arange(count), right)),
    )  # fmt: skip
    return run, {"retrieval": measure_retrieval({"recipe": steps}, {"all": part}), "seconds": {}}


def _make_split(rng: np.random.Generator, count: int, folder: Path) -> Split:
    paths = np.array([f"{number}.jpg" for number in range(PHOTOGRAPHS)])[rng.integers(0, PHOTOGRAPHS, count)]
    ids = [f"{number:016x}" for number in rng.integers(0, 2**62, count).tolist()]
    return Split(pd.DataFrame({"id": ids, "path": paths, "landmark": rng.integers(0, LANDMARKS, count)}), folder)


if __name__ == "__main__":
    main()
