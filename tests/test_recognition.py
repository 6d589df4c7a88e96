"""The recognition answer, what a vote weighs, and the ban of distractors."""

import numpy as np
import pytest

from pipeline.ranking.recognition import ban_frequent, recognise, weigh_votes


def test_the_answer_is_the_soft_vote():
    answer = recognise(np.float32([[0.9, 0.8, 0.7], [0.4, 0.2, 0.0]]), np.array([[1, 2, 2], [3, -1, -1]]))
    assert answer.labels.tolist() == [2, 3]
    assert answer.scores == pytest.approx([0.5, 0.4 / 3], abs=1e-6)


def test_inliers_add_to_a_vote_up_to_a_limit():
    weights = weigh_votes(np.float32([[0.5, 0.5, 0.5, 0.5]]), np.int32([[0, 35, 70, 140]]), 70)
    assert weights.tolist() == [[0.5, 1.0, 1.5, 1.5]]
    assert weights.dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (5, 4)])
def test_weights_equal_those_of_one_vote_at_a_time(shape):
    rng = np.random.default_rng(1)
    similarities, inliers = rng.uniform(-1, 1, shape).astype(np.float32), rng.integers(0, 200, shape).astype(np.int32)
    for most in (1, 70, 1000):
        weights = weigh_votes(similarities, inliers, most)
        assert weights.shape == shape and weights.dtype == np.float32
        for at in np.ndindex(shape):
            assert weights[at] == np.float32(float(similarities[at]) + min(int(inliers[at]), most) / most)


def test_a_limit_below_one_inlier_is_refused():
    for most in (0, -5):
        with pytest.raises(ValueError, match=f"max_inliers={most}"):
            weigh_votes(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32), most)


def test_inliers_overturn_similarity():
    similarities, labels = np.float32([[0.7, 0.6, 0.5], [0.7, 0.6, 0.5]]), np.array([[1, 1, 2], [1, 1, 2]])
    assert recognise(similarities, labels).labels.tolist() == [1, 1]
    answer = recognise(weigh_votes(similarities, np.int32([[0, 3, 68], [0, 3, 10]]), 70), labels)
    assert answer.labels.tolist() == [2, 1]
    assert answer.scores == pytest.approx([(0.5 + 68 / 70) / 3, (1.3 + 3 / 70) / 3], abs=1e-6)


def test_a_missing_neighbour_has_no_vote_whatever_it_weighs():
    weights = weigh_votes(np.float32([[0.4, 0.0]]), np.int32([[0, 90]]), 70)
    answer = recognise(weights, np.array([[3, -1]]))
    assert answer.labels.tolist() == [3] and answer.scores.tolist() == pytest.approx([0.4 / 3], abs=1e-6)


def test_labels_predicted_too_often_sink_below_all_others_the_most_frequent_lowest():
    labels = np.array([12, 12, 12, 112, 5, 5, -1])
    scores = np.float32([0.9, 0.8, 0.7, 0.1, 0.6, 0.5, 0.0])
    assert ban_frequent(labels, scores, 1).tolist() == pytest.approx([-3, -3, -3, 0.1, -2, -2, 0])
    assert ban_frequent(labels, scores, 2).tolist() == pytest.approx([-3, -3, -3, 0.1, 0.6, 0.5, 0])
    assert ban_frequent(labels, scores, 3).tolist() == pytest.approx(scores.tolist())


def test_a_ban_of_landmark_12_leaves_landmark_112_alone():
    assert ban_frequent(np.array([12, 12, 112]), np.float32([1, 1, 1]), 1).tolist() == [-2, -2, 1]


def test_a_ban_of_zero_bans_nothing_and_images_without_an_answer_are_never_banned():
    labels, scores = np.array([7, 7, -1, -1, -1]), np.float32([0.5, 0.5, 0, 0, 0])
    assert ban_frequent(labels, scores, 0).tolist() == scores.tolist()
    assert ban_frequent(labels, scores, 2).tolist() == scores.tolist()
    assert ban_frequent(labels[:0], scores[:0], 2).shape == (0,)
    with pytest.raises(ValueError, match="ban_above=-1"):
        ban_frequent(labels, scores, -1)


def test_the_ban_equals_counting_one_image_at_a_time():
    rng = np.random.default_rng(1)
    for _ in range(50):
        labels = rng.integers(-1, 6, int(rng.integers(0, 30)))
        scores, above = rng.random(len(labels)).astype(np.float32), int(rng.integers(0, 8))
        counts = [labels.tolist().count(label) for label in labels]
        banned = [above and label >= 0 and count > above for label, count in zip(labels, counts, strict=True)]
        expected = [-count if ban else score for ban, count, score in zip(banned, counts, scores, strict=True)]
        assert ban_frequent(labels, scores, above).tolist() == [float(score) for score in expected]


def test_scores_are_float32_and_an_empty_test_set_has_empty_answers():
    answer = recognise(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64), ban_above=2)
    assert answer.labels.shape == answer.scores.shape == (0,)
    assert answer.scores.dtype == np.float32
