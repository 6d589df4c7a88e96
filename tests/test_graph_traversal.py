"""Graph traversal against a walk that looks at every edge anew, by hand, and on chains of views."""

import math

import numpy as np
import pytest
from planted import draw_chains, graph, mean_ap, one_list

from pipeline.matching.knn import search_exact
from pipeline.ranking.graph_traversal import TraversalSettings, traverse_graph
from pipeline.ranking.ranking import Ranking


def traverse(ranking, neighbours, top_k=100, **settings):
    return traverse_graph(ranking, neighbours, TraversalSettings(**settings), top_k)


def naive_walk(first, edges, threshold, top_k):
    """{row: weight} as accepted: each turn the whole frontier anew, from the edges of all that is accepted."""
    accepted = {}
    while len(accepted) < top_k:
        frontier = {}
        for near in [first] + [edges[row] for row in accepted]:
            for row, weight in near:
                if row not in accepted:
                    frontier[row] = max(weight, frontier.get(row, -math.inf))
        heaviest = sorted(frontier, key=lambda row: (-frontier[row], row))
        turn = [row for row in heaviest if frontier[row] > threshold] or heaviest[:1]
        if not turn:
            break
        accepted |= {row: frontier[row] for row in turn[: top_k - len(accepted)]}
    return accepted


def draw(rng, images, queries, k, listed):
    """Vectors on a coarse grid (ties, duplicates), their neighbours with some missing, and some lists."""
    index = rng.integers(-2, 3, (images, 2)).astype(np.float32)
    neighbours = search_exact(index, index, k, exclude=np.arange(images))
    short = rng.integers(0, k + 1, images)
    missing = np.arange(k) >= short[:, None]
    neighbours.rows[missing], neighbours.similarities[missing] = -1, 0
    found = search_exact(rng.integers(-2, 3, (queries, 2)).astype(np.float32), index, listed)
    return neighbours, Ranking(found.rows, found.similarities, images)


@pytest.mark.parametrize("queries", [0, 1, 5])
@pytest.mark.parametrize(("images", "k", "listed"), [(1, 1, 1), (20, 3, 5), (20, 19, 20), (20, 20, 2)])
@pytest.mark.parametrize("threshold", [math.inf, 3.0, 0.0, -math.inf])
@pytest.mark.parametrize(("explore_k", "top_k"), [(1, 4), (3, 12), (100, 30)])
def test_the_walk_equals_one_that_looks_at_every_edge_anew(queries, images, k, listed, threshold, explore_k, top_k):
    for seed in range(5):
        neighbours, ranking = draw(np.random.default_rng(seed), images, queries, k, listed)
        edges = [
            [(row, weight) for row, weight in zip(rows[:explore_k], weights[:explore_k], strict=True) if row >= 0]
            for rows, weights in zip(neighbours.rows.tolist(), neighbours.similarities.tolist(), strict=True)
        ]
        after = traverse(ranking, neighbours, threshold=threshold, explore_k=explore_k, top_k=top_k)
        assert after.rows.shape == (queries, top_k) and after.count == images
        for query in range(queries):
            pairs = zip(ranking.rows[query].tolist(), ranking.scores[query].tolist(), strict=True)
            own = {row: score for row, score in pairs if row >= 0}
            expected = naive_walk(list(own.items())[:explore_k], edges, threshold, top_k) | own
            count = min(len(expected), top_k)
            assert after.rows[query].tolist() == list(expected)[:top_k] + [-1] * (top_k - count)
            assert after.scores[query].tolist() == list(expected.values())[:top_k] + [0] * (top_k - count)


#         0 is near the query; 1 and 2 hang on 0, 3 on 1; 4 is listed only
CHAIN = graph({1: 0.8, 2: 0.4}, {3: 0.9, 0: 0.8}, {0: 0.4}, {1: 0.9}, {})
LISTED = one_list([0, 4], [0.7, 0.6])


def test_the_best_first_walk_takes_the_heaviest_edge_each_time():
    after = traverse(LISTED, CHAIN, top_k=5)
    assert after.rows.tolist() == [[0, 1, 3, 4, 2]]
    assert after.scores[0] == pytest.approx([0.7, 0.8, 0.9, 0.6, 0.4])


def test_above_the_threshold_the_frontier_is_taken_before_what_hangs_on_it():
    assert traverse(LISTED, CHAIN, threshold=0.5, top_k=5).rows.tolist() == [[0, 4, 1, 3, 2]]
    assert traverse(LISTED, CHAIN, threshold=0.65, top_k=5).rows.tolist() == [[0, 1, 3, 4, 2]]


def test_a_weight_equal_to_the_threshold_is_not_above_it():
    assert traverse(LISTED, CHAIN, threshold=0.6, top_k=5).rows.tolist() == [[0, 1, 3, 4, 2]]
    assert traverse(LISTED, CHAIN, threshold=0.599999, top_k=5).rows.tolist() == [[0, 4, 1, 3, 2]]


def test_the_walk_stops_at_the_length_asked_within_a_turn_too():
    assert traverse(LISTED, CHAIN, threshold=-math.inf, top_k=1).rows.tolist() == [[0]]
    assert traverse(LISTED, CHAIN, top_k=3).rows.tolist() == [[0, 1, 3]]


def test_only_the_first_edges_are_explored_and_the_other_listed_images_follow():
    assert traverse(LISTED, CHAIN, explore_k=1, top_k=5).rows.tolist() == [[0, 1, 3, 4, -1]]


def test_equal_weights_go_by_row_wherever_they_come_from():
    near = graph({3: 0.5, 1: 0.5}, {}, {}, {}, {})
    assert traverse(one_list([0, 4, 2], [0.9, 0.5, 0.5]), near, top_k=5).rows.tolist() == [[0, 1, 2, 3, 4]]


def test_an_empty_list_stays_empty():
    empty = Ranking(np.full((1, 2), -1, np.int32), np.zeros((1, 2), np.float32))
    assert traverse(empty, CHAIN, top_k=3).rows.tolist() == [[-1, -1, -1]]
    assert traverse(Ranking(empty.rows[:, :0], empty.scores[:, :0]), graph(), top_k=1).rows.tolist() == [[-1]]


def test_neighbours_of_another_index_are_refused():
    for ranking in (one_list([5], [1.0]), one_list([0], [1.0], 6)):
        with pytest.raises(ValueError, match="5 index images"):
            traverse(ranking, CHAIN)


def test_one_query_alone_gets_the_list_it_gets_among_others():
    neighbours, ranking = draw(np.random.default_rng(3), 40, 7, 6, 8)
    together = traverse(ranking, neighbours, top_k=20)
    for query in range(7):
        alone = Ranking(ranking.rows[query : query + 1], ranking.scores[query : query + 1], 40)
        assert traverse(alone, neighbours, top_k=20).rows[0].tolist() == together.rows[query].tolist()


@pytest.mark.parametrize("threshold", [math.inf, 0.95])
def test_the_walk_follows_the_views_of_a_landmark_along_their_chain(threshold):
    index, landmarks = draw_chains(np.random.default_rng(0))
    found = search_exact(index[::24], index, 30)  # the first view of each chain asks
    before = Ranking(found.rows, found.similarities, 288)
    neighbours = search_exact(index, index, 6, exclude=np.arange(288))
    after = traverse(before, neighbours, threshold=threshold, top_k=30)
    truth = landmarks[::24]
    assert mean_ap(before.rows, truth, landmarks) < 0.75
    assert mean_ap(after.rows, truth, landmarks) > 0.95
