"""The report's gallery: a few queries, each with the images that every step of the recipe ranked first."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.arrays import NONE
from pipeline.images.split import Split
from pipeline.report.inline_images import make_thumbnail
from pipeline.report.measures import JudgedRanking, JudgedStep, RankedStep

HEIGHT_PX, QUERY_HEIGHT_PX = 104, 166
RANKS = 9  # images of each list that are shown
GAINS, LOSSES = 6, 2  # queries that are shown


@dataclass(frozen=True)
class Cell:
    """A small image in a green frame (good), a red one, or a grey one where nobody knows (None). source: a data URI.

    new: whether it is marked as new.
    """

    name: str
    source: str
    good: bool | None
    new: bool = False


@dataclass(frozen=True)
class Strip:
    """A row of images with a title and a note below it."""

    title: str
    note: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ShownQuery:
    """A query image, a note on it, and a strip for each step."""

    name: str
    source: str
    note: str
    strips: Sequence[Strip]


def show_queries(ranking: JudgedRanking, test: Split, index: Split) -> list[ShownQuery]:
    """The queries of `pick_queries`, at most one of each landmark."""
    # Queries with the same relevant images show the same landmark.
    landmarks = [ranking.relevant(query).tobytes() for query in range(len(test))]
    return [show_query(query, ranking, test, index) for query in pick_queries(ranking.steps, landmarks)]


def pick_queries(
    steps: Sequence[JudgedStep], groups: Sequence[object], gains: int = GAINS, losses: int = LOSSES
) -> list[int]:
    """The queries that gained the most from the first step to the last, then those that lost the most.

    Where none gained or lost, those with the lowest precision: a gallery is never empty for that reason.
    groups: one hashable value per query; at most one query of a group is picked. Queries that were not scored (NaN)
    are left out; ties go to the smaller row.
    """
    change = steps[-1].precisions - steps[0].precisions
    scored = np.flatnonzero(np.isfinite(change))
    best = scored[np.argsort(-change[scored], kind="stable")]
    worst = best[::-1]
    gained, lost = best[change[best] > 0].tolist(), worst[change[worst] < 0].tolist()
    changed = _take_one_per_group(gained, groups, gains) + _take_one_per_group(lost, groups, losses)
    lowest = scored[np.argsort(steps[-1].precisions[scored], kind="stable")].tolist()
    return changed or _take_one_per_group(lowest, groups, gains)


def show_query(query: int, ranking: JudgedRanking, test: Split, index: Split) -> ShownQuery:
    """A query with the first images of every step; new are images that the first step does not list at all."""
    relevant = set(ranking.relevant(query).tolist())
    strips = [
        Strip(step.name, f"AP {step.precisions[query]:.2f}", cells)
        for step, cells in zip(ranking.steps, show_lists(query, ranking.steps, index, relevant), strict=True)
    ]
    note = f"{len(relevant)} photograph{'' if len(relevant) == 1 else 's'} to find"
    return ShownQuery(id_of(test, query), show_query_image(test, query), note, strips)


def show_lists(
    query: int, steps: Sequence[RankedStep | JudgedStep], index: Split, relevant: Container[int] | None
) -> list[list[Cell]]:
    """The first images of every step; new are those that the first step does not list. relevant: None = unknown."""
    listed_first = set(steps[0].rows[query].tolist())
    lists: list[list[Cell]] = []
    made: dict[int, Cell] = {}  # steps list the same images, and to decode a large one takes a tenth of a second
    for step in steps:
        rows = [row for row in step.rows[query, :RANKS].tolist() if row != NONE]
        for row in rows:
            if row not in made:
                made[row] = show_image(index, row, None if relevant is None else row in relevant)
        lists.append([replace(made[row], new=row not in listed_first) for row in rows])
    return lists


def show_query_image(test: Split, query: int) -> str:
    """The image of a query, as a data URI."""
    return make_thumbnail(path_of(test, query), QUERY_HEIGHT_PX)


def show_image(split: Split, row: int, good: bool | None, new: bool = False) -> Cell:
    """A small image in its frame."""
    return Cell(id_of(split, row), make_thumbnail(path_of(split, row), HEIGHT_PX), good, new)


def id_of(split: Split, row: int) -> str:
    """The id of an image."""
    return str(split.table["id"].iloc[row])


def path_of(split: Split, row: int) -> Path:
    """The file of an image; `Split.paths` would list those of the whole split."""
    return split.root / str(split.table["path"].iloc[row])


def _take_one_per_group(queries: Sequence[int], groups: Sequence[object], count: int) -> list[int]:
    """The first query of each of the first `count` groups."""
    first: dict[object, int] = {}
    for query in queries:
        first.setdefault(groups[query], query)
    return list(first.values())[:count]
