"""Benchmarks: queries and a database with judgements of each pair that matters, instead of a competition's solution.

A benchmark has one or more *setups* (easy, medium, hard), each with positives and junk of its own, and is ranked and
scored apart in each. The splits are those of a competition: the queries are test, the database is index. Train is empty
unless a labelled train set is added.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import hash_file
from pipeline.competition.benchmark_metrics import Judgements
from pipeline.competition.metrics import Truth
from pipeline.competition.tables import (
    BOXES,
    CLEAN_LIST,
    ID,
    SUFFIXES,
    Box,
    Dataset,
    Split,
    read_gldv2,
    walk_files,
)
from pipeline.errors import PipelineError

PHOTOGRAPHS = "jpg"  # the folder that these sets come in
DISTRACTOR = "distractor_"  # what the ids of further photographs start with
JUDGEMENTS = "judgements.parquet"
COLUMNS = ("setup", "query", "image", "junk")


@dataclass(frozen=True)
class Benchmark:
    """The photographs, and the judgements of each setup by number of query in test and of image in index."""

    dataset: Dataset
    setups: Mapping[str, Judgements]


def lay_out(
    queries: Sequence[str], images: Sequence[str], boxes: Sequence[Box] | None, setups: Mapping[str, Judgements]
) -> Benchmark:
    """The benchmark whose photographs lie at jpg/<name>.jpg; setups in which nothing is to be found are left out.

    An image's id is its name, and so is a query's; one that the database lists too, or that is asked twice, gets the id
    q<number>_<name>: an id names one photograph of one split here.
    """
    taken = set(images)
    test_ids = []
    for number, name in enumerate(queries):
        test_ids.append(f"q{number:02d}_{name}" if name in taken else name)
        taken.add(test_ids[-1])
    cut = dict(zip(test_ids, boxes, strict=True)) if boxes is not None else {}
    splits = {
        "train": Split([], [], []),
        "index": Split(list(images), [f"{PHOTOGRAPHS}/{name}.jpg" for name in images]),
        "test": Split(test_ids, [f"{PHOTOGRAPHS}/{name}.jpg" for name in queries], None, cut),
    }
    found = {name: one for name, one in setups.items() if len(one.positives.values)}
    if not found:
        raise PipelineError("no query has anything to be found", "the judgements", "fetch the data again")
    return Benchmark(Dataset(splits), found)


def add_train(benchmark: Benchmark, root: Path, layout: str = "auto") -> Benchmark:
    """The benchmark with the train set of the GLDv2 data below `root`, its clean list too. Its paths are absolute.

    Raises PipelineError as `read_gldv2` does, and for an id that the benchmark has too.
    """
    given = read_gldv2(root, layout, ("train",))
    train = given.splits["train"]
    train = replace(train, paths=[str(root / path) for path in train.paths])
    taken = {name for split in ("index", "test") for name in benchmark.dataset.splits[split].ids}
    both = next((name for name in train.ids if name in taken), None)
    if both is not None:
        raise PipelineError(f"the id {both} is in the benchmark too", root, "data.train_root must be another data set")
    splits = {**benchmark.dataset.splits, "train": train}
    return replace(benchmark, dataset=Dataset(splits, given.clean_list))


def add_distractors(benchmark: Benchmark, folder: Path) -> Benchmark:
    """The benchmark with all photographs below `folder` behind its database: negatives for every query (R1M).

    Their ids are distractor_<path below the folder>, their paths absolute. Their descriptors are made in shards and
    searched in blocks like those of any index: beside their names, nothing of them is held at once.
    """
    if not folder.is_dir():
        raise PipelineError("the folder of distractors is not there", folder, "correct data.distractors")
    found = [path for path, _ in walk_files(folder) if path.lower().endswith(SUFFIXES)]
    if not found:
        raise PipelineError("no photographs below the folder of distractors", folder, "unpack the archives there")
    names = [DISTRACTOR + re.sub(r"[^A-Za-z0-9_.-]", "_", path.rpartition(".")[0]) for path in found]
    own = benchmark.dataset.splits["index"]
    ids = own.ids + names
    if len(set(ids)) < len(ids):
        raise PipelineError("two distractors get one id", folder, "rename one: what is no letter or digit becomes '_'")
    index = replace(own, ids=ids, paths=own.paths + [str(folder / path) for path in found])
    return replace(benchmark, dataset=replace(benchmark.dataset, splits=benchmark.dataset.splits | {"index": index}))


def check_names(names: Sequence[str], path: Path) -> None:
    """PipelineError unless every name can be an id, and occurs once."""
    bad = next((name for name in names if not ID.fullmatch(name)), None)
    if bad is not None:
        raise PipelineError(f"{bad[:60]!r} is no name of a photograph", path, "fetch the file again")
    if len(set(names)) < len(names):
        raise PipelineError("a photograph is listed twice", path, "fetch the file again from its publisher")


# ---- Judgements of the photographs that can be read -----------------------------------------------------------------


def renumber(judged: Judgements, kept_queries: NDArray[np.bool_], kept_images: NDArray[np.bool_]) -> Judgements:
    """The judgements by rows of the tables of stage 01, from which some photographs are missing.

    kept_queries (Q,), kept_images (N,): what is in the tables. What is not comes behind all that is: a positive that no
    list can hold is still one to find, and a query without a list has found nothing.
    """
    queries, images = (_rows_of(kept) for kept in (kept_queries, kept_images))

    def moved(truth: Truth) -> Truth:
        query = np.repeat(np.arange(len(truth)), truth.counts)
        return Truth.from_pairs(queries[query], images[truth.values], len(truth))

    return Judgements(moved(judged.positives), moved(judged.junk))


def _rows_of(kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = np.empty(len(kept), np.int64)
    rows[np.argsort(~kept, kind="stable")] = np.arange(len(kept))
    return rows


def write_kept_judgements(folder: Path, setups: Mapping[str, Judgements], dataset: Dataset, rejected: set[str]) -> None:
    """Write judgements.parquet by rows of the tables that `rejected` ids are not in; nothing when there are no setups.

    Its columns are setup, query, image, junk; it has a row a judged pair.
    """
    kept = {name: np.array([i not in rejected for i in split.ids], bool) for name, split in dataset.splits.items()}
    if setups:
        renumbered = {name: renumber(judged, kept["test"], kept["index"]) for name, judged in setups.items()}
        write_judgements(folder / JUDGEMENTS, renumbered)


def write_judgements(path: Path, setups: Mapping[str, Judgements]) -> None:
    """Write the judgements of one setup or more as `read_judgements` reads them."""
    parts = []
    for name, judged in setups.items():
        for junk, truth in ((False, judged.positives), (True, judged.junk)):
            queries = np.repeat(np.arange(len(truth)), truth.counts)
            parts.append(pd.DataFrame({"setup": name, "query": queries, "image": truth.values, "junk": junk}))
    table = pd.concat(parts, ignore_index=True)
    table.to_parquet(path, index=False)


def read_judgements(path: Path, queries: int) -> dict[str, Judgements]:
    """The setups in the order in which they were written. queries: how many lists there are; more may be judged."""
    table = pd.read_parquet(path, columns=list(COLUMNS))
    count = max(queries, int(table["query"].max()) + 1)
    setups = {}
    for name, rows in table.groupby("setup", sort=False):
        parts = (rows[rows["junk"] == junk] for junk in (False, True))
        truths = [Truth.from_pairs(part["query"].to_numpy(), part["image"].to_numpy(), count) for part in parts]
        setups[str(name)] = Judgements(*truths)
    return setups


# ---- Freshness ------------------------------------------------------------------------------------------------------


def digest_benchmark(
    root: Path, ground_truth: Path | None, train_root: Path | None, distractors: Path | None
) -> dict[str, str]:
    """Digests of everything that stage 01 reads of a benchmark: tables by content, photographs by path and size."""
    tables = [ground_truth] if ground_truth is not None else []
    folders = {f"{PHOTOGRAPHS}/": root / PHOTOGRAPHS}
    if train_root is not None:
        tables += [train_root / name for name in ("train.csv", CLEAN_LIST, BOXES)]
        folders["train/"] = train_root / "train"
    if distractors is not None:
        folders["distractors/"] = distractors
    digests: dict[str, Any] = {path.name: hash_file(path) if path.is_file() else "missing" for path in tables}
    for name, folder in folders.items():
        listing = hashlib.sha256()
        for path, size in walk_files(folder):
            listing.update(f"{path} {size}\n".encode(errors="surrogateescape"))
        digests[name] = listing.hexdigest()
    return digests
