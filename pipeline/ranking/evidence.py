"""What the steps of a recipe need to know, read from the artifacts of the stages before; and no more than they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.competition.benchmark import JUDGEMENTS, read_judgements
from pipeline.competition.metrics import Truth
from pipeline.config import Config
from pipeline.features.searched import Find, open_descriptors
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import Evidence, TrainNeighbours
from pipeline.ranking.voting import Votes, neighbour_labels
from pipeline.steps import NEEDS_DESCRIPTORS, NEEDS_GRAPH, NEEDS_TRAIN_NEIGHBOURS


def read_evidence(find: Find, config: Config, steps: Sequence[str], device: str | None) -> Evidence:
    """The evidence for these steps. device: where searches run; None = faiss on the CPU."""
    known: dict[str, Any] = {}
    if "verify" in steps:
        known["pairs"] = PairTable.read(find("08_verify_matches/test_index:pairs.parquet"))
    if any(step in NEEDS_GRAPH for step in steps):
        known["graph"] = read_neighbours(find, "index_index")
    if any(step in NEEDS_DESCRIPTORS for step in steps):
        known |= {"queries": open_descriptors(find, config, "test"), "index": open_descriptors(find, config, "index")}
    if any(step in NEEDS_TRAIN_NEIGHBOURS for step in steps):
        train = pd.read_parquet(find("01_prepare_data:train.parquet"))["landmark"].to_numpy()
        known["landmarks"] = np.unique(train)
        for side, split in (("query_train", "test"), ("index_train", "index")):
            near = read_neighbours(find, f"{split}_train")
            known[side] = TrainNeighbours(near.similarities, neighbour_labels(near.rows, train))
    votes = _read_votes(find, "test"), _read_votes(find, "index")
    return Evidence(votes[0], votes[1], config.rerank, config.verify, device=device, **known)


def read_setups(find: Find, config: Config, queries: int) -> dict[str, Truth | None]:
    """The junk of each setup of a benchmark; a competition has one setup, without a name and without junk."""
    if not config.data.is_benchmark:
        return {"": None}
    judged = read_judgements(find(f"01_prepare_data:{JUDGEMENTS}"), queries)
    return {name: one.junk for name, one in judged.items()}


def read_ranking(find: Find, index_images: int) -> Ranking:
    """The nearest index images of each test image."""
    near = read_neighbours(find, "test_index")
    return Ranking(near.rows, near.similarities, index_images)


def read_neighbours(find: Find, pair: str) -> Neighbours:
    """The neighbours of one pair of splits, such as test_index."""
    folder = find(f"06_build_knn/{pair}")
    return Neighbours(np.load(folder / "rows.npy"), np.load(folder / "similarities.npy"))


def _read_votes(find: Find, split: str) -> Votes:
    table = pd.read_parquet(find(f"09_predict_landmarks:{split}.parquet"))
    return Votes(table["labels"].to_numpy(), table["confidences"].to_numpy())
