"""Benchmarks: queries and a database with a ground truth for each query, instead of a competition's solution.

A benchmark has one or more *setups* (easy, medium, hard), each with its own positives and junk; every setup is ranked
and scored separately. The splits are those of a competition: the queries are test, the database is index. Train is
empty unless a labelled train set is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.competition.dataset import (
    ID,
    Box,
    Dataset,
    SplitListing,
    refuse_unreadable_names,
    replace_unsafe_characters,
)
from pipeline.competition.gldv2 import BOXES, read_gldv2
from pipeline.competition.junk import Judgements
from pipeline.competition.listing import list_photographs
from pipeline.competition.train_clean import CLEAN_LIST
from pipeline.errors import PipelineError

PHOTOGRAPHS = "jpg"  # the folder of the photographs in the published archives
DISTRACTOR = "distractor_"  # the prefix of the ids of distractors


@dataclass(frozen=True)
class Benchmark:
    """The photographs, and the judgements of each setup: queries by their position in test, images by that in index."""

    dataset: Dataset
    setups: Mapping[str, Judgements]


def assemble_benchmark(
    queries: Sequence[str], images: Sequence[str], boxes: Sequence[Box] | None, setups: Mapping[str, Judgements]
) -> Benchmark:
    """The benchmark whose photographs lie at jpg/<name>.jpg, without the setups in which no query has a positive.

    The id of an image or a query is its name. A query whose name is taken, by a database image or an earlier query,
    gets the id q<number>_<name>, because an id names one photograph of one split. Raises PipelineError when no setup is
    left.
    """
    taken = set(images)
    test_ids = []
    for number, name in enumerate(queries):
        test_ids.append(f"q{number:02d}_{name}" if name in taken else name)
        taken.add(test_ids[-1])
    box_of = dict(zip(test_ids, boxes, strict=True)) if boxes is not None else {}
    splits = {
        "train": SplitListing([], [], []),
        "index": SplitListing(list(images), [f"{PHOTOGRAPHS}/{name}.jpg" for name in images]),
        "test": SplitListing(test_ids, [f"{PHOTOGRAPHS}/{name}.jpg" for name in queries], None, box_of),
    }
    answerable = {name: judged for name, judged in setups.items() if len(judged.positives.values)}
    if not answerable:
        raise PipelineError("no query has a positive", "the ground truth", "fetch the data again")
    return Benchmark(Dataset(splits), answerable)


def add_train(benchmark: Benchmark, root: Path, layout: str = "auto") -> Benchmark:
    """The benchmark with the train split and the clean list of the GLDv2 data below `root`. Its paths are absolute.

    Raises PipelineError as `read_gldv2` does, and for an id that the benchmark has too.
    """
    labelled = read_gldv2(root, layout, ("train",))
    train = labelled.splits["train"]
    train = replace(train, paths=[str(root / path) for path in train.paths])
    taken = {name for split in ("index", "test") for name in benchmark.dataset.splits[split].ids}
    shared = next((name for name in train.ids if name in taken), None)
    if shared is not None:
        raise PipelineError(
            f"the id {shared} is in the benchmark too", root, "data.train_root must be another data set"
        )
    splits = {**benchmark.dataset.splits, "train": train}
    return replace(benchmark, dataset=Dataset(splits, labelled.clean_list))


def add_distractors(benchmark: Benchmark, folder: Path) -> Benchmark:
    """The benchmark with all photographs below `folder` added after its database: negatives for every query (as R1M).

    Their ids are distractor_<path below the folder>, their paths are absolute. Only the names are held in memory: their
    descriptors are computed in shards and searched in blocks like those of any index. Raises PipelineError.
    """
    if not folder.is_dir():
        raise PipelineError("the folder of distractors is not there", folder, "correct data.distractors")
    found = list_photographs(folder)
    refuse_unreadable_names(found, folder)
    if not found:
        raise PipelineError("no photographs below the folder of distractors", folder, "unpack the archives there")
    database = benchmark.dataset.splits["index"]
    ids = database.ids + [DISTRACTOR + replace_unsafe_characters(path.rpartition(".")[0]) for path in found]
    if len(set(ids)) < len(ids):
        hint = "rename one: characters other than letters, digits, '_', '-' and '.' become '_'"
        raise PipelineError("two distractors get the same id", folder, hint)
    index = replace(database, ids=ids, paths=database.paths + [str(folder / path) for path in found])
    return replace(benchmark, dataset=replace(benchmark.dataset, splits=benchmark.dataset.splits | {"index": index}))


def check_names(names: Sequence[str], path: Path) -> None:
    """Raise PipelineError unless every name can be an id and occurs once."""
    bad = next((name for name in names if not ID.fullmatch(name)), None)
    if bad is not None:
        raise PipelineError(f"{bad[:60]!r} cannot be the name of a photograph", path, "fetch the file again")
    if len(set(names)) < len(names):
        raise PipelineError("a photograph is listed twice", path, "fetch the file again from its publisher")


def list_benchmark_sources(
    root: Path, ground_truth: Path | None, train_root: Path | None, distractors: Path | None
) -> dict[str, Path]:
    """The files and folders that `read_source` and the decoder read of a benchmark, by name."""
    found = {f"{PHOTOGRAPHS}/": root / PHOTOGRAPHS}
    if ground_truth is not None:
        found[ground_truth.name] = ground_truth
    if train_root is not None:
        found |= {name: train_root / name for name in ("train.csv", CLEAN_LIST, BOXES)}
        found["train/"] = train_root / "train"
    if distractors is not None:
        found["distractors/"] = distractors
    return found
