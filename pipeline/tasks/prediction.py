"""Readers for soft voting and the recognition answer, which stage 09 and the tuning of settings share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.config import Config
from pipeline.settings import NON_LANDMARK
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import (
    read_labelled_neighbours,
    read_neighbours,
    read_pairs,
)
from pipeline.tasks.propagation import read_propagated
from pipeline.tasks.train_labels import label_references, read_labels

if TYPE_CHECKING:
    from pipeline.ranking.prediction import Classifier, RecognitionEvidence
    from pipeline.ranking.voting import Votes


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


def _open_classifier(task: TaskContext, config: Config, name: str) -> Classifier:
    import numpy as np

    from pipeline.network.checkpoint import load_network
    from pipeline.ranking.prediction import Classifier

    network = load_network(task.input(layout.final_network(name)), config.models[name])
    descriptors = np.load(task.input(layout.descriptors(name, "test")) / "descriptors.npy", mmap_mode="r")
    directions = network.head.weight.detach().numpy()
    return Classifier(descriptors, directions, network.landmark_ids, config.models[name].weight)
