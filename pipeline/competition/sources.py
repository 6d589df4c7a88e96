"""Where photographs and what is right about them come from, by the setting data.source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.competition.benchmark import Benchmark, add_distractors, add_train, digest_benchmark
from pipeline.competition.benchmark_metrics import Judgements
from pipeline.competition.holidays import read_holidays
from pipeline.competition.revisited import find_ground_truth, read_revisited
from pipeline.competition.tables import SPLITS, Dataset, digest_sources, read_folders, read_gldv2
from pipeline.settings import DataSettings


def read_source(data: DataSettings, names: Sequence[str] = SPLITS) -> tuple[Dataset, Mapping[str, Judgements]]:
    """The photographs, and the judgements of each setup where the data is a benchmark. Raises PipelineError.

    names: the splits to read; of a benchmark always its own.
    """
    root = data.root.absolute()
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


def digest_source(data: DataSettings, names: Sequence[str] = SPLITS) -> dict[str, str]:
    """Digests of everything that `read_source` and the decoder will read, by name."""
    root = data.root.absolute()
    if not data.is_benchmark:
        return digest_sources(root, data.source, names)
    judged = find_ground_truth(root, data.ground_truth) if data.source == "revisited" else None
    return digest_benchmark(root, judged, _absolute(data.train_root), _absolute(data.distractors))


def _read_benchmark(data: DataSettings, root: Path) -> Benchmark:
    if data.source == "holidays":
        return read_holidays(root)
    return read_revisited(find_ground_truth(root, data.ground_truth))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
