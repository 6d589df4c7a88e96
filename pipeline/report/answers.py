"""The gallery of a run without a ground truth: what each test image was taken for, and what every step found for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.arrays import Floats, Labels
from pipeline.images.split import Split
from pipeline.report.gallery import ShownQuery, Strip, id_of, show_lists, show_query_image
from pipeline.report.measures import RankedStep

SHOWN_ANSWERS, SHOWN_UNKNOWN = 8, 2  # test images with a landmark, and without one


@dataclass(frozen=True)
class Answers:
    """The recipe's lists after each step; labels (Q,), -1 = no landmark, and scores (Q,) of the recognition.

    names: of landmarks, where they have some.
    """

    steps: Sequence[RankedStep]
    labels: Labels
    scores: Floats
    names: Mapping[int, str] = field(default_factory=dict)


def show_answers(answers: Answers, test: Split, index: Split) -> list[ShownQuery]:
    """The test images of `pick_answers`, each with its landmark, its confidence and the first images of every step."""
    shown = []
    for query in pick_answers(answers.labels, answers.scores):
        label, score = int(answers.labels[query]), float(answers.scores[query])
        note = f"{name_landmark(label, answers.names)}, confidence {score:.2f}" if label >= 0 else "no landmark found"
        lists = show_lists(query, answers.steps, index, relevant=None)
        strips = [Strip(step.name, "", cells) for step, cells in zip(answers.steps, lists, strict=True)]
        shown.append(ShownQuery(id_of(test, query), show_query_image(test, query), note, strips))
    return shown


def pick_answers(labels: Labels, scores: Floats, count: int = SHOWN_ANSWERS, unknown: int = SHOWN_UNKNOWN) -> list[int]:
    """Test images evenly spaced from the most confident answer to the least, then some without a landmark.

    Of each landmark only the most confident one is shown. Ties go to the smaller row.
    """
    order = np.argsort(-scores, kind="stable")
    answered = order[labels[order] >= 0]
    _, first = np.unique(labels[answered], return_index=True)
    best = answered[np.sort(first)]
    chosen = best[np.unique(np.linspace(0, max(len(best) - 1, 0), min(count, len(best))).astype(int))]
    return chosen.tolist() + np.flatnonzero(labels < 0)[:unknown].tolist()


def name_landmark(landmark: int, names: Mapping[int, str]) -> str:
    """The landmark for a person: its name, or its number where it has none."""
    return names.get(landmark, f"landmark {landmark}")
