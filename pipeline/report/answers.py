"""The galleries of a run without ground truth: what test images were taken for, and what every step found for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.arrays import NONE, Floats, Labels, Rows
from pipeline.images.split import Split
from pipeline.report.gallery import (
    QUERIES,
    RANKS,
    SEED,
    Explain,
    Gallery,
    ShownQuery,
    Strip,
    id_of,
    show_lists,
    show_query_image,
)
from pipeline.report.measures import RankedStep

LABELLED_TEXT = (
    "There is no solution to judge by. Test photographs with the landmark that each was taken for, from the most "
    "confident answer to the least, one per landmark."
)
FOUND_TEXT = (
    "Nothing is labelled. Photographs with what was found for each, from the one whose nearest is most similar to the "
    "one whose nearest is least similar, evenly spaced: how far down the finds are right says what to trust."
)


@dataclass(frozen=True)
class Answers:
    """The recipe's lists after each step; labels (Q,), -1 = no landmark, and scores (Q,) of the recognition.

    names: of landmarks, where they have some. similarities (Q,): of the image that the search found first; None where
    photographs are labelled, and landmarks are shown in its place. in_itself: whether test and index are the same
    images.
    """

    steps: Sequence[RankedStep]
    labels: Labels
    scores: Floats
    names: Mapping[int, str] = field(default_factory=dict)
    similarities: Floats | None = None
    in_itself: bool = False

    @property
    def heading(self) -> str:
        """What is shown."""
        return "What the test photographs were taken for" if self.similarities is None else "What was found"

    @property
    def text(self) -> str:
        """How it was chosen."""
        return LABELLED_TEXT if self.similarities is None else FOUND_TEXT


def show_answers(answers: Answers, test: Split, index: Split, explain: Explain, count: int = QUERIES) -> list[Gallery]:
    """Test images, each with its landmark and confidence, or its similarity, and the first images of every step.

    First those of `pick_answers`, or where nothing is labelled those of `pick_found`; then `count` whose lists the
    recipe changed the most, and as many drawn at random.
    """
    near, first = answers.similarities, answers.steps[0].rows[:, 0]
    if near is None:
        chosen = pick_answers(answers.labels, answers.scores, 2 * count, count // 2)
    else:
        chosen = pick_found(near, first, answers.in_itself, 3 * count)
    kinds = {answers.heading: chosen, "The recipe changed these the most": pick_changed(answers.steps, count)}
    kinds["Drawn at random"] = np.random.default_rng(SEED).permutation(len(first))[: 2 * count].tolist()
    shown: set[int] = set()
    galleries = []
    for heading, queries in kinds.items():
        left = [query for query in queries if query not in shown][: None if heading == answers.heading else count]
        shown |= set(left)
        if left:
            galleries.append(Gallery(heading, [_show(query, answers, test, index, explain) for query in left]))
    return galleries


def pick_changed(steps: Sequence[RankedStep], count: int) -> list[int]:
    """The queries of whose first RANKS images at the end the most were not in the list of the first step."""
    last = steps[-1].rows[:, :RANKS]
    new = np.zeros(len(last), np.int64)
    for rank in range(last.shape[1]):
        new += (last[:, rank] != NONE) & ~(steps[0].rows == last[:, rank, None]).any(axis=1)
    order = np.argsort(-new, kind="stable")
    return order[new[order] > 0][: 2 * count].tolist()


def _show(query: int, answers: Answers, test: Split, index: Split, explain: Explain) -> ShownQuery:
    label, score = int(answers.labels[query]), float(answers.scores[query])
    name = name_landmark(label, answers.names) if label >= 0 else ""
    note = f"{name}, confidence {score:.2f}" if name else "no landmark found"
    if answers.similarities is not None:
        note = f"cosine {answers.similarities[query]:.2f} to the nearest"
    lists = show_lists(query, answers.steps, index, relevant=None)
    strips = [Strip(step.name, "", cells) for step, cells in zip(answers.steps, lists, strict=True)]
    shown_as, source = id_of(test, query), show_query_image(test, query)
    return ShownQuery(shown_as, source, note, strips, query, f"{shown_as} {name}", explain(query))


def pick_answers(labels: Labels, scores: Floats, count: int = 2 * QUERIES, unknown: int = QUERIES // 2) -> list[int]:
    """Test images evenly spaced from the most confident answer to the least, then some without a landmark.

    Of each landmark only the most confident one is shown. Ties go to the smaller row.
    """
    order = np.argsort(-scores, kind="stable")
    answered = order[labels[order] >= 0]
    _, first = np.unique(labels[answered], return_index=True)
    best = answered[np.sort(first)]
    chosen = best[np.unique(np.linspace(0, max(len(best) - 1, 0), min(count, len(best))).astype(int))]
    return chosen.tolist() + np.flatnonzero(labels < 0)[:unknown].tolist()


def pick_found(similarities: Floats, first: Rows, in_itself: bool, count: int = 3 * QUERIES) -> list[int]:
    """Queries evenly spaced from the most similar first image to the least, without those that found nothing.

    similarities, first: (Q,) of the first image of each list and its row, -1 = none. Of queries with the same first
    image only the most similar is shown; in a set that is searched in itself, so is only one of two that are each
    other's first. Ties go to the smaller row.
    """
    order = np.argsort(-similarities, kind="stable")
    order = order[first[order] >= 0]
    pairs = np.stack([order, first[order]], axis=1) if in_itself else first[order][:, None]
    _, kept = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
    best = order[np.sort(kept)]
    return best[np.unique(np.linspace(0, max(len(best) - 1, 0), min(count, len(best))).astype(int))].tolist()


def name_landmark(landmark: int, names: Mapping[int, str]) -> str:
    """The landmark for a person: its name, or its number where it has none."""
    return names.get(landmark, f"landmark {landmark}")
