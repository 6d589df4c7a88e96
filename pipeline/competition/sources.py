"""The data source that the setting data.source names: its photographs, and the ground truth of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.competition.benchmark import PHOTOGRAPHS, Benchmark, add_distractors, add_train, list_benchmark_sources
from pipeline.competition.dataset import Dataset
from pipeline.competition.folders import list_folders, read_folders
from pipeline.competition.gldv2 import BOXES, NAMES, list_gldv2_sources, read_gldv2
from pipeline.competition.holidays import read_holidays
from pipeline.competition.junk import Judgements
from pipeline.competition.leave_out import leave_out
from pipeline.competition.links import check_links
from pipeline.competition.revisited import find_ground_truth, read_revisited
from pipeline.competition.train_clean import CLEAN_LIST
from pipeline.settings import SPLITS, DataSettings


def read_source(data: DataSettings, names: Sequence[str] = SPLITS) -> tuple[Dataset, Mapping[str, Judgements]]:
    """The photographs, and the judgements of each setup when the data is a benchmark, else none.

    names: the splits to read; a benchmark always has all three. Train is without what data.leave_out names. Raises
    PipelineError for data that is missing or broken, and for links that lead out of the data folder unless
    data.follow_links.
    """
    check_source_links(data, names)
    dataset, setups = _read_own(data, data.root.absolute(), names)
    return (dataset if data.leave_out is None else leave_out(dataset, data.leave_out)), setups


def _read_own(data: DataSettings, root: Path, names: Sequence[str]) -> tuple[Dataset, Mapping[str, Judgements]]:
    if data.source == "folders":
        return read_folders(root, names), {}
    if not data.is_benchmark:
        return read_gldv2(root, data.layout, names), {}
    benchmark = _read_benchmark(data, root)
    if data.train_root is not None:
        benchmark = add_train(benchmark, data.train_root.absolute(), data.layout)
    if data.distractors is not None:
        benchmark = add_distractors(benchmark, data.distractors.absolute())
    return benchmark.dataset, benchmark.setups


def list_sources(data: DataSettings, names: Sequence[str] = SPLITS) -> dict[str, Path]:
    """The files, and the folders of photographs, that `read_source` and the decoder read, by name."""
    root = data.root.absolute()
    check_source_links(data, names)  # before any folder is walked through: links in circles have no end
    return _list_own(data, root, names) | ({"leave_out": data.leave_out.absolute()} if data.leave_out else {})


def _list_own(data: DataSettings, root: Path, names: Sequence[str]) -> dict[str, Path]:
    if data.source == "folders":
        return list_folders(root, names)
    if not data.is_benchmark:
        listed = list_gldv2_sources(root, names)
        return listed if data.photographs else {name: path for name, path in listed.items() if not name.endswith("/")}
    ground_truth = find_ground_truth(root, data.ground_truth) if data.source == "revisited" else None
    return list_benchmark_sources(root, ground_truth, _absolute(data.train_root), _absolute(data.distractors))


def check_source_links(data: DataSettings, names: Sequence[str]) -> None:
    """Raise PipelineError for links below the folders of the settings that `check_links` refuses."""
    tables = [CLEAN_LIST, BOXES, *NAMES]
    own = [PHOTOGRAPHS] if data.is_benchmark else [*names, *(f"{name}.csv" for name in names), *tables]
    read = {
        data.root: ["."] if data.is_searched_in_itself else own,
        data.train_root: ["train", "train.csv", *tables],
        data.distractors: ["."],
    }
    for root, below in read.items():
        if root is not None:
            check_links(root.absolute(), below, data.follow_links)


def _read_benchmark(data: DataSettings, root: Path) -> Benchmark:
    if data.source == "holidays":
        return read_holidays(root)
    return read_revisited(find_ground_truth(root, data.ground_truth))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
