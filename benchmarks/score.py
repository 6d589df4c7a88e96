"""Time and peak memory of scoring submission files of GLDv2's size, the start of the command included.

    python -m benchmarks.score [--queries 117577] [--folder a/folder/with/400/MB]

The files are random: lists of 100 index ids per query, and one label per query for recognition. One retrieval solution
scores as many queries as GLDv2's does, the other scores them all, with 30 relevant images each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import add_json_argument, publish
from pipeline.processes import start_workers

INDEX_IMAGES, LANDMARKS = 761_757, 81_313
SCORED = 1_129  # queries of GLDv2's retrieval solution that are not ignored
BLOCK = 2_048


def draw_ids(rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` ids of 16 hexadecimal digits."""
    return np.array([f"{number:016x}" for number in rng.integers(0, 2**63, count)])


def write_retrieval(folder: Path, queries: int, rng: np.random.Generator) -> None:
    """Write retrieval.csv, and its solutions solution_some.csv and solution_all.csv."""
    test, index = draw_ids(rng, queries), draw_ids(rng, INDEX_IMAGES)
    usage = rng.choice(["Public", "Private"], queries, p=[1 / 3, 2 / 3])
    with open(folder / "retrieval.csv", "w") as lists:
        lists.write("id,images\n")
        for start in range(0, queries, BLOCK):
            names = test[start : start + BLOCK]
            rows = index[rng.integers(0, INDEX_IMAGES, (len(names), 100))].tolist()
            lists.writelines(f"{name},{' '.join(row)}\n" for name, row in zip(names, rows, strict=True))
    with open(folder / "solution_some.csv", "w") as some, open(folder / "solution_all.csv", "w") as every:
        for file in (some, every):
            file.write("id,images,Usage\n")
        for number, name in enumerate(test):
            line = f"{name},{' '.join(index[rng.integers(0, INDEX_IMAGES, 30)])},{usage[number]}\n"
            every.write(line)
            some.write(line if number < SCORED else f"{name},None,Ignored\n")


def write_recognition(folder: Path, queries: int, rng: np.random.Generator) -> None:
    """Write recognition.csv and its solution solution_landmarks.csv, in which every seventh image shows a landmark."""
    labels, scores = rng.integers(0, LANDMARKS, queries), rng.random(queries)
    with open(folder / "recognition.csv", "w") as answers, open(folder / "solution_landmarks.csv", "w") as solution:
        answers.write("id,landmarks\n")
        solution.write("id,landmarks,Usage\n")
        for number, name in enumerate(draw_ids(rng, queries)):
            answers.write(f"{name},{labels[number]} {scores[number]:.6f}\n")
            solution.write(
                f"{name},{labels[number] if number % 7 == 0 else ''},{'Public' if number % 3 else 'Private'}\n"
            )


def write_files(folder: Path, queries: int) -> None:
    """Write all files."""
    rng = np.random.default_rng(0)
    write_retrieval(folder, queries, rng)
    write_recognition(folder, queries, rng)


def measure(folder: Path, solution: str, submission: str) -> dict[str, Any]:
    """The time and peak memory of scoring these two files."""
    files = ["--solution", str(folder / solution), "--submission", str(folder / submission)]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pipeline.score", *files], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"scoring {submission} by {solution} failed")
    row: dict[str, Any] = {"submission": submission, "solution": solution, "seconds": seconds}
    return row | {"of them processor time": used.ru_utime + used.ru_stime, "MB": used.ru_maxrss / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=117_577)
    parser.add_argument("--folder", type=Path, help="where the files are written; they are deleted at the end")
    add_json_argument(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        folder = Path(made)
        with start_workers(1) as pool:  # peak memory of a process includes that of its parent
            pool.submit(write_files, folder, asked.queries).result()
        pairs = (
            ("solution_some.csv", "retrieval.csv"),
            ("solution_all.csv", "retrieval.csv"),
            ("solution_landmarks.csv", "recognition.csv"),
        )
        found = [measure(folder, *pair) for pair in pairs]
    publish({f"{asked.queries:,} queries": found}, asked.json)


if __name__ == "__main__":
    main()
