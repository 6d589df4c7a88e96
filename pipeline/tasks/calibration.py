"""What answers are worth, found on train photographs: each is answered by the others, with and without its landmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import layout
from pipeline.config import Config
from pipeline.settings import GRAPH
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import descriptor_references, open_descriptors, read_gaps, read_neighbours
from pipeline.tasks.propagation import compares_train, read_spread, read_train_pairs, weigh_graph
from pipeline.tasks.train_labels import choose_source, label_references, read_labels

if TYPE_CHECKING:
    from pipeline.arrays import Integers, Labels, Rows
    from pipeline.matching.neighbours import Neighbours
    from pipeline.ranking.calibration import Calibration
    from pipeline.ranking.evidence import PropagatedLabels
    from pipeline.ranking.recognition import Recognition
    from pipeline.ranking.unknown import UnknownThreshold

CALIBRATION_IMAGES = 1_000  # train images that answers are calibrated on
MOST_OF_A_LANDMARK = 500  # images; a landmark with more is left out there, so that lists stay short


class TrainSample(NamedTuple):
    """A random sample of train. rows: (S,). near: (S, k), the nearest other train images, k long enough to hold the
    votes of other landmarks too. landmarks: (N,) of all train images."""

    rows: Integers
    near: Neighbours
    landmarks: Labels


def calibration_references(config: Config) -> list[str]:
    """What `draw_train` and `calibrate_scores` read."""
    references = [*label_references(config), *descriptor_references(config, "train")]
    if _can_calibrate(config):
        asked = config.recognition
        reads_pairs = asked.max_inliers > 0 or (asked.propagation > 0 and compares_train(config))
        references += [layout.CLEAN_PAIRS] * reads_pairs
        references += [layout.neighbours(GRAPH, GRAPH), layout.PROPAGATE] * (asked.propagation > 0)
    return references


def calibration_settings(config: Config) -> dict[str, Any]:
    """The settings that affect it, beside those of the answer (part of the cache key)."""
    settings: dict[str, Any] = {"seed": config.seed}  # of the sample
    if config.recognition.propagation:
        settings["propagation"] = config.propagation.model_dump()
    if config.recognition.max_inliers:
        settings["supporting"] = config.clean.min_inliers
    return settings


def draw_train(task: TaskContext, config: Config) -> TrainSample | None:
    """The sample; None of a train set without a usable image."""
    import numpy as np

    from pipeline.matching.gaps import Gaps
    from pipeline.matching.knn import search_exact

    landmarks, missing = read_labels(task, config), read_gaps(task, config, "train", "train").base
    _, group, sizes = np.unique(landmarks, return_inverse=True, return_counts=True)
    usable = np.setdiff1d(np.flatnonzero(sizes[group] <= MOST_OF_A_LANDMARK), missing)
    drawn = np.sort(np.random.default_rng(config.seed).permutation(usable)[:CALIBRATION_IMAGES])
    if not len(drawn):
        return None
    train = open_descriptors(task, config, "train")
    k = config.recognition.votes + int(sizes[group][drawn].max())
    return TrainSample(drawn, Gaps(base=missing).search(search_exact, train[drawn], train, k, drawn), landmarks)


def calibrate_support(sample: TrainSample | None, config: Config) -> UnknownThreshold:
    """The support that an answer needs to be one for a landmark of train."""
    from pipeline.ranking.evidence import LabelledNeighbours
    from pipeline.ranking.unknown import UnknownThreshold, calibrate_unknown
    from pipeline.ranking.voting import neighbour_labels

    if sample is None:
        return UnknownThreshold(None)
    near = LabelledNeighbours(sample.near.similarities, neighbour_labels(sample.near.rows, sample.landmarks))
    return calibrate_unknown(near, sample.landmarks[sample.rows], config.recognition.votes)


def calibrate_scores(task: TaskContext, config: Config, sample: TrainSample | None) -> Calibration:
    """How probable an answer of the recognition is, by its score: from answers to the sample by all other train images,
    and by those of other landmarks alone, which are wrong."""
    import numpy as np

    from pipeline.ranking.calibration import Calibration, fit_calibration

    if sample is None or not _can_calibrate(config):
        return Calibration(None)
    received = _propagate(task, config, sample) if config.recognition.propagation else (None, None)
    sides = zip(received, (False, True), strict=True)
    answers = [_answer_sample(task, config, sample, labels, hides_own) for labels, hides_own in sides]
    right = np.concatenate([labels == sample.landmarks[sample.rows] for labels, _ in answers])
    return fit_calibration(np.concatenate([scores for _, scores in answers]), right)


def _answer_sample(
    task: TaskContext, config: Config, sample: TrainSample, propagated: PropagatedLabels | None, hides_own: bool
) -> Recognition:
    """The answers to the sample. hides_own: as if train had none of the image's landmark."""
    from pipeline.arrays import NO_LABEL, NONE, close_gaps
    from pipeline.ranking.evidence import LabelledNeighbours
    from pipeline.ranking.prediction import answer_train_images
    from pipeline.ranking.voting import neighbour_labels

    labels, first = neighbour_labels(sample.near.rows, sample.landmarks), slice(config.recognition.votes)
    hidden = (labels == sample.landmarks[sample.rows][:, None]) & hides_own
    values = (sample.near.similarities, 0.0), (labels, NO_LABEL), (sample.near.rows, NONE)
    similarities, labels, rows = (close_gaps(one, hidden, fill)[:, first] for one, fill in values)
    inliers = _count_inliers(task, config, sample, rows) if config.recognition.max_inliers else None
    return answer_train_images(LabelledNeighbours(similarities, labels), inliers, propagated, config.recognition)


def _can_calibrate(config: Config) -> bool:
    """Whether train photographs have what answers are made from: nothing of a classifier, which has learnt them, nor of
    non-landmarks, and inliers only where the cleaning compared them."""
    asked = config.recognition
    compared = not asked.max_inliers or choose_source(config) == "verify"
    return not asked.head_power and not asked.non_landmarks and compared


def _count_inliers(task: TaskContext, config: Config, sample: TrainSample, rows: Rows) -> Integers:
    """The inliers of the sample with its neighbours (S, k). A pair that was not compared has as many as pairs usually
    have that support nothing."""
    import numpy as np
    import pandas as pd

    from pipeline.arrays import NONE

    every = np.full((len(sample.landmarks), rows.shape[1]), NONE, np.int32)
    every[sample.rows] = rows
    found = pd.read_parquet(task.input(layout.CLEAN_PAIRS))["inliers"].to_numpy()
    chance = found[found < config.clean.min_inliers]
    usual = int(np.median(chance)) if len(chance) else 0
    return np.maximum(read_train_pairs(task).look_up(every)[sample.rows], usual)


def _propagate(task: TaskContext, config: Config, sample: TrainSample) -> tuple[PropagatedLabels, PropagatedLabels]:
    """The labels that the sample receives: without what it sent itself, and without all of its landmark."""
    import numpy as np

    from pipeline.ranking.evidence import PropagatedLabels
    from pipeline.ranking.propagation import lower_labels, receive_labels, returned_strengths

    near, spread, settings = read_neighbours(task, GRAPH, GRAPH), read_spread(task), config.propagation
    weights = weigh_graph(task, config, near, len(sample.landmarks))
    landmarks, own = np.unique(sample.landmarks, return_inverse=True)
    received = receive_labels(near.rows[sample.rows], weights[sample.rows], spread, settings.kept_labels)
    amounts = returned_strengths(near.rows, weights, spread.degrees, settings.alpha, sample.rows)
    known, unknown = (
        PropagatedLabels(lower_labels(received, own[sample.rows], lowered_by), received[:0], landmarks)
        for lowered_by in (amounts, np.full(len(amounts), np.inf))
    )
    return known, unknown
