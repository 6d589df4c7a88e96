"""Explore-exploit graph traversal (EGT): a walk from the query over the neighbours of its neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Annotated

import numpy as np
from pydantic import Field

from pipeline.arrays import NONE, round_similarity
from pipeline.competition.metrics import Truth
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.evidence import IndexGraph, Junk
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.settings import Positive, Settings

Edge = tuple[int, float]  # the row it leads to and its similarity


class TraversalSettings(Settings):
    """The step graph_traversal (EGT)."""

    # an edge above it is followed at once; inf: always only the single best
    threshold: Annotated[float, Field(ge=-math.inf, allow_inf_nan=True)] = math.inf
    explore_k: Positive = 50  # edges per image


def traverse_graph(
    ranking: Ranking,
    neighbours: Neighbours,
    settings: TraversalSettings = TraversalSettings(),
    top_k: int = 100,
    junk: Truth | None = None,
) -> Ranking:
    """The first `top_k` images that a best-first walk from the query accepts (Chang et al. 2019, algorithm 1).

    The graph: every vertex, the query too, has edges to its first `explore_k` neighbours, weighing their similarity.
    The *frontier* is what accepted vertices have edges to; an image there weighs as its best edge. In turns:
        exploit   accept all images of the frontier that weigh more than `threshold`, the heaviest first;
        explore   if there are none, accept the single heaviest;
        then the edges of the accepted images are added to the frontier.
    Equal weights (to 6 decimals) go by smaller row. A threshold of -inf empties the frontier each turn: the list, then
    its neighbours, and so on. One of inf always takes the heaviest edge, as Prim's algorithm grows a tree: the form
    that Yokoo et al. 2020 compared. When the frontier is empty, the images of the list not accepted follow in order.

    ranking: as searched, its scores are the similarities. neighbours: of the index in itself, (N, k) without the image
    itself. A listed image keeps its score, another gets the weight by which it was accepted. junk: the rows of each
    query that are neither accepted nor walked through, as if the graph did not have them.

    O(top_k * explore_k * log) time per query, in Python; memory O(Q top_k + top_k explore_k).
    """
    images = len(neighbours.rows)
    if images <= ranking.rows.max(initial=NONE) or ranking.count not in (None, images):
        raise ValueError(f"neighbours of {images} index images for lists of {ranking.count or 'more'}")
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    for query, length in enumerate(ranking.lengths.tolist()):
        listed = _edges(Neighbours(ranking.rows, ranking.scores), query, length)
        out = frozenset() if junk is None else frozenset(junk.of(query).tolist())
        accepted = _walk(listed[: settings.explore_k], neighbours, settings, top_k, out)
        answer = (accepted | dict(listed)).items()  # accepted first, in their order; listed ones with their own score
        for position, (row, score) in zip(range(top_k), answer, strict=False):
            rows[query, position], scores[query, position] = row, score
    return Ranking(rows, scores, ranking.count)


def _walk(
    first: list[Edge], neighbours: Neighbours, settings: TraversalSettings, top_k: int, barred: frozenset[int]
) -> dict[int, float]:
    """The accepted rows in order of acceptance, at most `top_k`, each with its weight; none of `barred`."""
    accepted: dict[int, float] = {}
    best: dict[int, float] = {}
    heap: list[tuple[float, int]] = []
    edges: Iterable[Edge] = first
    while len(accepted) < top_k:
        for row, weight in edges:
            if row not in accepted and row not in barred and weight > best.get(row, -math.inf):
                best[row] = weight
                heappush(heap, (-weight, row))  # a lighter edge to the row stays in the heap and comes up too late
        turn = _accept(heap, accepted, settings.threshold, top_k)
        if not turn:
            break
        edges = [edge for row in turn for edge in _edges(neighbours, row, settings.explore_k)]
    return accepted


def _accept(heap: list[tuple[float, int]], accepted: dict[int, float], threshold: float, top_k: int) -> list[int]:
    """The rows of one turn, taken from the heap into `accepted`: the heaviest, and all above the threshold."""
    turn: list[int] = []
    while heap and len(accepted) < top_k:
        weight, row = -heap[0][0], heap[0][1]
        if row not in accepted:
            if turn and weight <= threshold:
                break
            accepted[row] = weight
            turn.append(row)
        heappop(heap)
    return turn


def _edges(neighbours: Neighbours, row: int, count: int) -> list[Edge]:
    """The first `count` edges of a vertex; similarities rounded in float64, so that ties are ties."""
    weights = round_similarity(neighbours.similarities[row, :count]).tolist()
    return [edge for edge in zip(neighbours.rows[row, :count].tolist(), weights, strict=True) if edge[0] != NONE]


def _apply(ranking: Ranking, settings: TraversalSettings, top_k: int, graph: IndexGraph, junk: Junk) -> Ranking:
    return traverse_graph(ranking, graph.neighbours, settings, top_k=ranking.rows.shape[1], junk=junk.rows)


STEP = Step(
    "graph_traversal",
    "explore-exploit graph traversal (EGT): a best-first walk over the neighbours of neighbours",
    _apply,
    always(IndexGraph, Junk),
    TraversalSettings,
    reads_similarities=True,
    adds_other_scores=True,
)
