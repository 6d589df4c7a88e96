"""Diffusion against dense matrices and an exact solver, by hand, and on chains of views that similarity cannot join."""

import numpy as np
import pytest
from planted import draw_chains, graph, mean_ap, one_list

from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.diffusion import DiffusionSettings, build_affinity, diffusion_step
from pipeline.ranking.ranking import Ranking


def diffuse(ranking, affinity, top_k=100, **settings):
    return diffusion_step(ranking, affinity, DiffusionSettings.model_construct(**settings), top_k)


def draw(rng, images, queries, k, listed, levels=8):
    """Vectors with duplicates, their exact neighbours, and the lists of some queries."""
    index = rng.integers(-1, levels, (images, 3)).astype(np.float32) + 0.5
    index /= np.linalg.norm(index, axis=1, keepdims=True)
    index[images // 2 :] = index[: images - images // 2]  # every second image twice
    asked = index[rng.integers(0, images, queries)] + rng.normal(0, 0.1, (queries, 3)).astype(np.float32)
    neighbours = search_exact(index, index, k, exclude=np.arange(images))
    found = search_exact(asked / np.linalg.norm(asked, axis=1, keepdims=True), index, listed)
    return neighbours, Ranking(found.rows, found.similarities, images)


# ---- The graph -----------------------------------------------------------------------------------------------------


def naive_affinity(neighbours, gamma):
    count = len(neighbours.rows)
    dense = np.zeros((count, count))
    for image in range(count):
        for other, similarity in zip(neighbours.rows[image], neighbours.similarities[image], strict=True):
            if other != -1 and other != image and image in neighbours.rows[other]:
                dense[image, other] = max(float(similarity), 0.0) ** gamma
    degrees = dense.sum(axis=1)
    for i in range(count):
        for j in range(count):
            if dense[i, j]:
                dense[i, j] /= np.sqrt(degrees[i] * degrees[j])
    return dense


def test_only_mutual_neighbours_are_joined_and_rows_are_normalised():
    # 0 - 1 mutual, 1 - 2 mutual, 3 likes 0 but not the other way round
    affinity = build_affinity(graph({1: 0.5}, {0: 0.5, 2: 1.0}, {1: 1.0}, {0: 0.9}), gamma=1)
    low, high = 0.5 / np.sqrt(0.5 * 1.5), 1 / np.sqrt(1.5 * 1)
    expected = [[0, low, 0, 0], [low, 0, high, 0], [0, high, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(affinity.toarray(), expected)


def test_negative_similarities_missing_neighbours_and_the_image_itself_make_no_edge():
    affinity = build_affinity(graph({0: 1.0, 1: -0.5}, {0: -0.5}, {-1: 0.0}))
    assert affinity.nnz == 0 and affinity.shape == (3, 3)


@pytest.mark.parametrize("images", [2, 7, 30])
@pytest.mark.parametrize("k", [1, 4, 29, 40])
def test_the_affinity_equals_a_dense_one_and_is_symmetric(images, k):
    for seed in range(5):
        neighbours, _ = draw(np.random.default_rng(seed), images, 1, k, 1)
        affinity = build_affinity(neighbours)
        dense = affinity.toarray()
        np.testing.assert_allclose(dense, naive_affinity(neighbours, 3), atol=1e-12)
        assert (dense == dense.T).all()
        assert np.abs(np.linalg.eigvalsh(dense)).max() < 1 + 1e-9  # so that I - 0.99 S can be solved


def test_an_index_of_no_or_one_image_has_no_edges():
    for images in (0, 1):
        affinity = build_affinity(Neighbours(np.full((images, 3), -1, np.int32), np.zeros((images, 3), np.float32)))
        assert affinity.shape == (images, images) and affinity.nnz == 0


# ---- The step ------------------------------------------------------------------------------------------------------


def naive_diffusion(rows, scores, dense, truncate, first_k, alpha, top_k):
    """The order by an exact solution of the dense system."""
    listed = [row for row in rows if row >= 0]
    near, rest = listed[:truncate], listed[truncate:]
    start = [max(float(score), 0.0) ** 3 if place < first_k else 0 for place, score in enumerate(scores[: len(near)])]
    mass = np.linalg.solve(np.eye(len(near)) - alpha * dense[np.ix_(near, near)], start).round(6)
    reached = sorted((-value, row) for value, row in zip(mass, near, strict=True) if value > 0)
    left = [row for value, row in zip(mass, near, strict=True) if value <= 0]
    ranked = ([row for _, row in reached] + left + rest)[:top_k]
    return ranked + [-1] * (top_k - len(ranked))


@pytest.mark.parametrize("queries", [0, 1, 6])
@pytest.mark.parametrize(("k", "listed"), [(1, 5), (5, 40), (29, 30), (3, 1)])
@pytest.mark.parametrize(("truncate", "first_k", "top_k"), [(1000, 3, 10), (8, 50, 40), (1, 1, 5), (12, 0, 7)])
def test_the_order_is_that_of_an_exact_solution(queries, k, listed, truncate, first_k, top_k):
    for seed in range(4):
        neighbours, ranking = draw(np.random.default_rng(seed), 30, queries, k, listed)
        affinity, dense = build_affinity(neighbours), naive_affinity(neighbours, 3)
        settings = {"truncate": truncate, "first_k": first_k, "alpha": 0.9, "top_k": top_k}
        after = diffuse(ranking, affinity, iterations=500, tolerance=1e-12, **settings)
        assert after.rows.shape == (queries, top_k) and after.count == 30
        for query in range(queries):
            scores = ranking.scores[query]
            expected = naive_diffusion(ranking.rows[query].tolist(), scores, dense, **settings)
            assert after.rows[query].tolist() == expected
            by_row = dict(zip(ranking.rows[query].tolist(), scores.tolist(), strict=True)) | {-1: 0.0}
            assert after.scores[query].tolist() == [by_row[row] for row in expected]


def test_two_images_share_what_one_has_by_the_closed_form():
    # S = [[0, 1], [1, 0]], y = (1, 0): f = (1, alpha) / (1 - alpha^2); image 2 is joined to nothing and has no mass.
    affinity = build_affinity(graph({1: 0.7}, {0: 0.7}, {}))
    after = diffuse(one_list([0, 2, 1], [1.0, 0.9, 0.1]), affinity, first_k=1, top_k=3)
    assert after.rows.tolist() == [[0, 1, 2]]
    assert after.scores[0] == pytest.approx([1.0, 0.1, 0.9])


def test_images_without_mass_keep_their_order_behind_and_the_cut_off_ones_too():
    affinity = build_affinity(graph({1: 0.7}, {0: 0.7}, {}, {}, {}, {4: 0.1}))
    ranking = one_list([4, 5, 2, 0, 1, 3], [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6])
    assert diffuse(ranking, affinity, top_k=6).rows.tolist() == ranking.rows.tolist()  # nothing to start from
    ranking = one_list([4, 5, 2, 0, 1, 3], [0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    after = diffuse(ranking, affinity, first_k=4, truncate=4, top_k=6)
    assert after.rows.tolist() == [[4, 5, 2, 0, 1, 3]]
    after = diffuse(ranking, affinity, first_k=1, top_k=6)
    assert after.rows.tolist() == [[4, 5, 2, 0, 1, 3]]


def test_duplicates_get_equal_mass_and_stand_by_row():
    affinity = build_affinity(graph({1: 0.8, 2: 0.8}, {0: 0.8, 2: 1.0}, {0: 0.8, 1: 1.0}))
    after = diffuse(one_list([0, 2, 1], [0.9, 0.7, 0.7]), affinity, first_k=1, top_k=3)
    assert after.rows.tolist() == [
        [1, 2, 0]
    ]  # joined to each other most, they keep more than 0, which all started from


def test_one_query_alone_gets_the_list_it_gets_among_others():
    neighbours, ranking = draw(np.random.default_rng(3), 60, 9, 6, 40)
    affinity = build_affinity(neighbours)
    together = diffuse(ranking, affinity, top_k=20)
    for query in range(9):
        alone = Ranking(ranking.rows[query : query + 1], ranking.scores[query : query + 1], 60)
        assert diffuse(alone, affinity, top_k=20).rows[0].tolist() == together.rows[query].tolist()


def test_wrong_sizes_and_an_alpha_of_one_are_refused():
    affinity = build_affinity(graph({1: 0.7}, {0: 0.7}))
    with pytest.raises(ValueError, match="alpha"):
        DiffusionSettings(alpha=1.0)
    for rows, count in (([2], None), ([0], 3)):
        with pytest.raises(ValueError, match="2 index images"):
            diffuse(one_list(rows, [1.0], count), affinity)


# ---- What it is for ------------------------------------------------------------------------------------------------


def test_diffusion_joins_the_views_of_a_landmark_along_their_chain():
    index, landmarks = draw_chains(np.random.default_rng(0))
    queries = index[::24]  # the first view of each chain
    found = search_exact(queries, index, 288)
    before = Ranking(found.rows, found.similarities, 288)
    affinity = build_affinity(search_exact(index, index, 4, exclude=np.arange(288)))
    after = diffuse(before, affinity, first_k=2, iterations=50, top_k=30)
    truth = landmarks[::24]
    assert mean_ap(before.rows[:, :30], truth, landmarks) < 0.75
    assert mean_ap(after.rows, truth, landmarks) > 0.95
