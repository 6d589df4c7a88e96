"""Readers for soft voting and the recognition answer, which stage 09 and the tuning of settings share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.config import Config
from pipeline.settings import NON_LANDMARK
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import (
    descriptor_references,
    open_descriptors,
    read_gaps,
    read_labelled_neighbours,
    read_neighbours,
    read_pairs,
)
from pipeline.tasks.propagation import read_propagated
from pipeline.tasks.train_labels import label_references, read_labels

if TYPE_CHECKING:
    from pipeline.ranking.prediction import Classifier, RecognitionEvidence
    from pipeline.ranking.unknown import UnknownThreshold
    from pipeline.ranking.voting import Votes

CALIBRATION_IMAGES = 1_000  # train images that the support of answers is calibrated on
MOST_OF_A_LANDMARK = 500  # images; a landmark with more is left out there, so that lists stay short


def vote_references(config: Config) -> list[str]:
    """What `vote_split` and `read_recognition_evidence` read."""
    references = [layout.neighbours("index", "train"), layout.neighbours("test", "train"), *label_references(config)]
    if "train" in config.verified_splits:
        references.append(layout.verified_pairs("train"))
    if config.recognition.non_landmarks:
        references += [layout.neighbours(split, NON_LANDMARK) for split in ("test", "train")]
    references += [layout.PROPAGATE] * (config.recognition.propagation > 0)
    if config.recognition.head_power:
        references += [layout.final_network(name) for name in config.models]
        references += [layout.descriptors(name, "test") for name in config.models]
    return references


def vote_split(task: TaskContext, config: Config, split: str) -> Votes:
    """The landmark and confidence of each image of index or test."""
    from pipeline.ranking.prediction import vote_landmarks

    near = read_labelled_neighbours(task, split, read_labels(task, config))
    if split != "test" or not config.vote.max_inliers:  # index images are compared with nothing
        return vote_landmarks(near, config.vote)
    inliers = read_pairs(task, "train").look_up(read_neighbours(task, split, "train").rows)
    return vote_landmarks(near, config.vote, inliers)


def read_recognition_evidence(task: TaskContext, config: Config) -> RecognitionEvidence:
    """What the recognition answer is made from under these settings."""
    from pipeline.ranking.prediction import NonLandmarks, RecognitionEvidence

    asked, non_landmarks = config.recognition, None
    if asked.non_landmarks:
        of_train = read_neighbours(task, "train", NON_LANDMARK, mapped=True)
        non_landmarks = NonLandmarks(read_neighbours(task, "test", NON_LANDMARK), of_train)
    return RecognitionEvidence(
        read_neighbours(task, "test", "train"),
        read_labels(task, config),
        read_pairs(task, "train") if asked.max_inliers else None,
        [_open_classifier(task, config, name) for name in config.models] if asked.head_power else [],
        non_landmarks,
        read_propagated(task, config) if asked.propagation else None,
    )


def unknown_references(config: Config) -> list[str]:
    """What `calibrate_support` reads."""
    return [*label_references(config), *descriptor_references(config, "train")]


def calibrate_support(task: TaskContext, config: Config) -> UnknownThreshold:
    """The support that an answer needs to be one for a landmark of train, found on a random sample of train."""
    import numpy as np

    from pipeline.matching.gaps import Gaps
    from pipeline.matching.knn import search_exact
    from pipeline.ranking.evidence import LabelledNeighbours
    from pipeline.ranking.unknown import UnknownThreshold, calibrate_unknown
    from pipeline.ranking.voting import neighbour_labels

    landmarks, missing = read_labels(task, config), read_gaps(task, config, "train", "train").base
    _, group, sizes = np.unique(landmarks, return_inverse=True, return_counts=True)
    usable = np.setdiff1d(np.flatnonzero(sizes[group] <= MOST_OF_A_LANDMARK), missing)
    drawn = np.sort(np.random.default_rng(config.seed).permutation(usable)[:CALIBRATION_IMAGES])
    if not len(drawn):
        return UnknownThreshold(None)
    train, votes = open_descriptors(task, config, "train"), config.recognition.votes
    k = votes + int(sizes[group][drawn].max())
    near = Gaps(base=missing).search(search_exact, train[drawn], train, k, drawn)
    return calibrate_unknown(
        LabelledNeighbours(near.similarities, neighbour_labels(near.rows, landmarks)), landmarks[drawn], votes
    )


def _open_classifier(task: TaskContext, config: Config, name: str) -> Classifier:
    import numpy as np

    from pipeline.network.checkpoint import load_network
    from pipeline.ranking.prediction import Classifier

    network = load_network(task.input(layout.final_network(name)), config.models[name])
    descriptors = np.load(task.input(layout.descriptors(name, "test")) / "descriptors.npy", mmap_mode="r")
    directions = network.head.weight.detach().numpy()
    return Classifier(descriptors, directions, network.landmark_ids, config.models[name].weight)
