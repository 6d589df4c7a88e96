"""The step inlier_score against a sort of one list at a time."""

import numpy as np
import pytest

from pipeline.ranking.inlier_score import InlierScoreSettings, inlier_score_step
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import RerankSettings


def draw_ranking(rng, queries, k):
    """Lists of different lengths, nearest first, with equal similarities among them."""
    rows = np.full((queries, k), -1, np.int32)
    for query in range(queries):
        near = rng.permutation(20)[: rng.integers(0, k + 1)]
        rows[query, : len(near)] = near
    scores = -np.sort(-rng.integers(0, 10, rows.shape) / 10, axis=1)
    return Ranking(rows, np.where(rows >= 0, scores, 0).astype(np.float32), 20)


def naive_order(rows, scores, inliers, settings, first):
    def value(at):
        beyond = min(max(inliers[at] - settings.min_inliers, 0), settings.max_inliers)
        return round(scores[at] + settings.weight * beyond / settings.max_inliers, 6)

    listed = [at for at in range(len(rows)) if rows[at] >= 0]
    return sorted(listed[:first], key=lambda at: -value(at)) + listed[first:]


@pytest.mark.parametrize("queries", [0, 1, 7])
@pytest.mark.parametrize("k", [0, 1, 2, 12])
@pytest.mark.parametrize("first", [1, 2, 12, 100])
def test_the_first_places_are_sorted_by_similarity_and_inliers(queries, k, first):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        ranking = draw_ranking(rng, queries, k)
        inliers = rng.integers(0, 12, ranking.rows.shape).astype([np.int32, np.uint16][seed % 2])
        settings = InlierScoreSettings(
            weight=rng.choice([0.0, 0.1, 0.5]), min_inliers=rng.integers(0, 5), max_inliers=5
        )
        after = inlier_score_step(ranking, inliers, settings, first)
        for query in range(queries):
            lists = (ranking.rows[query], ranking.scores[query].astype(float), inliers[query].astype(int))
            order = naive_order(*lists, settings, first)
            rest = k - len(order)
            assert after.rows[query].tolist() == ranking.rows[query, order].tolist() + [-1] * rest
            assert after.scores[query].tolist() == ranking.scores[query, order].tolist() + [0.0] * rest
        assert after.rows.dtype == np.int32 and after.count == 20


def test_inliers_of_chance_change_nothing_and_many_lift_an_image_by_the_weight():
    ranking = Ranking(np.int32([[4, 2, 9]]), np.float32([[0.8, 0.7, 0.65]]), 10)
    for inliers, expected in (((0, 20, 20), [4, 2, 9]), ((0, 20, 90), [9, 4, 2]), ((20, 20, 69), [4, 9, 2])):
        assert inlier_score_step(ranking, np.array([inliers]), InlierScoreSettings()).rows.tolist() == [expected]


def test_inliers_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="lists of shape"):
        inlier_score_step(Ranking(np.int32([[0]]), np.float32([[1]]), 1), np.zeros((1, 2), int), InlierScoreSettings())


def test_it_cannot_follow_a_step_that_lists_images_with_other_scores():
    with pytest.raises(ValueError, match="reads similarities"):
        RerankSettings(recipe=["knn", "label_vector", "inlier_score"])
