"""Recipes: the steps by name, applied one after the other, each a function from a ranking to a ranking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

from scipy import sparse

from pipeline.competition.benchmark_metrics import mark_junk
from pipeline.competition.metrics import Truth
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.diffusion import build_affinity, diffusion_step
from pipeline.ranking.expansion import augment_database, expand_queries, search_again
from pipeline.ranking.graph_traversal import traverse_graph
from pipeline.ranking.k_reciprocal import k_reciprocal_step
from pipeline.ranking.label_vector import label_score_step, label_vector_step, label_vectors
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.shortlist import Descriptors
from pipeline.ranking.soft import soft_step
from pipeline.ranking.superglobal import superglobal_step
from pipeline.ranking.two_stage import LandmarkGroups, group_by_landmark, insert_step, sort_step
from pipeline.ranking.verified import verify_step
from pipeline.ranking.voting import Floats, Labels, Votes, sharpen
from pipeline.settings import VerifySettings
from pipeline.steps import RerankSettings

Value = TypeVar("Value")


class TrainNeighbours(NamedTuple):
    """The nearest train photographs of each image: similarities (Q, k), labels (Q, k), -1 = none."""

    similarities: Floats
    labels: Labels


@dataclass(frozen=True)
class Evidence:
    """What the steps know beside the ranking itself, of Q queries and N index images. A step may lack what it needs.

    votes: landmarks and confidences by soft voting. train: the neighbours that they come from; landmarks: all labels
    there, ascending. queries (Q, D), index (N, D): unit vectors. graph: the neighbours of the index in itself. pairs:
    the inliers of compared pairs. junk: index rows that a query's list must not hold after any step, nor a step read
    from it: the benchmarks that have such images take them out before anything is re-ranked.
    """

    query_votes: Votes
    index_votes: Votes
    settings: RerankSettings = field(default_factory=RerankSettings)
    verify: VerifySettings = field(default_factory=VerifySettings)
    pairs: PairTable | None = None
    queries: Descriptors | None = None
    index: Descriptors | None = None
    graph: Neighbours | None = None
    query_train: TrainNeighbours | None = None
    index_train: TrainNeighbours | None = None
    landmarks: Labels | None = None
    junk: Truth | None = None
    device: str | None = None

    @cached_property
    def groups(self) -> LandmarkGroups:
        """The index images of each landmark; made when a step first asks."""
        return group_by_landmark(self.index_votes)


def _needed(value: Value | None, what: str) -> Value:
    if value is None:
        raise ValueError(f"a step needs {what}, which the evidence lacks")
    return value


def _verify(ranking: Ranking, known: Evidence) -> Ranking:
    inliers = _needed(known.pairs, "the inliers of compared pairs").look_up(ranking.rows)
    return verify_step(ranking, inliers, known.verify.index_k, known.verify.min_inliers)


def _sort(ranking: Ranking, known: Evidence) -> Ranking:
    return sort_step(ranking, known.query_votes.labels, known.index_votes.labels)


def _insert(ranking: Ranking, known: Evidence) -> Ranking:
    settings = known.settings
    return insert_step(
        ranking, known.query_votes, known.groups, min_confidence=settings.min_confidence, top_k=settings.top_k
    )


def _soft(ranking: Ranking, known: Evidence) -> Ranking:
    own = known.settings.soft
    return soft_step(
        ranking, _queries(known), _index(known), known.query_votes, known.groups,
        bonus=own.bonus, penalty=own.penalty, top_k=known.settings.top_k,
    )  # fmt: skip


def _label_vector(ranking: Ranking, known: Evidence) -> Ranking:
    of_queries, of_index = _label_vectors(known, known.settings.label_vector.votes)
    return label_vector_step(ranking, of_queries, of_index, top_k=known.settings.top_k)


def _label_score(ranking: Ranking, known: Evidence) -> Ranking:
    own = known.settings.label_score
    of_queries, of_index = (vectors / own.votes for vectors in _label_vectors(known, own.votes, own.sharpness))
    return label_score_step(
        ranking, _queries(known), _index(known), of_queries, of_index, alpha=own.alpha, top_k=known.settings.top_k
    )


def _label_vectors(known: Evidence, votes: int, sharpness: float = 1.0) -> list[sparse.csr_array]:
    landmarks = _needed(known.landmarks, "the landmarks of train")
    sides = [_needed(side, "train neighbours") for side in (known.query_train, known.index_train)]
    return [
        label_vectors(sharpen(near.similarities[:, :votes], sharpness), near.labels[:, :votes], landmarks)
        for near in sides
    ]


def _aqe(ranking: Ranking, known: Evidence) -> Evidence:
    return _expand(ranking, known, known.settings.aqe.k, 0.0)


def _alpha_qe(ranking: Ranking, known: Evidence) -> Evidence:
    return _expand(ranking, known, known.settings.alpha_qe.k, known.settings.alpha_qe.alpha)


def _expand(ranking: Ranking, known: Evidence, k: int, alpha: float) -> Evidence:
    return replace(known, queries=expand_queries(_queries(known), _index(known), ranking, k, alpha))


def _dba(ranking: Ranking, known: Evidence) -> Evidence:
    own = known.settings.dba
    labels = known.index_votes.labels if own.supervised else None
    return replace(known, index=augment_database(_index(known), _graph(known), own.k, own.alpha, labels))


def _diffusion(ranking: Ranking, known: Evidence) -> Ranking:
    own = known.settings.diffusion
    affinity = build_affinity(_graph(known), own.gamma)
    return diffusion_step(ranking, affinity, **own.model_dump(), top_k=ranking.rows.shape[1])


def _traverse(ranking: Ranking, known: Evidence) -> Ranking:
    own = known.settings.graph_traversal
    return traverse_graph(ranking, _graph(known), **own.model_dump(), top_k=ranking.rows.shape[1], barred=known.junk)


def _k_reciprocal(ranking: Ranking, known: Evidence) -> Ranking:
    return k_reciprocal_step(ranking, _queries(known), _index(known), **known.settings.k_reciprocal.model_dump())


def _superglobal(ranking: Ranking, known: Evidence) -> Ranking:
    return superglobal_step(ranking, _queries(known), _index(known), **known.settings.superglobal.model_dump())


def _queries(known: Evidence) -> Descriptors:
    return _needed(known.queries, "the queries' descriptors")


def _index(known: Evidence) -> Descriptors:
    return _needed(known.index, "the index's descriptors")


def _graph(known: Evidence) -> Neighbours:
    return _needed(known.graph, "the neighbours of the index in itself")


STEPS: dict[str, Callable[[Ranking, Evidence], Ranking]] = {
    "knn": lambda ranking, known: ranking,
    "verify": _verify,
    "sort": _sort,
    "insert": _insert,
    "soft": _soft,
    "label_vector": _label_vector,
    "label_score": _label_score,
    "diffusion": _diffusion,
    "graph_traversal": _traverse,
    "k_reciprocal": _k_reciprocal,
    "superglobal": _superglobal,
}
# These move vectors, for the steps that follow too; then the queries search again.
MOVES: dict[str, Callable[[Ranking, Evidence], Evidence]] = {"aqe": _aqe, "alpha_qe": _alpha_qe, "dba": _dba}


class Done(NamedTuple):
    """A step of a recipe: its name, the ranking after it, cut at top_k, and the seconds that it took."""

    step: str
    ranking: Ranking
    seconds: float


def run_recipe(steps: Sequence[str], neighbours: Ranking, evidence: Evidence) -> Iterator[Done]:
    """Every step in turn, starting from the nearest neighbours.

    A step gets the whole lists of the one before it, also where they are longer than top_k, and the vectors as the
    steps before it have moved them; the neighbours of the index in itself stay those of the vectors as they came. It
    never gets junk: what a step that searches again brings back is taken out behind it. Raises ValueError where the
    evidence lacks what a step needs.
    """
    ranking, known = neighbours, evidence
    for step in steps:
        start = time.perf_counter()
        ranking, known = apply_step(step, ranking, known)
        yield Done(step, ranking.top(evidence.settings.top_k), time.perf_counter() - start)


def apply_step(step: str, ranking: Ranking, known: Evidence) -> tuple[Ranking, Evidence]:
    """The ranking after one step, without junk, and what the steps behind it know."""
    if step in MOVES:
        known = MOVES[step](ranking, known)
        ranking = search_again(_queries(known), _index(known), ranking.rows.shape[1], known.device)
    else:
        ranking = STEPS[step](ranking, known)
    if known.junk is not None:
        ranking = ranking.without(mark_junk(ranking.rows, known.junk))
    return ranking, known
