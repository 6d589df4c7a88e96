"""Shortlists: cosines that do not depend on the company, nearest others with ties, vectors gathered by row."""

import math

import numpy as np
import pytest
import torch
from planted import draw_ranking, draw_vectors, unit_vectors

from pipeline.features.ensemble import JoinedDescriptors
from pipeline.matching.knn import search_exact
from pipeline.ranking import shortlist
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.k_reciprocal import k_reciprocal_step
from pipeline.ranking.shortlist import cosines, gather, nearest_others, rerank_shortlists
from pipeline.ranking.superglobal import superglobal_step


@pytest.mark.parametrize("count", [0, 1, 2, 37])
def test_cosines_are_those_of_a_search_whatever_stands_beside(count):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        vectors = draw_vectors(rng, max(1, count), 24)[:count]
        found = cosines(vectors)
        assert found.shape == (count, count) and (found == found.T).all()
        some = rng.permutation(count)[: count // 2]
        np.testing.assert_array_equal(cosines(vectors[some]), found[np.ix_(some, some)])
        if count:
            rows, similarities = search_exact(vectors, vectors, count)
            np.testing.assert_array_equal(np.take_along_axis(found, rows, axis=1).astype(np.float32), similarities)


def pair_on_a_border(rng, width):
    """Two vectors whose product is half of the sixth decimal off, but for what float64 loses."""
    one, other = np.ones(width + 3, np.float32), np.zeros(width + 3, np.float32)
    one[:width], other[:width] = unit_vectors(rng, 2, width)
    for place in range(width, width + 3):
        other[place] = 0.1234565 - math.fsum(one.astype(np.float64) * other)
    return one, other


def test_cosines_on_a_border_of_rounding_are_summed_pair_by_pair():
    rng = np.random.default_rng(1)
    for _ in range(200):
        one, other = pair_on_a_border(rng, 61)
        company = unit_vectors(rng, int(rng.integers(0, 9)), 64)
        alone = round(float((one.astype(np.float64) * other).sum()), 6)
        assert cosines(np.stack([one, *company, other]))[0, -1] == alone
        assert cosines(np.stack([one, other]))[0, 1] == alone


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_nearest_others_equal_a_sort_by_similarity_then_place(count):
    for seed in range(20):
        similarities = cosines(draw_vectors(np.random.default_rng(seed), max(1, count), 4)[:count])
        for k in (0, 1, 3, count, count + 5):
            expected = [
                sorted((other for other in range(count) if other != one), key=lambda x, s=row: (-s[x], x))[:k]
                for one, row in enumerate(similarities)
            ]
            assert nearest_others(similarities, k).tolist() == expected


def test_gathered_vectors_are_those_of_the_rows_and_zeros_where_there_is_none():
    rng = np.random.default_rng(3)
    models = [unit_vectors(rng, 9, 4), unit_vectors(rng, 9, 3)]
    rows = np.int32([[8, -1, 0], [0, 0, 5]])
    for vectors in (models[0], JoinedDescriptors(models)):
        expected = np.where(rows[..., None] >= 0, vectors[:][rows], 0)
        np.testing.assert_array_equal(gather(vectors, rows), expected)
    assert gather(models[0][:0], np.full((2, 1), -1)).tolist() == [[[0] * 4]] * 2


@pytest.mark.parametrize("queries", [0, 1, 5])
@pytest.mark.parametrize("first", [0, 1, 3, 100])
def test_only_the_first_places_move_ties_go_by_row_and_scores_stay_with_their_rows(queries, first):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        vectors, index = unit_vectors(rng, queries, 3), np.arange(24, dtype=np.float32).reshape(8, 3)
        ranking = draw_ranking(rng, queries, 8, int(rng.integers(0, 9)))

        def compare(query, candidates):
            return -(candidates[..., 0] // 3 % 2)  # even rows before odd ones

        after = rerank_shortlists(ranking, DescriptorPair(vectors, index), first, compare)
        for before, rows in zip(ranking.rows.tolist(), after.rows.tolist(), strict=True):
            listed = [row for row in before if row >= 0]
            expected = sorted(listed[:first], key=lambda row: (row % 2, row)) + listed[first:]
            assert rows == expected + before[len(listed) :]
        np.testing.assert_array_equal(after.scores, np.where(after.rows >= 0, 1 - after.rows / 100, 0).astype("f4"))
        assert after.count == 8


@pytest.mark.parametrize("step", [k_reciprocal_step, superglobal_step])
def test_no_answer_depends_on_how_many_queries_a_thread_has_at_a_time(step, monkeypatch):
    rng = np.random.default_rng(6)
    queries, index = unit_vectors(rng, 40, 16), unit_vectors(rng, 90, 16)
    whole, lengths = draw_ranking(rng, 40, 90, 60), rng.integers(0, 61, 40)  # an empty list, lists of many lengths
    ranking = whole.without(np.arange(60) >= np.where(np.arange(40) % 2, 60, lengths)[:, None])
    found = []
    for values in (1, 100_000, 1 << 30):
        monkeypatch.setattr(shortlist, "BLOCK_VALUES", values)
        found.append(step(ranking, DescriptorPair(queries, index)).rows)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_small_products_are_one_threads_work():
    """All cores shared each of them: on a busy machine k_reciprocal took 28 ms a query where it computes 0.5 ms."""
    threads = set()

    def compare(query, candidates):
        threads.add(torch.get_num_threads())
        return cosines(candidates)[..., 0]

    ranking = draw_ranking(np.random.default_rng(7), 9, 20, 20)
    rerank_shortlists(ranking, DescriptorPair(np.ones((9, 4)), np.ones((20, 4))), 20, compare)
    assert threads == {1}


def test_lists_of_other_queries_or_another_index_are_refused():
    ranking = draw_ranking(np.random.default_rng(5), 3, 9, 9)
    for queries, index, message in (
        ((2, 4), (9, 4), "for 3 lists"),
        ((3, 4), (9, 5), "5 dim"),
        ((3, 4), (2, 4), "row "),
    ):
        with pytest.raises(ValueError, match=message):
            rerank_shortlists(ranking, DescriptorPair(np.zeros(queries), np.zeros(index)), 5, lambda q, x: x[:, 0])
    with pytest.raises(ValueError, match="first=-1"):
        rerank_shortlists(ranking, DescriptorPair(np.zeros((3, 4)), np.zeros((9, 4))), -1, lambda q, x: x[:, 0])
