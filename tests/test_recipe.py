"""Recipes: named steps in order, each from the ranking before it."""

from dataclasses import replace

import numpy as np
import pytest
from planted import ranking_of
from scipy import sparse

from pipeline.competition.metrics import Truth
from pipeline.config import Config
from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.evidence import (
    DescriptorPair,
    Evidence,
    IndexGraph,
    Junk,
    LabelledNeighbours,
    LandmarkVotes,
    PropagatedLabels,
    TrainNeighbours,
    VerifiedPairs,
)
from pipeline.ranking.expansion import augment_database, expand_queries
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import RerankSettings, State, run_recipe
from pipeline.ranking.registry import STEPS
from pipeline.ranking.voting import Votes

NEIGHBOURS = Ranking(np.array([[3, 0, 2]], np.int32), np.array([[0.9, 0.8, 0.7]], np.float32), 5)
INDEX_VOTES = Votes(np.array([7, 5, 7, 5, 7]), np.array([0.5, 0.9, 0.5, 0.9, 0.8], np.float32))
VOTES = LandmarkVotes(Votes(np.array([7]), np.array([0.6], np.float32)), INDEX_VOTES)


def run(recipe, neighbours=NEIGHBOURS, evidence=Evidence(VOTES), **settings):
    return list(run_recipe(recipe, State(neighbours, evidence), RerankSettings(**settings), search_exact))


def test_steps_run_in_order_and_each_is_kept():
    done = run(["knn", "sort", "insert"], top_k=4)
    assert [name for name, _, _ in done] == ["knn", "sort", "insert"]
    assert [ranking.rows.tolist() for _, ranking, _ in done] == [[[3, 0, 2]], [[0, 2, 3]], [[0, 2, 4, 3]]]


def test_a_list_is_cut_at_top_k_by_every_step():
    for _, ranking, _ in run(["knn", "sort", "insert"], top_k=2):
        assert ranking.rows.shape == (1, 2)


def test_the_settings_admit_the_steps_that_exist_and_no_others():
    for step in set(STEPS) - {"knn"}:
        assert RerankSettings(recipe=["knn", step]).recipe == ["knn", step]
    assert Config.model_fields["rerank"].default.recipe == ["knn", "sort", "insert"]
    with pytest.raises(ValueError, match=f"choose one of {', '.join(STEPS)}"):
        RerankSettings(recipe=["knn", "shuffle"])


def test_every_step_with_settings_has_a_section_of_its_name_and_tunes_settings_that_exist():
    for name, step in STEPS.items():
        assert name == step.name and step.summary
        assert isinstance(RerankSettings().of_step(name), step.settings)
        assert (name in RerankSettings.model_fields) == bool(step.settings.model_fields)
        for key, values in step.tunable.items():
            for value in values:
                assert getattr(step.settings.model_validate({key: value}), key) == value


def test_what_a_recipe_needs_depends_on_its_steps_and_their_settings():
    settings = RerankSettings()
    assert settings.needs(["knn"]) == set()
    assert settings.needs(["knn", "sort", "verify"]) == {LandmarkVotes, VerifiedPairs}
    assert settings.needs(["knn", "dba"]) == {DescriptorPair, IndexGraph}
    assert RerankSettings(dba={"supervised": True}).needs(["knn", "dba"]) == {DescriptorPair, IndexGraph, LandmarkVotes}
    labelled = {name for name, step in STEPS.items() if step.needs_labels(step.settings())}
    assert labelled == {"sort", "insert", "soft", "label_vector", "label_score", "propagation"}


def test_the_cache_key_of_a_recipe_holds_the_settings_of_its_steps_and_no_others():
    settings = RerankSettings(soft={"bonus": 2.0}, insert={"min_confidence": 0.7}, top_k=50)
    assert settings.key_settings(["knn", "sort", "insert"]) == {
        "recipe": ["knn", "sort", "insert"], "top_k": 50, "steps": {"insert": {"min_confidence": 0.7}},
    }  # fmt: skip


@pytest.mark.parametrize("recipe", [["knn", "insert", "soft"], ["knn", "label_vector", "verify", "diffusion"]])
def test_a_step_that_reads_similarities_is_refused_after_one_that_adds_other_scores(recipe):
    with pytest.raises(ValueError, match=f"{recipe[-1]} reads similarities: it comes before {recipe[1]}"):
        RerankSettings(recipe=recipe)


@pytest.mark.parametrize("step", [name for name, step in STEPS.items() if step.needs(step.settings())])
def test_a_step_without_what_it_needs_says_so(step):
    with pytest.raises(ValueError, match=r"needs \w+, which the evidence lacks"):
        run(["knn", step], evidence=Evidence())


def known_world(seed):
    """The neighbours and everything that any step needs, of 12 queries and 40 index images of four landmarks."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, 16))

    def draw(count):
        labels = rng.integers(0, 4, count)
        vectors = (centres[labels] + rng.standard_normal((count, 16))).astype(np.float32)
        return labels.astype(np.int64), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    (query_labels, queries), (index_labels, index) = draw(12), draw(40)
    near, graph = search_exact(queries, index, 15), search_exact(index, index, 8, exclude=np.arange(40))
    pairs = PairTable(*(side.ravel() for side in (np.repeat(np.arange(12), 15), near.rows, rng.integers(0, 40, 180))))
    votes = [Votes(labels, np.full(len(labels), 0.7, np.float32)) for labels in (query_labels, index_labels)]
    spread = [sparse.csr_array(np.eye(4)[labels] * 0.4) for labels in (query_labels, index_labels)]
    train = [LabelledNeighbours(np.full((len(v.labels), 1), 0.7, np.float32), v.labels[:, None]) for v in votes]
    evidence = Evidence(
        LandmarkVotes(*votes), DescriptorPair(queries, index), IndexGraph(graph), VerifiedPairs(pairs, 100),
        TrainNeighbours(*train, np.arange(4)), PropagatedLabels(*spread, np.arange(4)),
    )  # fmt: skip
    return Ranking(near.rows, near.similarities, 40), evidence


@pytest.mark.parametrize("step", sorted(set(STEPS) - {"knn"}))
def test_every_step_gives_lists_cut_at_top_k_and_most_change_them(step):
    neighbours, evidence = known_world(3)
    first, done = run(["knn", step], neighbours, evidence, top_k=10)
    assert first.ranking.rows.shape == done.ranking.rows.shape == (12, 10)
    assert done.step == step
    if step != "insert":  # here it adds after the tenth position
        assert not np.array_equal(first.ranking.rows, done.ranking.rows)


def test_steps_after_one_that_moves_vectors_read_the_moved_ones():
    """Once the queries were expanded in the index as it had been before, as if there had been no dba."""
    neighbours, evidence = known_world(5)
    known, graph = evidence.get(DescriptorPair), evidence.get(IndexGraph).neighbours
    index = augment_database(known.index, graph, 5, 3.0)
    queries = expand_queries(DescriptorPair(known.queries, index), ranking_of(known.queries, index, 15), 10, 3.0)
    expected = ranking_of(queries, index, 15).top(10)
    *_, done = run(["knn", "dba", "alpha_qe"], neighbours, evidence, top_k=10)
    assert np.array_equal(done.ranking.rows, expected.rows) and np.array_equal(done.ranking.scores, expected.scores)
    *_, soft = run(["knn", "alpha_qe", "soft"], neighbours, evidence, top_k=10)
    moved = expand_queries(known, neighbours, 10, 3.0)
    products = (moved @ known.index.T).round(6)
    assert soft.ranking.scores == pytest.approx(np.take_along_axis(products, soft.ranking.rows, 1), abs=2e-6)


def world_without(evidence, query, junk):
    """The evidence of one query in a world that never had the images `junk`, and the rows that are left."""
    kept = np.setdiff1d(np.arange(40), junk)
    number = np.full(40, -1, np.int32)
    number[kept] = np.arange(len(kept))
    known, old = evidence.get(DescriptorPair), evidence.get(IndexGraph).neighbours
    one = slice(query, query + 1)
    near = search_exact(known.queries[one], known.index[kept], len(kept))
    table = evidence.get(VerifiedPairs).table
    inliers = table.look_up(np.tile(np.arange(40, dtype=np.int32), (12, 1)))[query, kept]
    pairs = PairTable(np.zeros(len(kept), np.int32), np.arange(len(kept), dtype=np.int32), inliers)
    graph = Neighbours(old.rows[kept].copy(), old.similarities[kept].copy())
    for row in range(len(kept)):  # edges to junk are gone, later ones move up
        stay = ~np.isin(graph.rows[row], junk)
        rows, weights = number[graph.rows[row][stay]], graph.similarities[row][stay]
        graph.rows[row], graph.similarities[row] = -1, 0
        graph.rows[row, : len(rows)], graph.similarities[row, : len(rows)] = rows, weights
    votes, train = evidence.get(LandmarkVotes), evidence.get(TrainNeighbours)
    spread = evidence.get(PropagatedLabels)
    reduced = Evidence(
        LandmarkVotes(Votes(*(part[one] for part in votes.queries)), Votes(*(part[kept] for part in votes.index))),
        DescriptorPair(known.queries[one], known.index[kept]), VerifiedPairs(pairs, 100), IndexGraph(graph),
        replace(
            train,
            queries=LabelledNeighbours(*(part[one] for part in train.queries)),
            index=LabelledNeighbours(*(part[kept] for part in train.index)),
        ),
        replace(spread, queries=spread.queries[one], index=spread.index[kept]),
    )  # fmt: skip
    return kept, Ranking(near.rows, near.similarities, len(kept)), reduced


# dba and diffusion are left out: what they compute from the database beforehand knows of no query's junk.
@pytest.mark.parametrize("step", sorted(set(STEPS) - {"knn", "dba", "diffusion"}))
@pytest.mark.parametrize("seed", range(3))
def test_a_step_ranks_as_if_the_junk_of_a_query_had_never_been_in_the_index(step, seed):
    _, evidence = known_world(seed)
    settings = {"top_k": 40, "superglobal": {"first": 20}, "k_reciprocal": {"first": 20}, "aqe": {"k": 3}}
    junk = [np.random.default_rng((seed, query)).permutation(40)[: query % 8] for query in range(12)]
    known = evidence.replace(Junk(Truth.from_lists([sorted(own.tolist()) for own in junk])))
    everything = ranking_of(known.get(DescriptorPair).queries, known.get(DescriptorPair).index, 40)
    done = [one.ranking for one in run(["knn", step], everything, known, **settings)]
    for query in range(12):
        kept, neighbours, reduced = world_without(evidence, query, junk[query])
        expected = [one.ranking for one in run(["knn", step], neighbours, reduced, **settings)]
        for found, right in zip(done, expected, strict=True):
            rows = right.rows[0][right.rows[0] >= 0]
            assert found.rows[query].tolist() == kept[rows].tolist() + [-1] * (40 - len(rows))


@pytest.mark.parametrize("step", sorted(STEPS))
def test_no_step_leaves_junk_in_a_list_and_none_is_left_out_for_it(step):
    _, evidence = known_world(5)
    known = evidence.replace(Junk(Truth.from_lists([[query, 20, 39] for query in range(12)])))
    everything = ranking_of(known.get(DescriptorPair).queries, known.get(DescriptorPair).index, 40)
    steps = ["knn"] if step == "knn" else ["knn", step, *(["alpha_qe"] if step != "alpha_qe" else [])]
    for done in run(steps, everything, known, top_k=40):
        for query, rows in enumerate(done.ranking.rows.tolist()):
            assert set(rows) == set(range(40)) - {query, 20, 39} | {-1}, done.step
