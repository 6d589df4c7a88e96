"""The landmarks of index and test photographs, from the artifacts of the stages before.

Of these no more is read than the settings ask for.
"""

from __future__ import annotations

import numpy as np

from pipeline.config import Config
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.network.checkpoint import load_network
from pipeline.ranking.evidence import Find, read_neighbours
from pipeline.ranking.head_cosines import head_cosines, join_head_cosines
from pipeline.ranking.non_landmarks import gather_likeness, mean_similarities, penalise_neighbours
from pipeline.ranking.recognition import Recognition, Weights, raise_votes, recognise, weigh_by_head, weigh_votes
from pipeline.ranking.voting import Floats, Labels, Votes, neighbour_labels, sharpen, soft_vote, vote_with_inliers
from pipeline.settings import NON_LANDMARK, VoteSettings

PAIRS = "08_verify_matches/test_train:pairs.parquet"


def vote_landmarks(find: Find, settings: VoteSettings, split: str, landmarks: Labels) -> Votes:
    """The landmark of each photograph of index or test for the ranking steps. landmarks: of train, (N,)."""
    near = read_neighbours(find, f"{split}_train")
    labels = neighbour_labels(near.rows, landmarks)
    if split != "test" or not settings.max_inliers:  # index photographs are compared with nothing
        return soft_vote(near.similarities, labels, settings.votes, settings.sharpness)
    rows, labels = near.rows[:, : settings.votes], labels[:, : settings.votes]
    sharpened = sharpen(near.similarities[:, : settings.votes], settings.sharpness)
    weights = weigh_votes(sharpened, PairTable.read(find(PAIRS)).look_up(rows), settings.max_inliers)
    return vote_with_inliers(sharpened, labels, weights, settings.votes)


def answer_recognition(find: Find, config: Config, landmarks: Labels) -> Recognition:
    """The recognition answer of each test photograph. landmarks: of train, (N,)."""
    near, settings, lower_by = read_neighbours(find, "test_train"), config.recognition, None
    if settings.non_landmarks:
        near = penalise_neighbours(near, gather_likeness(_map_neighbours(find, f"train_{NON_LANDMARK}"), near.rows))
        lower_by = mean_similarities(read_neighbours(find, f"test_{NON_LANDMARK}"))
    rows = near.rows[:, : settings.votes]
    labels = neighbour_labels(rows, landmarks)
    weights: Weights = raise_votes(near.similarities[:, : settings.votes], settings.power)
    if settings.max_inliers:
        weights = weigh_votes(weights, PairTable.read(find(PAIRS)).look_up(rows), settings.max_inliers)
    if settings.head_power:
        weights = weigh_by_head(weights, read_head_cosines(find, config, labels), settings.head_power)
    return recognise(
        weights, labels, votes=settings.votes, root=settings.power + settings.head_power,
        lower_by=lower_by, ban_above=settings.ban_above,
    )  # fmt: skip


def read_head_cosines(find: Find, config: Config, labels: Labels) -> Floats:
    """The cosine of each test photograph to the direction of each label beside it, (Q, k), over all models."""
    cosines = []
    for name, model in config.models.items():
        network = load_network(find(f"04_train_final/{name}"), model)
        descriptors = np.load(find(f"05_extract_global/{name}/test") / "descriptors.npy", mmap_mode="r")
        directions = network.head.weight.detach().numpy()
        cosines.append(head_cosines(descriptors, directions, network.landmark_ids, labels))
    return join_head_cosines(cosines, [model.weight for model in config.models.values()])


def _map_neighbours(find: Find, pair: str) -> Neighbours:
    folder = find(f"06_build_knn/{pair}")
    return Neighbours(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Neighbours._fields))
