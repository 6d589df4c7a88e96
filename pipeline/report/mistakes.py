"""The surest wrong answers of the recognition, with photographs of what was said and of what is right."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import NONE
from pipeline.images.split import Split
from pipeline.report.answers import name_landmark
from pipeline.report.confidence import Answered
from pipeline.report.gallery import ShownQuery, Strip, id_of, show_image, show_query_image
from pipeline.report.misses import Reading

PHOTOGRAPHS = 6  # of each landmark


def show_mistakes(answered: Answered, reading: Reading, test: Split, train: Split, count: int) -> list[ShownQuery]:
    """The `count` surest wrong answers, each with train images of the landmark said and of the right ones."""
    return [
        _show(int(answered.rows[at]), int(answered.labels[at]), float(answered.confidences[at]), reading, (test, train))
        for at in np.flatnonzero(~answered.right)[:count]
    ]


def _show(query: int, said: int, confidence: float, reading: Reading, splits: tuple[Split, Split]) -> ShownQuery:
    test, train = splits
    right = reading.right.of(query).tolist() if reading.right is not None else []
    strips = [_show_landmark("said", said, query, reading, train)]
    strips += [_show_landmark("shows", landmark, query, reading, train) for landmark in right]
    name = name_landmark(said, reading.names)
    note = f"{name} with confidence {confidence:.2f}" + ("" if right else ", but it shows no landmark of the solution")
    find = " ".join([id_of(test, query), name, *(name_landmark(one, reading.names) for one in right)])
    return ShownQuery(id_of(test, query), show_query_image(test, query), note, strips, NONE, find)


def _show_landmark(title: str, landmark: int, query: int, reading: Reading, train: Split) -> Strip:
    """Train images of a landmark, those nearest to the query first."""
    near = reading.near[query][reading.near[query] != NONE]
    near = near[reading.landmarks[near] == landmark].tolist()
    others = np.flatnonzero(reading.landmarks == landmark)[: PHOTOGRAPHS + len(near)].tolist()
    rows = list(dict.fromkeys([*near, *others]))[:PHOTOGRAPHS]
    note = name_landmark(landmark, reading.names) + ("" if rows else ": not in train")
    return Strip(title, note, [show_image(train, row, title == "shows") for row in rows])
