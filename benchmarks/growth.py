"""Seconds and peak memory of every stage against the size of its work, and the exponents with which they grow.

    python -m benchmarks.growth                            worlds of photographs, and descriptors up to GLDv2's numbers
    python -m benchmarks.growth --worlds 1 4 --vectors 0.004

--worlds: the demo world of configs/smoke.toml (96 px, an untrained ResNet-18) with so many times 32 train, 24 index
and 8 test photographs. --vectors: random descriptors of 64 dimensions, this part of GLDv2's 1,580,470 (clean) train,
761,757 index and 117,577 test images; --approximate: the same with an inverted file in place of exact search, whose
seconds grow with the square. Every stage runs in a process of its own. Seconds are processor time of the process, its
start of some seconds included; memory is the most that it held, by its manifests.

Exponents are those of a fixed part and a power of the size, through the three largest sizes: 1 = linear.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, Rows, add_json_argument, publish

PHOTOGRAPHS = {"train": 32, "index": 24, "test": 8}
GLDV2 = {"train": 1_580_470, "index": 761_757, "test": 117_577}
LANDMARKS, DIMS, NOISE = 81_313, 64, 0.9
BLOCK = 1 << 16
NOISE_SECONDS, NOISE_MB = 0.3, 10.0  # what differs between two runs of the same work
FACTORY = "search.index_factory"
WORLD_CONFIG, WORLD_STAGES = "configs/smoke.toml", range(1, 13)
VECTOR_CONFIG, VECTOR_STAGES = "configs/vectors.toml", (1, 5, 6, 9, 10, 11)
RECIPES = ["rerank.recipe=['knn','sort','insert']", "rerank.baselines={label_score=['knn','label_score']}"]
LIGHTER = [  # than smoke.toml, which saves every step and looks at seven scales
    "models.cnn.base.checkpoint_steps=1000", "models.cnn.final.checkpoint_steps=1000", "local.scales=[0.70710678,1.0]",
    "clean.min_inliers=3", "clean.min_neighbours=1",
]  # fmt: skip
Measured = dict[str, tuple[float, float]]  # stage -> seconds, MB at the peak


def run_stages(
    numbers: Iterable[int], config: str, settings: Sequence[str], outputs: Path, force: bool = True
) -> Measured:
    """Run stages one after the other, each in a new process; their processor time, and what their manifests say."""
    scripts = {int(path.name[:2]): path for path in sorted((ROOT / "stages").glob("[0-9]*.py"))}
    found: Measured = {}
    for number in numbers:
        script = scripts[number]
        command = [sys.executable, str(script), *(["--force"] * force), "--config", config, *settings]
        command.append(f"runtime.outputs={outputs}")
        with tempfile.TemporaryFile() as console:
            process = subprocess.Popen(command, cwd=ROOT, stdout=console, stderr=console)
            _, status, used = os.wait4(process.pid, 0)
            if status:
                console.seek(0)
                raise SystemExit(f"{' '.join(command)} failed:\n{console.read().decode()[-1000:]}")
        manifests = [json.loads(path.read_text()) for path in outputs.glob(f"*/{number:02d}_*/**/manifest.json")]
        peaks = [manifest["peak_bytes"] for manifest in manifests]
        found[script.stem] = used.ru_utime + used.ru_stime, max(peaks, default=0) / 1e6
    return found


def measure_world(times: int, folder: Path) -> Measured:
    """All stages of a demo world, which stage 01 renders."""
    counts = {split: times * count for split, count in PHOTOGRAPHS.items()}
    settings = [f"demo.{split}_images={count}" for split, count in counts.items()]
    settings += [f"demo.landmarks={4 * times}", f"data.root={folder / 'world'}", *LIGHTER]
    return run_stages(WORLD_STAGES, WORLD_CONFIG, settings, folder / f"worlds-{times}")


def measure_vectors(part: float, folder: Path, *settings: str) -> Measured:
    """The stages that descriptors go through."""
    data, outputs = write_vectors(part, folder / f"{part}"), folder / "outputs"
    measured = run_stages(VECTOR_STAGES, VECTOR_CONFIG, [*read_vectors(data), *settings], outputs)
    shutil.rmtree(outputs)
    return measured


def read_vectors(data: Path) -> list[str]:
    """The settings that read what `write_vectors` wrote."""
    return [f"data.root={data}", f"models.mine.descriptors={data}", *RECIPES]


def write_vectors(part: float, folder: Path, dims: int = DIMS) -> Path:
    """Tables and descriptors about random directions of landmarks, in GLDv2's format; nothing if they are there."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(2, round(LANDMARKS * part)), dims), dtype=np.float32)
    for split, count in GLDV2.items():
        count = round(count * part)
        landmarks = rng.integers(0, len(centres), count)
        ids = [f"{split[1]}{row:015x}" for row in range(count)]
        (folder / f"{split}_ids.txt").write_text("".join(f"{one}\n" for one in ids))
        lines = (f"{one},{label}\n" for one, label in zip(ids, landmarks.tolist(), strict=True))
        titles, lines = ("id,landmark_id\n", lines) if split == "train" else ("id\n", (f"{one}\n" for one in ids))
        (folder / f"{split}.csv").write_text(titles + "".join(lines))
        matrix = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, (count, dims))
        for start in range(0, count, BLOCK):
            own = centres[landmarks[start : start + BLOCK]]
            matrix[start : start + BLOCK] = own + NOISE * rng.standard_normal(own.shape, dtype=np.float32)
        matrix.flush()
    return folder


def tabulate(sizes: Sequence[float], measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """A row per stage: seconds and MB of every size, and the exponents of both."""
    for stage in measured[0]:
        values = [one[stage] for one in measured]
        row: dict[str, Any] = {"stage": stage}
        row |= {f"s, × {size:g}": round(value[0], 2) for size, value in zip(sizes, values, strict=True)}
        row["exponent"] = find_exponent(sizes, [seconds for seconds, _ in values], NOISE_SECONDS)
        row |= {f"MB, × {size:g}": round(value[1]) for size, value in zip(sizes, values, strict=True)}
        row["exponent of MB"] = find_exponent(sizes, [megabytes for _, megabytes in values], NOISE_MB)
        yield row


def find_exponent(sizes: Sequence[float], values: Sequence[float], noise: float) -> float | None:
    """p of the three largest values as a fixed part and a power of the size, a + b size^p, to be found between 0 and 4.

    None where the last value is not above the one before by more than `noise`, or where there are fewer than three.
    """
    if len(sizes) < 3 or values[-1] - values[-2] <= noise:
        return None
    first, second, third = sizes[-3:]
    powers = np.linspace(0.01, 4, 400)
    ratios = (third**powers - second**powers) / (second**powers - first**powers)
    found = (values[-1] - values[-2]) / max(values[-2] - values[-3], noise)
    return round(float(np.interp(found, ratios, powers)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, nargs="*", default=[1, 4, 16], metavar="TIMES")
    parser.add_argument("--vectors", type=float, nargs="*", default=[1 / 64, 1 / 32, 1 / 16], metavar="PART")
    parser.add_argument("--approximate", type=float, nargs="*", default=[1 / 16, 1 / 4, 1], metavar="PART")
    parser.add_argument("--factory", default="IVF1024,Flat", help="of the approximate index (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where worlds and runs are written; they are deleted at the end")
    add_json_argument(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        works: dict[str, tuple[Sequence[float], Callable[[Any], Measured]]] = {
            "worlds": (asked.worlds, lambda times: measure_world(times, Path(name))),
            "vectors": (asked.vectors, lambda part: measure_vectors(part, Path(name))),
            "approximate": (
                asked.approximate,
                lambda part: measure_vectors(part, Path(name), f"{FACTORY}={asked.factory}"),
            ),
        }
        tables: dict[str, Rows] = {}
        series: dict[str, Any] = {}
        for title, (sizes, measure) in works.items():
            measured: list[Measured] = []
            for size in sizes:  # published after each: the larger ones take minutes
                measured.append(measure(size))
                tables[title] = list(tabulate(sizes[: len(measured)], measured))
                series[title] = {"sizes": sizes[: len(measured)], "stages": measured}
                publish(tables, asked.json, series=series)


if __name__ == "__main__":
    main()
