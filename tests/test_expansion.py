"""Query expansion and database augmentation: by hand, against one vector at a time, and on planted landmarks."""

import numpy as np
import pytest
from planted import draw_ranking, draw_vectors, mean_ap, planted_landmarks, ranking_of, unit_vectors

from pipeline.features.ensemble import JoinedDescriptors
from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking import expansion
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.expansion import augment_database, expand_queries
from pipeline.ranking.ranking import Ranking

AXES = np.eye(3, dtype=np.float32)


def expand(queries, index, ranking, k, alpha):
    return expand_queries(DescriptorPair(queries, index), ranking, k, alpha)


def make(*lists):
    rows = np.array(lists, np.int32)
    return Ranking(rows, np.zeros(rows.shape, np.float32))


def neighbours_of(rows):
    rows = np.array(rows, np.int32)
    return Neighbours(rows, np.zeros(rows.shape, np.float32))


def naive_move(own, others, alpha):
    """q + sum of max(cos, 0)^alpha x, one neighbour at a time, to length 1."""
    own = own.astype(np.float64)
    total = own.copy()
    for other in others.astype(np.float64):
        cosine = round(float(own @ other), 6)
        total = total + (1.0 if alpha == 0 else max(cosine, 0.0) ** alpha) * other
    length = np.linalg.norm(total)
    return own if length < 1e-6 else total / length


@pytest.mark.parametrize("alpha", [0, 0.5, 3])
@pytest.mark.parametrize("queries", [0, 1, 6])
def test_expansion_equals_one_query_at_a_time(queries, alpha):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        count, width = int(rng.integers(1, 20)), int(rng.integers(1, 9))
        index, vectors = draw_vectors(rng, count, width), draw_vectors(rng, max(1, queries), width)[:queries]
        ranking = draw_ranking(rng, queries, count, int(rng.integers(0, count + 1)))
        for k in (0, 1, 3, count, count + 5):
            moved = expand(vectors, index, ranking, k, alpha)
            assert moved.shape == vectors.shape and moved.dtype == np.float32
            for query in range(queries):
                rows = ranking.rows[query, :k]
                expected = naive_move(vectors[query], index[rows[rows >= 0]], alpha)
                np.testing.assert_allclose(moved[query], expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 15])
@pytest.mark.parametrize("supervised", [False, True])
def test_augmentation_equals_one_row_at_a_time(count, alpha, supervised):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        index = draw_vectors(rng, max(1, count), 5)[:count]
        labels = rng.integers(-1, 3, count)
        near = search_exact(index, index, max(1, count), exclude=np.arange(count))  # the last place is empty
        for k in (0, 1, 3, count):
            moved = augment_database(index, near, k, alpha, labels if supervised else None)
            assert moved.shape == index.shape and moved.dtype == np.float32
            for row in range(count):
                others = [other for other in near.rows[row] if other >= 0]
                if supervised:
                    others = [other for other in others if labels[other] == labels[row] != -1]
                expected = naive_move(index[row], index[np.array(others[:k], np.int64)], alpha)
                np.testing.assert_allclose(moved[row], expected, atol=1e-6)


def test_an_expanded_query_by_hand():
    index = np.float32([[0.6, 0.8, 0], [0, 1, 0], [-1, 0, 0]])
    # alpha 0: (1, 0) + (0.6, 0.8) + (0, 1) = (1.6, 1.8); alpha 1: (1, 0) + 0.6 (0.6, 0.8) + 0 = (1.36, 0.48)
    for alpha, x, y in ((0, 1.6, 1.8), (1, 1.36, 0.48)):
        moved = expand(AXES[:1], index, make([0, 1, 2]), 2, alpha)
        assert moved[0] == pytest.approx([x / np.hypot(x, y), y / np.hypot(x, y), 0])


def test_average_expansion_adds_what_points_away_and_alpha_expansion_does_not():
    index = np.float32([[-0.6, 0.8, 0]])
    assert expand(AXES[:1], index, make([0]), 1, 0)[0] == pytest.approx(np.array([0.4, 0.8, 0]) / 0.8**0.5)
    assert expand(AXES[:1], index, make([0]), 1, 3)[0].tolist() == [1, 0, 0]


def test_a_query_whose_sum_is_zero_stays_and_so_does_one_without_a_list():
    assert expand(AXES[:1], -AXES, make([0]), 1, 0).tolist() == [[1, 0, 0]]
    assert expand(AXES[:1], -AXES, make([-1]), 1, 0).tolist() == [[1, 0, 0]]
    zero, nothing = np.zeros((1, 3), np.float32), np.zeros((0, 3), np.float32)
    assert expand(zero, AXES, make([-1]), 1, 3).tolist() == [[0, 0, 0]]
    assert expand(AXES[:1], nothing, make([-1, -1]), 2, 3).tolist() == [[1, 0, 0]]


def test_what_rounding_leaves_of_vectors_that_cancel_is_no_direction():
    rng = np.random.default_rng(4)
    axes = np.linalg.qr(rng.standard_normal((8, 2)))[0].T
    turns = np.deg2rad([0, 120, 240])
    query, *index = (np.outer(np.cos(turns), axes[0]) + np.outer(np.sin(turns), axes[1])).astype(np.float32)
    assert 0 < np.linalg.norm(np.sum([query, *index], axis=0, dtype=np.float64)) < 1e-6
    np.testing.assert_array_equal(expand(query[None], np.stack(index), make([0, 1]), 2, 0), query[None])


def test_an_augmented_row_by_hand():
    index = np.float32([[1, 0], [0.6, 0.8], [0, 1]])
    near = neighbours_of([[1, 2], [2, 0], [1, 0]])
    moved = augment_database(index, near, 1, 1)
    for row, total in enumerate(([1.36, 0.48], [0.6, 1.6], [0.48, 1.64])):  # row 2 moves towards where row 1 was
        assert moved[row] == pytest.approx(np.array(total) / np.hypot(*total))


def test_with_labels_only_the_first_k_of_the_same_label_move_a_row():
    index = np.float32([[1, 0], [0.6, 0.8], [0, 1], [0, 1]])
    near = neighbours_of([[1, 2, 3], [2, 3, 0], [3, 1, 0], [2, 1, 0]])
    moved = augment_database(index, near, 1, 0, np.array([5, -1, 5, -1]))
    assert moved[0] == pytest.approx([0.5**0.5, 0.5**0.5])  # by row 2, its second neighbour
    np.testing.assert_array_equal(moved[[1, 3]], index[[1, 3]])  # -1 agrees with nobody, not with another -1
    assert moved[2] == pytest.approx([0.5**0.5, 0.5**0.5])  # by row 0, its last


def test_a_row_among_its_own_neighbours_is_refused():
    with pytest.raises(ValueError, match="row 1 is among its own neighbours"):
        augment_database(AXES, neighbours_of([[1], [1], [0]]), 1, 0)


def test_shapes_and_knobs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="for 2 lists"):
        expand(AXES, AXES, make([0], [1]), 1, 0)
    with pytest.raises(ValueError, match="have row 3"):
        expand(AXES[:1], AXES, make([3]), 1, 0)
    with pytest.raises(ValueError, match="labels of shape"):
        augment_database(AXES, neighbours_of([[1], [2], [0]]), 1, 0, np.zeros(2, np.int64))
    for k, alpha in ((-1, 0), (1, -1), (1, np.nan)):
        with pytest.raises(ValueError, match="neither may be below 0"):
            expand(AXES[:1], AXES, make([0]), k, alpha)


def test_no_block_changes_a_bit(monkeypatch):
    rng = np.random.default_rng(1)
    index, queries = unit_vectors(rng, 200, 48), unit_vectors(rng, 60, 48)
    ranking, labels = ranking_of(queries, index, 9), rng.integers(-1, 4, 200)
    near = search_exact(index, index, 9, exclude=np.arange(200))
    whole = expand(queries, index, ranking, 9, 3), augment_database(index, near, 3, 3, labels)
    for values in (1, 7 * 10 * 48):
        monkeypatch.setattr(expansion, "BLOCK_VALUES", values)
        np.testing.assert_array_equal(expand(queries, index, ranking, 9, 3), whole[0])
        np.testing.assert_array_equal(augment_database(index, near, 3, 3, labels), whole[1])


def test_joined_and_mapped_descriptors_do_as_well_as_arrays(tmp_path):
    rng = np.random.default_rng(2)
    models = [unit_vectors(rng, 30, 8), unit_vectors(rng, 30, 5)]
    joined = JoinedDescriptors(models, [1.0, 0.5])
    np.save(tmp_path / "vectors.npy", joined[:])
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    near = search_exact(joined, joined, 4, exclude=np.arange(30))
    expected = augment_database(joined[:], near, 4, 3)
    np.testing.assert_array_equal(augment_database(joined, near, 4, 3), expected)
    np.testing.assert_array_equal(augment_database(mapped, near, 4, 3), expected)
    ranking = ranking_of(joined, joined, 4)
    np.testing.assert_array_equal(expand(joined, joined, ranking, 4, 3), expand(joined[:], mapped, ranking, 4, 3))


def test_searching_again_gives_the_exact_neighbours_as_a_ranking():
    index = np.float32([[0, 1], [1, 0], [1, 0]])
    found = ranking_of(index[1:2], index, 4)
    assert found.rows.tolist() == [[1, 2, 0, -1]] and found.scores.tolist() == [[1, 1, 0, 0]] and found.count == 3


@pytest.mark.parametrize("alpha", [0, 3])
def test_expanded_queries_find_more_of_planted_landmarks(alpha):
    for seed in range(3):
        queries, index, *labels = planted_landmarks(seed)
        before = ranking_of(queries, index, 100)
        after = ranking_of(expand(queries, index, before, 5, alpha), index, 100)
        assert mean_ap(after.rows, *labels) > mean_ap(before.rows, *labels) + 0.03


def test_an_augmented_index_answers_better_and_with_labels_best():
    for seed in range(3):
        queries, index, *labels = planted_landmarks(seed)
        near = search_exact(index, index, 20, exclude=np.arange(len(index)))
        plain = mean_ap(ranking_of(queries, index, 100).rows, *labels)
        augmented = mean_ap(ranking_of(queries, augment_database(index, near, 5, 3), 100).rows, *labels)
        supervised = augment_database(index, near, 5, 3, labels[1])
        assert plain + 0.03 < augmented < mean_ap(ranking_of(queries, supervised, 100).rows, *labels)
