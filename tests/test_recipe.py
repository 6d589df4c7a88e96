"""Recipes: named steps in order, each from the ranking before it."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.competition.metrics import Truth
from pipeline.config import Config
from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.expansion import augment_database, expand_queries, search_again
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import MOVES, STEPS, Evidence, TrainNeighbours, run_recipe
from pipeline.ranking.voting import Votes
from pipeline.settings import VerifySettings
from pipeline.steps import RerankSettings

ALL = sorted({*STEPS, *MOVES})
NEIGHBOURS = Ranking(np.array([[3, 0, 2]], np.int32), np.array([[0.9, 0.8, 0.7]], np.float32), 5)


def evidence(**settings):
    votes = Votes(np.array([7, 5, 7, 5, 7]), np.array([0.5, 0.9, 0.5, 0.9, 0.8], np.float32))
    return Evidence(Votes(np.array([7]), np.array([0.6], np.float32)), votes, RerankSettings(**settings))


def test_steps_run_in_order_and_each_is_kept():
    done = list(run_recipe(["knn", "sort", "insert"], NEIGHBOURS, evidence(top_k=4)))
    assert [name for name, _, _ in done] == ["knn", "sort", "insert"]
    assert [ranking.rows.tolist() for _, ranking, _ in done] == [[[3, 0, 2]], [[0, 2, 3]], [[0, 2, 4, 3]]]


def test_a_list_is_cut_at_top_k_by_every_step():
    for _, ranking, _ in run_recipe(["knn", "sort", "insert"], NEIGHBOURS, evidence(top_k=2)):
        assert ranking.rows.shape == (1, 2)


def test_the_settings_admit_the_steps_that_exist_and_no_others():
    for step in set(ALL) - {"knn"}:
        assert RerankSettings(recipe=["knn", step]).recipe == ["knn", step]
    assert Config.model_fields["rerank"].default.recipe == ["knn", "sort", "insert"]
    allowed = RerankSettings.model_json_schema()["properties"]["recipe"]["items"]["enum"]
    assert sorted(allowed) == ALL


@pytest.mark.parametrize("recipe", [["knn", "insert", "soft"], ["knn", "label_vector", "verify", "diffusion"]])
def test_a_step_that_reads_similarities_is_refused_behind_one_that_adds_other_scores(recipe):
    with pytest.raises(ValueError, match=f"{recipe[-1]} reads similarities: it comes before {recipe[1]}"):
        RerankSettings(recipe=recipe)


@pytest.mark.parametrize("step", sorted(set(ALL) - {"knn", "sort", "insert"}))
def test_a_step_without_what_it_needs_says_so(step):
    with pytest.raises(ValueError, match=r"needs .* which the evidence lacks"):
        list(run_recipe(["knn", step], NEIGHBOURS, evidence()))


def known_world(seed):
    """Everything that any step needs, of 12 queries and 40 index images of four landmarks."""
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
    train = [TrainNeighbours(np.full((len(v.labels), 1), 0.7, np.float32), v.labels[:, None]) for v in votes]
    settings = RerankSettings(top_k=10)
    known = Evidence(*votes, settings, VerifySettings(), pairs, queries, index, graph, *train, np.arange(4))
    return Ranking(near.rows, near.similarities, 40), known


@pytest.mark.parametrize("step", sorted(set(ALL) - {"knn"}))
def test_every_step_gives_lists_cut_at_top_k_that_it_need_not_share_with_knn(step):
    neighbours, known = known_world(3)
    first, done = run_recipe(["knn", step], neighbours, known)
    assert first.ranking.rows.shape == done.ranking.rows.shape == (12, 10)
    assert done.step == step and done.seconds >= 0
    if step != "insert":  # here it adds behind the tenth place
        assert not np.array_equal(first.ranking.rows, done.ranking.rows)


def test_steps_behind_one_that_moves_vectors_read_the_moved_ones():
    """Once the queries were expanded in the index as it had been before, as if there had been no dba."""
    neighbours, known = known_world(5)
    settings = known.settings
    index = augment_database(known.index, known.graph, settings.dba.k, settings.dba.alpha, None)
    found = search_again(known.queries, index, 15)
    queries = expand_queries(known.queries, index, found, settings.alpha_qe.k, settings.alpha_qe.alpha)
    expected = search_again(queries, index, 15).top(10)
    *_, done = run_recipe(["knn", "dba", "alpha_qe"], neighbours, known)
    assert np.array_equal(done.ranking.rows, expected.rows) and np.array_equal(done.ranking.scores, expected.scores)
    *_, soft = run_recipe(["knn", "alpha_qe", "soft"], neighbours, known)
    moved = expand_queries(known.queries, known.index, neighbours, settings.alpha_qe.k, settings.alpha_qe.alpha)
    products = (moved @ known.index.T).round(6)
    assert soft.ranking.scores == pytest.approx(np.take_along_axis(products, soft.ranking.rows, 1), abs=2e-6)


def world_without(known, query, junk):
    """The evidence of one query in a world that never had the images `junk`, and the rows that are left."""
    kept = np.setdiff1d(np.arange(40), junk)
    number = np.full(40, -1, np.int32)
    number[kept] = np.arange(len(kept))
    near = search_exact(known.queries[query : query + 1], known.index[kept], len(kept))
    inliers = known.pairs.look_up(np.tile(np.arange(40, dtype=np.int32), (12, 1)))[query, kept]
    pairs = PairTable(np.zeros(len(kept), np.int32), np.arange(len(kept), dtype=np.int32), inliers)
    graph = Neighbours(known.graph.rows[kept].copy(), known.graph.similarities[kept].copy())
    for row in range(len(kept)):  # edges to junk are gone, what is behind them moves up
        stay = ~np.isin(graph.rows[row], junk)
        rows, weights = number[graph.rows[row][stay]], graph.similarities[row][stay]
        graph.rows[row], graph.similarities[row] = -1, 0
        graph.rows[row, : len(rows)], graph.similarities[row, : len(rows)] = rows, weights
    one, many = slice(query, query + 1), kept
    reduced = replace(
        known,
        query_votes=Votes(*(part[one] for part in known.query_votes)),
        index_votes=Votes(*(part[many] for part in known.index_votes)),
        queries=known.queries[one], index=known.index[many], pairs=pairs, graph=graph, junk=None,
        query_train=TrainNeighbours(*(part[one] for part in known.query_train)),
        index_train=TrainNeighbours(*(part[many] for part in known.index_train)),
    )  # fmt: skip
    return kept, Ranking(near.rows, near.similarities, len(kept)), reduced


# dba and diffusion are left out: what they make of the database beforehand knows of no query's junk.
@pytest.mark.parametrize("step", sorted(set(ALL) - {"knn", "dba", "diffusion"}))
@pytest.mark.parametrize("seed", range(3))
def test_a_step_ranks_as_if_the_junk_of_a_query_had_never_been_in_the_index(step, seed):
    _, known = known_world(seed)
    settings = RerankSettings(top_k=40, superglobal={"first": 20}, k_reciprocal={"first": 20}, aqe={"k": 3})
    junk = [np.random.default_rng((seed, query)).permutation(40)[: query % 8] for query in range(12)]
    known = replace(known, settings=settings, junk=Truth.from_lists([sorted(own.tolist()) for own in junk]))
    near = search_exact(known.queries, known.index, 40)
    done = [one.ranking for one in run_recipe(["knn", step], Ranking(near.rows, near.similarities, 40), known)]
    for query in range(12):
        kept, neighbours, reduced = world_without(known, query, junk[query])
        expected = [one.ranking for one in run_recipe(["knn", step], neighbours, reduced)]
        for found, right in zip(done, expected, strict=True):
            rows = right.rows[0][right.rows[0] >= 0]
            assert found.rows[query].tolist() == kept[rows].tolist() + [-1] * (40 - len(rows))


@pytest.mark.parametrize("step", ALL)
def test_no_step_leaves_junk_in_a_list_and_none_is_left_out_for_it(step):
    _, known = known_world(5)
    junk = Truth.from_lists([[query, 20, 39] for query in range(12)])
    known = replace(known, settings=RerankSettings(top_k=40), junk=junk)
    near = search_exact(known.queries, known.index, 40)
    steps = ["knn"] if step == "knn" else ["knn", step, *(["alpha_qe"] if step != "alpha_qe" else [])]
    for done in run_recipe(steps, Ranking(near.rows, near.similarities, 40), known):
        for query, rows in enumerate(done.ranking.rows.tolist()):
            assert set(rows) == set(range(40)) - {query, 20, 39} | {-1}, done.step
