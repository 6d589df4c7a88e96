"""The landmarks of index and test images, from their neighbours in train and what else the settings ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.arrays import AnyIntegers, Floats, Labels
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.evidence import LabelledNeighbours, PropagatedLabels
from pipeline.ranking.head_cosines import head_cosines, join_head_cosines
from pipeline.ranking.non_landmarks import gather_likeness, mean_similarities, penalise_neighbours
from pipeline.ranking.propagation import strongest_labels
from pipeline.ranking.recognition import Recognition, Weights, raise_votes, recognise, weigh_by_head, weigh_votes
from pipeline.ranking.voting import Votes, neighbour_labels, sharpen, soft_vote, vote_with_inliers
from pipeline.settings import RecognitionSettings, VoteSettings

PROPAGATED_VOTES = 5  # propagated labels of an image that vote, the strongest


class Classifier(NamedTuple):
    """The classifier weights of one model, and the descriptors of the test images by it.

    descriptors (Q, D), directions (C, D) or (C, K, D), landmark_ids (C,), weight: of the model in the ensemble.
    """

    descriptors: Floats
    directions: Floats
    landmark_ids: Labels
    weight: float


class NonLandmarks(NamedTuple):
    """The images of no landmark nearest to each test image and to each train image."""

    of_test: Neighbours
    of_train: Neighbours


@dataclass(frozen=True)
class RecognitionEvidence:
    """What the recognition answer is made from; the optional parts are there where the settings ask for them.

    near: the nearest train images of each test image. landmarks: (N,) of all train images.
    """

    near: Neighbours
    landmarks: Labels
    pairs: PairTable | None = None
    classifiers: Sequence[Classifier] = ()
    non_landmarks: NonLandmarks | None = None
    propagated: PropagatedLabels | None = None


def vote_landmarks(near: LabelledNeighbours, settings: VoteSettings, inliers: AnyIntegers | None = None) -> Votes:
    """The landmark and confidence of each image, for the ranking steps.

    inliers: (Q, k) of the image with each neighbour, where pairs were compared. They decide only the landmark: the
    confidence stays the mean cosine, in which rerank.insert.min_confidence and the votes of index images, which are
    compared with nothing, are measured.
    """
    if inliers is None or not settings.max_inliers:
        return soft_vote(near.similarities, near.labels, settings.votes, settings.sharpness)
    first = slice(settings.votes)
    sharpened = sharpen(near.similarities[:, first], settings.sharpness)
    weights = weigh_votes(sharpened, inliers[:, first], settings.max_inliers)
    return vote_with_inliers(sharpened, near.labels[:, first], weights, settings.votes)


def answer_recognition(evidence: RecognitionEvidence, settings: RecognitionSettings) -> Recognition:
    """The recognition answer of each test image."""
    near, lower_by = evidence.near, None
    if settings.non_landmarks and evidence.non_landmarks is not None:
        near = penalise_neighbours(near, gather_likeness(evidence.non_landmarks.of_train, near.rows))
        lower_by = mean_similarities(evidence.non_landmarks.of_test)
    rows = near.rows[:, : settings.votes]
    labels = neighbour_labels(rows, evidence.landmarks)
    weights: Weights = raise_votes(near.similarities[:, : settings.votes], settings.power)
    if settings.max_inliers and evidence.pairs is not None:
        weights = weigh_votes(weights, evidence.pairs.look_up(rows), settings.max_inliers)
    if settings.head_power:
        weights = weigh_by_head(weights, _ask_classifiers(evidence.classifiers, labels), settings.head_power)
    root = settings.power + settings.head_power
    votes, ban_above = settings.votes, settings.ban_above
    if settings.propagation and evidence.propagated is not None:
        weights, labels = _add_propagated(weights, labels, evidence.propagated, settings.propagation)
        votes = labels.shape[1]
    return recognise(weights, labels, votes=votes, root=root, lower_by=lower_by, ban_above=ban_above)


def answer_train_images(
    near: LabelledNeighbours,
    inliers: AnyIntegers | None,
    propagated: PropagatedLabels | None,
    settings: RecognitionSettings,
) -> Recognition:
    """The answers to train images by their other train images, as `answer_recognition` gives them to test images.

    near, inliers (Q, k): k = `settings.votes`. propagated: its queries are these images. Neither a classifier nor
    non-landmarks are asked.
    """
    weights: Weights = raise_votes(near.similarities, settings.power)
    if settings.max_inliers and inliers is not None:
        weights = weigh_votes(weights, inliers, settings.max_inliers)
    labels = near.labels
    if settings.propagation and propagated is not None:
        weights, labels = _add_propagated(weights, labels, propagated, settings.propagation)
    return recognise(weights, labels, votes=labels.shape[1], root=settings.power)


def _add_propagated(
    weights: Weights, labels: Labels, propagated: PropagatedLabels, weight: float
) -> tuple[Weights, Labels]:
    """The votes with those of propagated labels: a label's score is its mean vote plus weight * its strength."""
    votes = labels.shape[1]
    names, strengths = strongest_labels(propagated.queries, propagated.landmarks, PROPAGATED_VOTES)
    joined = np.concatenate([weights, weight * votes * strengths], axis=1)
    return joined * ((votes + PROPAGATED_VOTES) / votes), np.concatenate([labels, names], axis=1)


def _ask_classifiers(classifiers: Sequence[Classifier], labels: Labels) -> Floats:
    """The cosine of each test image to the classifier weight of each label, (Q, k), over all models."""
    cosines = [head_cosines(one.descriptors, one.directions, one.landmark_ids, labels) for one in classifiers]
    return join_head_cosines(cosines, [one.weight for one in classifiers])
