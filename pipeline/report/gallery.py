"""The report's galleries: a few queries, each with the images that every step of the recipe ranked first, and why."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.arrays import NONE
from pipeline.images.split import Split
from pipeline.report.inline_images import make_thumbnail
from pipeline.report.matches import Figure
from pipeline.report.measures import JudgedRanking, JudgedStep, RankedStep

HEIGHT_PX, QUERY_HEIGHT_PX = 104, 166
RANKS = 9  # images of each list that are shown
QUERIES = 4  # of each kind that are shown
SEED = 0  # of the queries that are drawn at random: the same in every report of a run


@dataclass(frozen=True)
class Cell:
    """A small image in a green frame (good), a red one, or a grey one where nobody knows (None). source: a data URI.

    new: whether it is marked as new. caption: what is written below it.
    """

    name: str
    source: str
    good: bool | None
    new: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of images with a title and a note below it."""

    title: str
    note: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Why:
    """What explains the answer to a query: sentences, the train images that voted, and pairs with drawn inliers."""

    sentences: Sequence[str] = ()
    votes: Sequence[Cell] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class ShownQuery:
    """A query image, a note on it, and a strip for each step.

    row: of test, by which the page links to it; NONE = nothing links to it. find: the words by which it is found.
    """

    name: str
    source: str
    note: str
    strips: Sequence[Strip]
    row: int = NONE
    find: str = ""
    why: Why | None = None


@dataclass(frozen=True)
class Gallery:
    """Queries of one kind under a heading."""

    heading: str
    queries: Sequence[ShownQuery]


class Picked(NamedTuple):
    """The queries of one kind, by test row."""

    kind: str
    queries: list[int]


Explain = Callable[[int], Why]


def pick_queries(steps: Sequence[JudgedStep], landmarks: Sequence[Hashable], count: int = QUERIES) -> list[Picked]:
    """The `count` queries that gained and lost the most from the first step to the last, the worst, best, random ones.

    landmarks: one hashable value per query; each kind has at most one query of a landmark, and no query is in two
    kinds. Queries that were not scored (NaN) are left out; ties go to the smaller row. Kinds without one are left out.
    """
    last = steps[-1].precisions
    change = last - steps[0].precisions
    scored = np.flatnonzero(np.isfinite(change))
    best, rising = (scored[np.argsort(-values[scored], kind="stable")] for values in (last, change))
    worst, falling = (scored[np.argsort(values[scored], kind="stable")] for values in (last, change))
    kinds = {
        "Queries that gained the most": rising[change[rising] > 0],
        "Queries that lost the most": falling[change[falling] < 0],
        "The worst queries": worst[last[worst] < 1],
        "The best queries": best[last[best] > 0],
        "Queries drawn at random": np.random.default_rng(SEED).permutation(scored),
    }
    picked: list[Picked] = []
    shown: set[int] = set()
    for kind, order in kinds.items():
        left = [query for query in order.tolist() if query not in shown]
        chosen = _take_one_per_group(left, landmarks, count)
        shown |= set(chosen)
        picked += [Picked(kind, chosen)] if chosen else []
    return picked


def show_galleries(
    ranking: JudgedRanking, test: Split, index: Split, explain: Explain, count: int = QUERIES
) -> list[Gallery]:
    """The queries of `pick_queries`, at most one of each landmark in a gallery."""
    # Queries with the same relevant images show the same landmark.
    landmarks = [ranking.relevant(query).tobytes() for query in range(len(test))]
    return [
        Gallery(kind, [show_query(query, ranking, test, index, explain) for query in queries])
        for kind, queries in pick_queries(ranking.steps, landmarks, count)
    ]


def show_query(query: int, ranking: JudgedRanking, test: Split, index: Split, explain: Explain) -> ShownQuery:
    """A query with the first images of every step; new are images that the first step does not list at all."""
    relevant = set(ranking.relevant(query).tolist())
    strips = [
        Strip(step.name, f"AP {step.precisions[query]:.2f}", cells)
        for step, cells in zip(ranking.steps, show_lists(query, ranking.steps, index, relevant), strict=True)
    ]
    note = f"{len(relevant)} photograph{'' if len(relevant) == 1 else 's'} to find"
    name = id_of(test, query)
    why = explain(query)
    find = " ".join([name, *(cell.caption for cell in why.votes)])
    return ShownQuery(name, show_query_image(test, query), note, strips, query, find, why)


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


def show_image(split: Split, row: int, good: bool | None, caption: str = "") -> Cell:
    """A small image in its frame."""
    return Cell(id_of(split, row), make_thumbnail(path_of(split, row), HEIGHT_PX), good, caption=caption)


def id_of(split: Split, row: int) -> str:
    """The id of an image."""
    return str(split.table["id"].iloc[row])


def path_of(split: Split, row: int) -> Path:
    """The file of an image; `Split.paths` would list those of the whole split."""
    return split.root / str(split.table["path"].iloc[row])


def _take_one_per_group(queries: Sequence[int], groups: Sequence[Hashable], count: int) -> list[int]:
    """The first query of each of the first `count` groups."""
    first: dict[Hashable, int] = {}
    for query in queries:
        first.setdefault(groups[query], query)
    return list(first.values())[:count]
