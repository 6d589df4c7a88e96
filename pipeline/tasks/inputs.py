"""Readers of the artifacts that several stages use, and the references that a task declares for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.artifacts import read_manifest
from pipeline.config import Config
from pipeline.settings import GRAPH, GRAPH_SPLITS
from pipeline.task_context import TaskContext

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.arrays import Integers, Labels, Vectors
    from pipeline.competition.metrics import Truth
    from pipeline.features.ensemble import JoinedDescriptors
    from pipeline.images.split import Split
    from pipeline.matching.gaps import Gaps
    from pipeline.matching.neighbours import Neighbours
    from pipeline.matching.pair_table import PairTable
    from pipeline.ranking.evidence import LabelledNeighbours
    from pipeline.ranking.voting import Votes


def read_images(task: TaskContext, split: str) -> pd.DataFrame:
    """The table of a split's images."""
    import pandas as pd

    return pd.read_parquet(task.input(layout.images(split)))


def read_landmark_names(task: TaskContext) -> dict[int, str]:
    """The names of the landmarks, of plain folders or of a published table; empty where there are none."""
    import pandas as pd

    table = pd.read_csv(task.input(layout.LANDMARK_NAMES), dtype={"name": str}, keep_default_na=False)
    return dict(zip(table["landmark_id"].tolist(), table["name"].tolist(), strict=True))


def split_references(split: str) -> tuple[str, str]:
    """What `open_split` and those who decode its photographs read."""
    return layout.images(split), layout.photograph_digests(split)


def open_split(task: TaskContext, config: Config, split: str) -> Split:
    """The images of a split, the folder that they lie in, and how many of them may turn out to be unreadable."""
    from pipeline.images.inspection import Tolerance
    from pipeline.images.split import Split
    from pipeline.images.split_table import count_rejected

    table = read_images(task, split)
    rejected = count_rejected(table)
    tolerance = Tolerance(split, len(table) + rejected, rejected, config.data.max_bad_fraction)
    return Split(table, config.data.root, tolerance)


def open_digested_split(task: TaskContext, config: Config, split: str) -> Split:
    """The same with the digests of its photographs, by which rows are taken over."""
    from dataclasses import replace

    from pipeline.competition.listing import read_photograph_digests

    digests = read_photograph_digests(task.input(layout.photograph_digests(split)))
    return replace(open_split(task, config, split), digests=digests)


def explain_restored(folder: Path, config: Config) -> list[str]:
    """Why an artifact made of photographs is to be made again: some that it left out can be read now."""
    manifest = read_manifest(folder)
    if manifest is None or not manifest.facts.get("rejected", {}).get("count"):
        return []
    from pipeline.images.rejection import find_restored

    return [f"{path}, which was left out, can be read now" for path in find_restored(folder, config.data.root)]


def read_landmarks(task: TaskContext) -> Labels:
    """The landmark of every train image, (N,)."""
    return read_images(task, "train")["landmark"].to_numpy()


def joined_references(config: Config, split: str) -> list[str]:
    """What `open_joined` reads: one artifact per model."""
    return [layout.descriptors(name, split) for name in config.models]


def open_joined(task: TaskContext, config: Config, split: str) -> JoinedDescriptors:
    """The descriptors of all models as one, not whitened, rows as in stage 01."""
    import numpy as np

    from pipeline.features.ensemble import JoinedDescriptors

    references = joined_references(config, split)
    mapped = [np.load(task.input(reference) / "descriptors.npy", mmap_mode="r") for reference in references]
    return JoinedDescriptors(mapped, [model.weight for model in config.models.values()])


def descriptor_references(config: Config, split: str) -> list[str]:
    """What `open_descriptors` reads."""
    if split == GRAPH:
        return [name for part in GRAPH_SPLITS for name in descriptor_references(config, part)]
    return [layout.whitened(split)] if config.search.whiten_dims else joined_references(config, split)


def open_descriptors(task: TaskContext, config: Config, split: str) -> Vectors:
    """The descriptors of a split as they are searched: joined, and whitened where a setting asks for it."""
    import numpy as np

    from pipeline.features.stacked import StackedVectors

    if split == GRAPH:
        return StackedVectors([open_descriptors(task, config, part) for part in GRAPH_SPLITS])
    if config.search.whiten_dims:
        return np.load(task.input(layout.whitened(split)) / "descriptors.npy", mmap_mode="r")
    return open_joined(task, config, split)


def read_gaps(task: TaskContext, config: Config, queries: str, base: str) -> Gaps:
    """The images of two splits that have no descriptor, by any model. Reads what `descriptor_references` lists."""
    from pipeline.matching.gaps import Gaps

    return Gaps(*(_read_missing(task, config, side) for side in (queries, base)))


def _read_missing(task: TaskContext, config: Config, split: str) -> Integers:
    """The rows of a split, or of the graph, that have no descriptor."""
    import numpy as np

    from pipeline.images.rejection import read_rejected

    if split == GRAPH:
        first, second = (_read_missing(task, config, part) for part in GRAPH_SPLITS)
        return np.concatenate([first, second + len(open_descriptors(task, config, GRAPH_SPLITS[0]))])
    return read_rejected(map(task.input, descriptor_references(config, split)))


def read_neighbours(task: TaskContext, queries: str, base: str, mapped: bool = False) -> Neighbours:
    """The neighbours of one split in another. mapped: leave them on the disk until they are read."""
    import numpy as np

    from pipeline.matching.neighbours import Neighbours

    folder = task.input(layout.neighbours(queries, base))
    files = (folder / f"{name}.npy" for name in Neighbours._fields)
    return Neighbours(*(np.load(file, mmap_mode="r" if mapped else None) for file in files))


def read_labelled_neighbours(task: TaskContext, split: str, landmarks: Labels) -> LabelledNeighbours:
    """The nearest train images of a split with their landmarks."""
    from pipeline.ranking.evidence import LabelledNeighbours
    from pipeline.ranking.voting import neighbour_labels

    near = read_neighbours(task, split, "train")
    return LabelledNeighbours(near.similarities, neighbour_labels(near.rows, landmarks))


def read_pairs(task: TaskContext, split: str) -> PairTable:
    """The inliers of test images with images of a split."""
    import pandas as pd

    from pipeline.matching.pair_table import PairTable

    return PairTable.from_table(pd.read_parquet(task.input(layout.verified_pairs(split))))


def read_votes(task: TaskContext, split: str) -> Votes:
    """The landmark and confidence of each image of a split."""
    import pandas as pd

    from pipeline.ranking.voting import Votes

    table = pd.read_parquet(task.input(layout.votes(split)))
    return Votes(table["labels"].to_numpy(), table["confidences"].to_numpy())


def junk_references(config: Config) -> list[str]:
    """What `read_junk` reads."""
    if config.data.is_searched_in_itself:
        return [layout.images("test"), layout.images("index")]
    return [layout.JUDGEMENTS] if config.data.is_benchmark else []


def read_junk(task: TaskContext, config: Config, queries: int) -> dict[str, Truth | None]:
    """The junk of each setup of a benchmark; other data has one setup, without a name.

    That has no junk, except where images are searched in themselves: none is its own answer.
    """
    from pipeline.competition.judgement_table import read_judgements
    from pipeline.competition.junk import find_own_rows

    if config.data.is_searched_in_itself:
        return {"": find_own_rows(*(read_images(task, split)["id"].tolist() for split in ("test", "index")))}
    if not config.data.is_benchmark:
        return {"": None}
    judged = read_judgements(task.input(layout.JUDGEMENTS), queries)
    return {name: one.junk for name, one in judged.items()}


def compared_references(config: Config, split: str) -> list[str]:
    """What `read_compared` reads."""
    return [f"{layout.neighbours('test', split)}:rows.npy", *(junk_references(config) if split == "index" else [])]


def read_compared(task: TaskContext, config: Config, split: str) -> Integers:
    """The pairs (P, 2) of a test image and an image of `split` that are verified."""
    import numpy as np

    from pipeline.matching.pair_lists import list_first_neighbours

    rows = np.load(task.input(f"{layout.neighbours('test', split)}:rows.npy"))
    junk = read_junk(task, config, len(rows)).values() if split == "index" else ()
    return list_first_neighbours(rows, config.verify.first(split), [one for one in junk if one is not None])
