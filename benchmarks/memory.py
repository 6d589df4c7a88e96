"""Peak memory of a stage as a function of a setting: a line through two values, checked at a third.

    python -m benchmarks.memory

Each row is a setting that decides how much a stage holds, and what grows with it. The smallest and the greatest value
give a fixed part and MB a unit; the value between them is predicted and measured. The worlds are those of `growth.py`.
The fixed part is mostly libraries. Loader processes and a GPU are not in it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.growth import GLDV2, LIGHTER, VECTOR_CONFIG, WORLD_CONFIG, read_vectors, run_stages, write_vectors
from benchmarks.record import add_json_argument, publish

PART = 1 / 16  # of GLDv2's images
SQUARE = "models.cnn.base.template=[[128,128]]"
WORLD = ["demo.train_images=96", "demo.index_images=72", "demo.test_images=24", "demo.landmarks=8", *LIGHTER]


@dataclass(frozen=True)
class Case:
    """What decides the memory of a stage: three values in ascending order, how many units each makes.

    before: the stages whose artifacts it reads. settings: with a value, given the folder to work in.
    """

    stage: int
    setting: str
    values: tuple[int, int, int]
    unit: str
    units: Callable[[int], float]
    before: tuple[int, ...]
    config: str
    settings: Callable[[int, Path], list[str]]


def of_world(folder: Path, *settings: str) -> list[str]:
    """Settings of the demo world."""
    return [*WORLD, f"data.root={folder / 'world'}", *settings]


def of_vectors(folder: Path, dims: int, *settings: str) -> list[str]:
    """Settings of random descriptors, which are written if they are not there."""
    return [*read_vectors(write_vectors(PART, folder / f"vectors-{dims}", dims)), *settings]


CASES = (
    Case(
        2, "models.<name>.base.batch_size", (8, 16, 32), "an image of 128 x 128 px in a batch, ResNet-18", float,
        (1,), WORLD_CONFIG, lambda value, folder: of_world(folder, SQUARE, f"models.cnn.base.batch_size={value}"),
    ),
    Case(
        5, "extract.template", (128, 256, 512), "10,000 px of an image, ResNet-18", lambda side: side**2 / 1e4,
        (1, 2, 3, 4), WORLD_CONFIG, lambda side, folder: of_world(folder, f"extract.template=[[{side},{side}]]"),
    ),
    Case(
        6, "dimensions", (64, 128, 256), "MB of train's descriptors", lambda dims: GLDV2["train"] * PART * dims * 4e-6,
        (1, 5), VECTOR_CONFIG, lambda dims, folder: of_vectors(folder, dims),
    ),
    Case(
        10, "search.index_k", (50, 100, 200), "MB of lists: 8 bytes an image of a list",
        lambda k: GLDV2["test"] * PART * k * 8e-6,
        (1, 5, 6, 9), VECTOR_CONFIG, lambda k, folder: of_vectors(folder, 64, f"search.index_k={k}"),
    ),
)  # fmt: skip


def measure(case: Case, value: int, folder: Path) -> float:
    """MB at the peak of the stage with this value."""
    settings, outputs = case.settings(value, folder), folder / Path(case.config).stem
    run_stages(case.before, case.config, settings, outputs, force=False)
    ((_, megabytes),) = run_stages([case.stage], case.config, settings, outputs).values()
    return megabytes


def check(case: Case, folder: Path) -> dict[str, Any]:
    """The formula of a case, and how far it is off at the value between."""
    measured = [measure(case, value, folder) for value in case.values]
    units = [case.units(value) for value in case.values]
    each = (measured[2] - measured[0]) / (units[2] - units[0])
    fixed = measured[0] - each * units[0]
    predicted = fixed + each * units[1]
    return {
        "stage": case.stage, "setting": f"`{case.setting}`", "peak, MB": f"{fixed:,.0f} + {each:.3g} u",
        "u": case.unit, "values": ", ".join(map(str, case.values)),
        "measured, MB": ", ".join(f"{one:,.0f}" for one in measured), "middle by the formula": predicted,
        "off, %": 100 * (predicted / measured[1] - 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where worlds and runs are written; they are deleted at the end")
    add_json_argument(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        found = [check(case, Path(name)) for case in CASES]
    publish({"peak memory by setting": found}, asked.json)


if __name__ == "__main__":
    main()
