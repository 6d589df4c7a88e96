"""Why a query got what it got: the train images that voted for it, what was misread, and the inliers of its pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import NO_LABEL, NONE
from pipeline.images.split import Split
from pipeline.report.answers import name_landmark
from pipeline.report.gallery import Cell, Why, show_image
from pipeline.report.local_report import VerifiedPairs, draw_pair
from pipeline.report.matches import Figure
from pipeline.report.misses import Reading, Relevant, describe_query

PAIR_HEIGHT_PX = 200  # of a pair below a query


@dataclass(frozen=True)
class Explainer:
    """What a run knows of its answers; None for what it does not have.

    votes: how many train images vote. relevant: the judged pairs of query and index image.
    """

    test: Split
    index: Split
    train: Split
    votes: int = 0
    reading: Reading | None = None
    relevant: Relevant | None = None
    verified: VerifiedPairs | None = None

    def explain(self, query: int) -> Why:
        """Sentences, votes and pairs of one query."""
        sentences = []
        if self.reading is not None and self.relevant is not None:
            sentences = describe_query(query, self.relevant, self.reading)
        return Why(sentences, self._show_votes(query), self._draw_pairs(query))

    def _show_votes(self, query: int) -> list[Cell]:
        reading = self.reading
        if reading is None:
            return []
        right = None if reading.right is None else set(reading.right.of(query).tolist())
        cells = []
        for row, similarity in zip(reading.near[query, : self.votes], reading.similarities[query], strict=False):
            landmark = int(reading.landmarks[row]) if row != NONE else NO_LABEL
            if row != NONE:
                caption = f"{name_landmark(landmark, reading.names)}, {similarity:.3f}"
                cells.append(show_image(self.train, int(row), landmark in right if right else None, caption))
        return cells

    def _draw_pairs(self, query: int) -> list[Figure]:
        """The pair with the most inliers; where solutions judge, the best right one and the best wrong one."""
        if self.verified is None:
            return []
        pairs = self.verified.pairs
        own = pairs[(pairs["query"] == query).to_numpy() & (pairs["inliers"] >= self.verified.min_inliers).to_numpy()]
        own = own.sort_values(["inliers", "row"], ascending=[False, True])
        groups = [own]
        if self.relevant is not None:
            right = np.isin(own["row"], self.relevant.rows[self.relevant.queries == query])
            groups = [own[right], own[~right]]
        rows = [int(group["row"].iloc[0]) for group in groups if len(group)]
        return [draw_pair(self.verified, self.test, self.index, (query, row), PAIR_HEIGHT_PX) for row in rows]
