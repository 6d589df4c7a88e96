"""Recognition: how sure the answers are against how right they are, and GAP as a curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NO_LABEL, Doubles, Integers, Labels, Mask
from pipeline.competition.evaluation import Part
from pipeline.report.charts import Chart, Titles, draw_lines

BINS = 10  # of the reliability diagram, with equally many answers each
CURVE_POINTS = 300  # that are drawn of the GAP curve

RELIABILITY = Titles(
    "Reliability",
    "Ten groups of as many answers each, by confidence. A confidence is a similarity, not a probability: the curve "
    "should rise, and need not lie on the diagonal.",
    "mean confidence of a group",
    "share that is right",
)
GAP_CURVE = Titles(
    "GAP",
    "Answers from the surest to the least sure: how many of those so far are right. GAP is the area below the curve.",
    "share of the photographs with a landmark that are recognised",
    "share of the answers that are right",
)


@dataclass(frozen=True)
class Answered:
    """The N scored test images that were given a landmark, the surest first, ties in the order of the solution.

    rows: of test. right: whether the image shows the landmark `labels`. shown: how many images show any.
    """

    rows: Integers
    labels: Labels
    confidences: Doubles
    right: Mask
    shown: int


def judge_answers(labels: Labels, scores: NDArray[np.floating], part: Part) -> Answered:
    """The answers to the queries of a recognition solution. labels, scores: (T,) by test row."""
    shown = int((part.truth.counts > 0).sum())
    if not len(labels):
        return Answered(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_), shown)
    given = np.where(part.queries >= 0, labels[part.queries], NO_LABEL)
    order = np.argsort(-np.asarray(scores, np.float64)[part.queries], kind="stable")
    order = order[given[order] != NO_LABEL]
    right = part.truth.holds(order, given[order])
    rows = part.queries[order]
    return Answered(rows, given[order], np.asarray(scores, np.float64)[rows], right, shown)


def draw_reliability(answered: Answered) -> Chart | None:
    """The share of right answers over the mean confidence, by groups of equally many answers."""
    groups = [one for one in np.array_split(np.arange(len(answered.rows))[::-1], BINS) if len(one)]
    points = [(float(answered.confidences[one].mean()), float(answered.right[one].mean())) for one in groups]
    texts = {
        f"confidence {x:.2f}: {y:.0%} of {len(one)} right": (x, y) for (x, y), one in zip(points, groups, strict=True)
    }
    return draw_lines(RELIABILITY, {"answers": points}, (0.0, 1.0), texts)


def draw_gap_curve(answered: Answered) -> Chart | None:
    """Precision over the recognised share of the images that show a landmark."""
    if not answered.shown or not len(answered.rows):
        return None
    hits = np.cumsum(answered.right)
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / answered.shown
    at = np.unique(np.linspace(0, len(hits) - 1, CURVE_POINTS).round().astype(int))
    return draw_lines(
        GAP_CURVE, {"answers": list(zip(recall[at].tolist(), precision[at].tolist(), strict=True))}, (0, 1)
    )
