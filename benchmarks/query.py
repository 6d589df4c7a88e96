"""Opening and asking a run of many images: seconds and memory, on a finished run that is enlarged by random images.

    python -m benchmarks.query outputs/demo photo.jpg [more photographs] --images 100000

Index and train get random descriptors beside their own, and the run's local features again and again (70 KB an image
in the demo, on the disk). The recipe of the run must not need the neighbours of the index in itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import layout
from pipeline.artifacts import Trust
from pipeline.config import Config
from pipeline.run_settings import load_run
from pipeline.runner import Pipeline, load_stages
from pipeline.task_context import TaskContext

BLOCK = 16_384


def read_memory() -> dict[str, float]:
    """The resident memory of this process in MB: all, mapped files that were read among it, and its own (RssAnon)."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {line[0]: int(line[1]) / 1024 for line in lines if line[0] in ("VmRSS:", "RssAnon:")}


def enlarge_table(path: Path, count: int, folder: Path) -> Path:
    """The table of a split with its images repeated to `count`, under other ids."""
    table = pd.read_parquet(path)
    more = table.iloc[np.arange(count) % len(table)].reset_index(drop=True)
    more.loc[len(table) :, "id"] = [f"copy{row}" for row in range(len(table), count)]
    more.to_parquet(folder / path.name)
    return folder / path.name


def enlarge_descriptors(source: Path, count: int, folder: Path) -> Path:
    """The descriptors of a split, and random ones up to `count`."""
    folder.mkdir(parents=True)
    own = np.load(source / "descriptors.npy")
    made = np.lib.format.open_memmap(folder / "descriptors.npy", "w+", np.float32, (count, own.shape[1]))
    made[: len(own)] = own
    random = np.random.default_rng(0)
    for start in range(len(own), count, BLOCK):
        block = random.standard_normal((min(BLOCK, count - start), own.shape[1])).astype(np.float32)
        made[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    made.flush()
    return folder


def enlarge_features(source: Path, count: int, folder: Path) -> Path:
    """The local features of a split, repeated to `count` images."""
    folder.mkdir(parents=True)
    own = np.diff(np.load(source / "offsets.npy"))
    offsets = np.concatenate([[0], np.cumsum(np.resize(own, count))])
    np.save(folder / "offsets.npy", offsets)
    for name in ("points", "scales", "attention", "descriptors"):
        values = np.load(source / f"{name}.npy")
        made = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", values.dtype, (int(offsets[-1]), *values.shape[1:])
        )
        for start in range(0, len(made), len(values)):
            made[start : start + len(values)] = values[: len(made) - start]
        made.flush()
    return folder


def enlarge_run(task: TaskContext, config: Config, count: int, folder: Path) -> TaskContext:
    """What a query reads, with `count` images in index and in train."""
    inputs = dict(task.inputs)
    for reference, path in task.inputs.items():
        artifact, _ = layout.split_reference(reference)
        split = next((split for split in ("index", "train") if artifact.endswith(f"/{split}")), "")
        if reference in (layout.images("index"), layout.images("train")):
            inputs[reference] = enlarge_table(path, count, folder)
        elif split and (path / "descriptors.npy").exists() and not (path / "offsets.npy").exists():
            inputs[reference] = enlarge_descriptors(path, count, folder / artifact)
        elif split and (path / "offsets.npy").exists():
            inputs[reference] = enlarge_features(path, count, folder / artifact)
    votes = pd.read_parquet(inputs[layout.votes("index")])
    more = votes.iloc[np.arange(count) % len(votes)].reset_index(drop=True)
    more.to_parquet(folder / "votes.parquet")
    inputs[layout.votes("index")] = folder / "votes.parquet"
    compared = f"{layout.neighbours('test', 'index')}:rows.npy"
    if compared in inputs:  # all images have local features
        np.save(folder / "rows.npy", np.resize(np.arange(count, dtype=np.int32), (count // 100 + 1, 100)))
        inputs[compared] = folder / "rows.npy"
    return TaskContext(folder, inputs, workers=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=100_000, help="of index and of train")
    given = parser.parse_args()
    from pipeline.query.index_side import list_references
    from pipeline.query.opened_run import OpenedRun

    config = load_run(given.run)
    small = Pipeline(config, load_stages(), Trust(code=True, outside=True)).open_inputs(list_references(config))
    with tempfile.TemporaryDirectory(dir=given.run.parent) as name:
        task = enlarge_run(small, config, given.images, Path(name))
        before = read_memory()
        start = time.perf_counter()
        run = OpenedRun(task, config)
        opened = time.perf_counter() - start
        seconds = []
        for path in given.photographs:
            start = time.perf_counter()
            answer = run.search(path, compared=100)
            seconds.append(time.perf_counter() - start)
        after = read_memory()
    print(f"{given.images} index images, {given.images} train images, {len(answer)} in a list, 100 of them verified")
    print(f"opened in {opened:.2f} s, first answer in {seconds[0]:.2f} s")
    if later := seconds[1:]:
        print(f"then {np.median(later):.2f} s an answer (median of {len(later)}), {max(later):.2f} s at most")
    for key, value in after.items():
        print(f"{key:8} {value:6.0f} MB, before opening {before[key]:.0f} MB")


if __name__ == "__main__":
    main()
