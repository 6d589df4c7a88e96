"""k-reciprocal re-ranking: by hand, against sets of one image at a time, and on planted landmarks."""

import math

import numpy as np
import pytest
from planted import draw_ranking, draw_vectors, mean_ap, planted_landmarks, ranking_of, unit_vectors

from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.k_reciprocal import (
    KReciprocalSettings,
    k_reciprocal_distances,
    k_reciprocal_step,
    reciprocal_sets,
)
from pipeline.ranking.ranking import Ranking


def rerank(ranking, queries, index, **settings):
    return k_reciprocal_step(ranking, DescriptorPair(queries, index), KReciprocalSettings.model_construct(**settings))


def naive_sets(near, k):
    """R*(x, k) of every image as the paper defines it, with Python sets. near: every image's list, itself first."""
    count = len(near)

    def nearest(x, k):
        return set(near[x][: k + 1])

    def reciprocal(x, k):
        return {y for y in nearest(x, k) if x in nearest(y, k)}

    expanded = []
    for x in range(count):
        members = reciprocal(x, k)
        for y in reciprocal(x, k):
            half = reciprocal(y, k // 2)
            if 3 * len(reciprocal(x, k) & half) >= 2 * len(half):
                members |= half
        expanded.append(members)
    return expanded


def naive_distances(query, candidates, k1, k2, weight):
    vectors = [query.astype(np.float64), *candidates.astype(np.float64)]
    everyone = range(len(vectors))
    cosine = [[round(float(x @ y), 6) for y in vectors] for x in vectors]
    near = [[x, *sorted((y for y in everyone if y != x), key=lambda y, x=x: (-cosine[x][y], y))] for x in everyone]
    distance = [[max(2 - 2 * value, 0) for value in row] for row in cosine]
    encoding = [
        [math.exp(-distance[x][y]) if y in members else 0.0 for y in everyone]
        for x, members in enumerate(naive_sets(near, k1))
    ]
    mean = [[sum(encoding[z][y] for z in near[x][:k2]) / len(near[x][:k2]) for y in everyone] for x in everyone]
    found = []
    for x in everyone[1:]:
        pairs = list(zip(mean[0], mean[x], strict=True))
        jaccard = 1 - sum(map(min, pairs)) / sum(map(max, pairs))
        found.append(round((1 - weight) * jaccard + weight * distance[0][x], 6))
    return found


@pytest.mark.parametrize("queries", [0, 1, 3])
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 4), (2, 3), (5, 2), (30, 30)])
def test_the_step_equals_sets_of_one_image_at_a_time(queries, k1, k2):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        count, width = int(rng.integers(1, 16)), int(rng.integers(1, 9))
        index, vectors = draw_vectors(rng, count, width), draw_vectors(rng, max(1, queries), width)[:queries]
        ranking = draw_ranking(rng, queries, count, int(rng.integers(0, count + 1)))
        first, weight = int(rng.choice([0, 1, 5, count, 100])), float(rng.choice([0, 0.3, 1]))
        after = rerank(ranking, vectors, index, first=first, k1=k1, k2=k2, weight=weight)
        for query in range(queries):
            listed = [row for row in ranking.rows[query].tolist() if row >= 0]
            head = sorted(listed[:first])
            distances = naive_distances(vectors[query], index[head], k1, k2, weight)
            by_row = dict(zip(head, distances, strict=True))
            expected = sorted(head, key=lambda row, by_row=by_row: (by_row[row], row)) + listed[first:]
            assert [row for row in after.rows[query].tolist() if row >= 0] == expected
            found = k_reciprocal_distances(vectors[query], index[head], k1, k2, weight)
            np.testing.assert_allclose(found, distances, atol=1.01e-6)


def test_sets_equal_the_definition_over_random_lists():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 25))
        near = np.array([[x, *rng.permutation(np.delete(np.arange(count), x))] for x in range(count)], np.int64)
        for k in (1, 2, 5, 8, count):
            found = [set(np.flatnonzero(row).tolist()) for row in reciprocal_sets(near, k)]
            assert found == naive_sets(near.tolist(), k)


def test_a_set_takes_in_a_half_set_of_which_two_thirds_are_members_by_hand():
    near = np.array(
        [[0, 1, 2, 4, 5], [1, 2, 3, 0, 4], [2, 1, 3, 0, 4], [3, 1, 2, 4, 5], [4, 5, 3, 1, 2], [5, 4, 3, 1, 2]]
    )
    # R(0, 4) = {0, 1, 2}: neither 4 nor 5 lists 0. R(1, 2) = {1, 2, 3}, two thirds of it are there, so 3 comes in.
    assert np.flatnonzero(reciprocal_sets(near, 4)[0]).tolist() == [0, 1, 2, 3]


def at_degrees(*angles):
    radians = np.deg2rad(np.array(angles, np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_four_images_on_a_circle_by_hand():
    query, index = at_degrees(0)[0], at_degrees(10, 15, 90)

    def distance(degrees):
        return 2 - 2 * math.cos(math.radians(degrees))

    # With k1 = 2 the query, 10 and 15 degrees are all mutual; 90 degrees has nobody. Half sets bring nobody in.
    e5, e10, e15 = (math.exp(-distance(degrees)) for degrees in (5, 10, 15))
    jaccard = [1 - (e10 + e10 + e15) / (1 + 1 + e5), 1 - (e15 + e10 + e15) / (1 + e5 + 1), 1]
    assert k_reciprocal_distances(query, index, 2, 1, 0.0) == pytest.approx(jaccard, abs=3e-6)
    mixed = [0.7 * j + 0.3 * distance(degrees) for j, degrees in zip(jaccard, (10, 15, 90), strict=True)]
    assert k_reciprocal_distances(query, index, 2, 1, 0.3) == pytest.approx(mixed, abs=3e-6)
    # k2 = 2: the encodings of the query and of 10 degrees become their mean, those of 10 and 15 degrees too.
    own, ten, fifteen = np.array([1, e10, e15, 0]), np.array([e10, 1, e5, 0]), np.array([e15, e5, 1, 0])
    own, ten = (own + ten) / 2, (ten + fifteen) / 2
    expected = 1 - np.minimum(own, ten).sum() / np.maximum(own, ten).sum()
    assert k_reciprocal_distances(query, index, 2, 2, 0.0)[:2] == pytest.approx([expected] * 2, abs=3e-6)


def test_weight_one_is_the_order_by_distance():
    rng = np.random.default_rng(1)
    index, queries = unit_vectors(rng, 60, 8), unit_vectors(rng, 5, 8)
    ranking = ranking_of(queries, index, 60)
    np.testing.assert_array_equal(rerank(ranking, queries, index, weight=1.0).rows, ranking.rows)


def test_an_answer_depends_on_the_set_of_the_first_places_alone():
    rng = np.random.default_rng(2)
    index, queries = unit_vectors(rng, 80, 16), unit_vectors(rng, 6, 16)
    ranking = ranking_of(queries, index, 40)
    whole = rerank(ranking, queries, index, first=25, k1=5, k2=3)
    np.testing.assert_array_equal(whole.rows[:, 25:], ranking.rows[:, 25:])
    order = np.concatenate([rng.permutation(25), np.arange(25, 40)])
    mixed = Ranking(ranking.rows[:, order], ranking.scores[:, order])
    np.testing.assert_array_equal(rerank(mixed, queries, index, first=25, k1=5, k2=3).rows, whole.rows)
    for query in range(6):
        alone = Ranking(ranking.rows[query : query + 1], ranking.scores[query : query + 1])
        after = rerank(alone, queries[query : query + 1], index, first=25, k1=5, k2=3)
        np.testing.assert_array_equal(after.rows[0], whole.rows[query])


def test_knobs_out_of_range_are_refused():
    for k1, k2, weight in ((0, 6, 0.3), (20, 0, 0.3), (20, 6, 1.1), (20, 6, np.nan)):
        with pytest.raises(ValueError, match="weight in"):
            k_reciprocal_distances(np.float32([1]), np.float32([[1]]), k1, k2, weight)


def test_the_step_finds_more_of_planted_landmarks():
    for seed in range(3):
        queries, index, *labels = planted_landmarks(seed)
        before = ranking_of(queries, index, 240)
        after = rerank(before, queries, index)
        assert mean_ap(after.rows, *labels) > mean_ap(before.rows, *labels) + 0.03
