"""Recognition: how sure the answers are against how right they are, and GAP as a curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NO_LABEL, Doubles, Integers, Labels, Mask
from pipeline.competition.evaluation import Part
from pipeline.ranking.calibration import Calibration, to_probabilities
from pipeline.report.charts import Chart, Titles, draw_lines
from pipeline.report.tables import Table

BINS = 10  # of the reliability diagram, with equally many answers each
CURVE_POINTS = 300  # that are drawn of the GAP curve

RELIABILITY = Titles(
    "Reliability",
    "Ten groups of as many answers each, by confidence. A confidence is a similarity, not a probability: the curve "
    "should rise, and need not lie on the diagonal.",
    "mean confidence of a group",
    "share that is right",
)
PROBABILITIES = Titles(
    "Reliability",
    "Ten groups of as many answers each, by the probability of being right that train photographs teach. On the "
    "diagonal it holds; above it more are right than it says.",
    "mean probability of a group",
    "share that is right",
)
TABLE_TEXT = (
    "How probable an answer is was fitted on train photographs, each answered by all others and once more as if its "
    "landmark had none: here it is compared with what the solution says. Probabilities rise with the confidence, so "
    "that GAP is that of the confidences."
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
    probabilities: of being right; None where the run has none.
    """

    rows: Integers
    labels: Labels
    confidences: Doubles
    right: Mask
    shown: int
    probabilities: Doubles | None = None


def judge_answers(
    labels: Labels, scores: NDArray[np.floating], part: Part, calibration: Calibration = Calibration(None)
) -> Answered:
    """The answers to the queries of a recognition solution. labels, scores: (T,) by test row."""
    shown = int((part.truth.counts > 0).sum())
    if not len(labels):
        return Answered(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_), shown)
    given = np.where(part.queries >= 0, labels[part.queries], NO_LABEL)
    order = np.argsort(-np.asarray(scores, np.float64)[part.queries], kind="stable")
    order = order[given[order] != NO_LABEL]
    right = part.truth.holds(order, given[order])
    rows = part.queries[order]
    confidences = np.asarray(scores, np.float64)[rows]
    probabilities = to_probabilities(confidences, calibration) if calibration.slope is not None else None
    return Answered(rows, given[order], confidences, right, shown, probabilities)


def draw_reliability(answered: Answered) -> Chart | None:
    """The share of right answers over the mean probability, or confidence, by groups of equally many answers."""
    calibrated = answered.probabilities is not None
    titles, word = (PROBABILITIES, "probability") if calibrated else (RELIABILITY, "confidence")
    groups = _group(answered)
    points = [(x, y) for _, x, y in groups]
    texts = {f"{word} {x:.2f}: {y:.0%} of {count} right": (x, y) for count, x, y in groups}
    return draw_lines(titles, {"answers": points}, (0.0, 1.0), texts, diagonal=calibrated)


def tabulate_reliability(answered: Answered) -> Table | None:
    """The points of `draw_reliability`, the surest group first; None without probabilities."""
    if answered.probabilities is None or not len(answered.rows):
        return None
    rows = [[str(count), f"{x:.3f}", f"{y:.3f}"] for count, x, y in reversed(_group(answered))]
    rows.append(["all", f"{answered.probabilities.mean():.3f}", f"{answered.right.mean():.3f}"])
    return Table("Probabilities", TABLE_TEXT, ("answers", "mean probability", "share right"), rows)


def _group(answered: Answered) -> list[tuple[int, float, float]]:
    """(answers, their mean probability or confidence, share that is right) of each group, the least sure first."""
    values = answered.confidences if answered.probabilities is None else answered.probabilities
    groups = [one for one in np.array_split(np.arange(len(answered.rows))[::-1], BINS) if len(one)]
    return [(len(one), float(values[one].mean()), float(answered.right[one].mean())) for one in groups]


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
