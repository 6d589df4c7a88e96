"""The verify-step against a stable sort of one list at a time, alone and within a recipe."""

import numpy as np
import pytest

from pipeline.matching.knn import search_exact
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.evidence import Evidence, LandmarkVotes, VerifiedPairs
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import RerankSettings, State, run_recipe
from pipeline.ranking.verified import verify_step
from pipeline.ranking.voting import Votes


def make(*lists):
    rows = np.array(lists, np.int32)
    return Ranking(rows, np.where(rows >= 0, 1 - rows / 100, 0).astype(np.float32))


def draw_ranking(rng, queries, k):
    """Lists of different lengths in random order, with scores that tell the rows."""
    rows = np.full((queries, k), -1, np.int32)
    for query in range(queries):
        near = rng.permutation(20)[: rng.integers(0, k + 1)]
        rows[query, : len(near)] = near
    return make(*rows) if queries else Ranking(rows, np.zeros(rows.shape, np.float32))


def naive_verify(rows, inliers, first, min_inliers):
    listed = [(row, found if found >= min_inliers else 0) for row, found in zip(rows, inliers, strict=True) if row >= 0]
    head = sorted(listed[:first], key=lambda pair: -pair[1])
    ranked = [row for row, _ in head + listed[first:]]
    return ranked + [-1] * (len(rows) - len(ranked))


@pytest.mark.parametrize("queries", [0, 1, 7])
@pytest.mark.parametrize("k", [0, 1, 2, 12])
@pytest.mark.parametrize("first", [1, 2, 12, 100])
def test_verified_order_is_a_stable_sort_of_the_first_places(queries, k, first):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        ranking, min_inliers = draw_ranking(rng, queries, k), int(rng.integers(0, 6))
        inliers = rng.integers(0, 8, ranking.rows.shape).astype(
            [np.int32, np.uint16][seed % 2]
        )  # ties; some at no image
        after = verify_step(ranking, inliers, first, min_inliers)
        assert after.rows.tolist() == [
            naive_verify(rows, found, first, min_inliers)
            for rows, found in zip(ranking.rows.tolist(), inliers.tolist(), strict=True)
        ]
        expected = np.where(after.rows >= 0, 1 - after.rows / 100, 0).astype(np.float32)
        np.testing.assert_array_equal(after.scores, expected)  # a score goes where its row goes
        assert after.rows.dtype == np.int32


def test_most_inliers_come_first_and_equal_ones_keep_their_order():
    after = verify_step(make([4, 2, 9, 7, 1]), np.array([[3, 40, 3, 41, 0]]))
    assert after.rows.tolist() == [[7, 2, 4, 9, 1]]
    assert after.scores[0] == pytest.approx([0.93, 0.98, 0.96, 0.91, 0.99])


def test_what_stands_behind_the_first_places_stays_there_whatever_it_shares():
    ranking, inliers = make([4, 2, 9, 7]), np.array([[1, 2, 3, 99]])
    assert verify_step(ranking, inliers, first=3).rows.tolist() == [[9, 2, 4, 7]]
    assert verify_step(ranking, inliers, first=1).rows.tolist() == [[4, 2, 9, 7]]
    assert verify_step(ranking, inliers, first=4).rows.tolist() == verify_step(ranking, inliers, 5).rows.tolist()


def test_a_few_inliers_count_as_none_and_as_many_as_asked_count():
    ranking, inliers = make([4, 2, 9, 7]), np.array([[8, 9, 10, 11]])
    assert verify_step(ranking, inliers, min_inliers=10).rows.tolist() == [[7, 9, 4, 2]]
    assert verify_step(ranking, inliers, min_inliers=12).rows.tolist() == [[4, 2, 9, 7]]


def test_an_image_without_inliers_stands_before_a_place_without_an_image():
    assert verify_step(make([4, 2, -1, -1]), np.array([[0, 5, 9, 0]])).rows.tolist() == [[2, 4, -1, -1]]


def test_the_number_of_images_goes_on_with_the_ranking():
    ranking = Ranking(np.int32([[1, 0]]), np.float32([[0.5, 0.4]]), 2)
    assert verify_step(ranking, np.array([[0, 1]])).count == 2


def test_inliers_of_another_shape_are_refused():
    for shape in ((1, 2), (2, 3), (3,)):
        with pytest.raises(ValueError, match="lists of shape"):
            verify_step(make([4, 2, 9]), np.zeros(shape, np.int32))


# ---- In a recipe ---------------------------------------------------------------------------------------------------

INDEX = Votes(np.array([7, 5, 7, 5, 7]), np.float32([0.5, 0.9, 0.5, 0.9, 0.8]))
QUERY = Votes(np.array([7]), np.float32([0.6]))
NEIGHBOURS = Ranking(np.int32([[3, 0, 2]]), np.float32([[0.9, 0.8, 0.7]]), 5)
COMPARED = PairTable(np.int32([0, 0, 0]), np.int32([3, 0, 2]), np.array([4, 9, 35]))


def ranked(steps, pairs=None, top_k=100, index_k=100, min_inliers=0):
    compared = () if pairs is None else (VerifiedPairs(pairs, index_k),)
    start = State(NEIGHBOURS, Evidence(LandmarkVotes(QUERY, INDEX), *compared))
    settings = RerankSettings(top_k=top_k, verify={"min_inliers": min_inliers})
    return [(name, ranking.rows.tolist()) for name, ranking, _ in run_recipe(steps, start, settings, search_exact)]


def test_verify_orders_the_neighbours_by_the_inliers_of_the_table():
    assert ranked(["knn", "verify"], pairs=COMPARED)[1] == ("verify", [[2, 0, 3]])
    assert ranked(["knn", "verify"], pairs=COMPARED, index_k=2)[1] == ("verify", [[0, 3, 2]])
    assert ranked(["knn", "verify"], pairs=COMPARED, min_inliers=10)[1] == ("verify", [[2, 3, 0]])


def test_inserted_images_that_were_not_compared_count_no_inliers():
    done = ranked(["knn", "insert", "verify"], pairs=COMPARED, top_k=4)
    assert done[1:] == [("insert", [[3, 0, 2, 4]]), ("verify", [[2, 0, 3, 4]])]
    none = PairTable(*(np.zeros(0, np.int32) for _ in range(3)))
    assert ranked(["knn", "insert", "verify"], pairs=none, top_k=4)[2] == ("verify", [[3, 0, 2, 4]])


def test_the_sort_step_behind_keeps_the_verified_order_within_the_landmark():
    assert ranked(["knn", "verify", "sort"], pairs=COMPARED)[2] == ("sort", [[2, 0, 3]])
    assert ranked(["knn", "sort", "verify"], pairs=COMPARED, min_inliers=36)[2] == ("verify", [[0, 2, 3]])


def test_verify_without_compared_pairs_is_refused():
    with pytest.raises(ValueError, match="needs VerifiedPairs"):
        ranked(["knn", "verify"])
