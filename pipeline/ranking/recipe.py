"""Recipes: the steps by name, applied one after the other, each a function from a ranking to a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.matching.pair_table import PairTable
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.two_stage import LandmarkGroups, group_by_landmark, insert_step, sort_step
from pipeline.ranking.verified import verify_step
from pipeline.ranking.voting import Votes


@dataclass(frozen=True)
class Evidence:
    """What the steps know beside the ranking itself, and their settings.

    query_votes, index_votes: landmarks and confidences by soft voting, of Q queries and N index images.
    pairs: the inliers of compared pairs; the step verify cannot do without.
    """

    query_votes: Votes
    index_votes: Votes
    min_confidence: float = 0.6
    top_k: int = 100
    pairs: PairTable | None = None
    verify_first: int = 100
    min_inliers: int = 0

    @cached_property
    def groups(self) -> LandmarkGroups:
        """The index images of each landmark; made when a step first asks."""
        return group_by_landmark(self.index_votes)


def _sort(ranking: Ranking, evidence: Evidence) -> Ranking:
    return sort_step(ranking, evidence.query_votes.labels, evidence.index_votes.labels)


def _insert(ranking: Ranking, evidence: Evidence) -> Ranking:
    return insert_step(
        ranking,
        evidence.query_votes,
        evidence.groups,
        min_confidence=evidence.min_confidence,
        top_k=evidence.top_k,
    )


def _verify(ranking: Ranking, evidence: Evidence) -> Ranking:
    if evidence.pairs is None:
        raise ValueError("the step verify needs the inliers of compared pairs")
    inliers = evidence.pairs.look_up(ranking.rows)
    return verify_step(ranking, inliers, evidence.verify_first, evidence.min_inliers)


STEPS: dict[str, Callable[[Ranking, Evidence], Ranking]] = {
    "knn": lambda ranking, evidence: ranking.top(evidence.top_k),
    "verify": _verify,
    "sort": _sort,
    "insert": _insert,
}


def run_recipe(steps: Sequence[str], neighbours: Ranking, evidence: Evidence) -> Iterator[tuple[str, Ranking]]:
    """(name, ranking after that step) for every step in turn, starting from the nearest neighbours."""
    ranking = neighbours
    for step in steps:
        ranking = STEPS[step](ranking, evidence)
        yield step, ranking
