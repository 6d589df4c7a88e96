"""The recognition answer, what a vote weighs, what lowers a score, and the ban of distractors."""

import numpy as np
import pytest

from pipeline.ranking.recognition import (
    ban_by_frequency,
    ban_frequent,
    raise_votes,
    recognise,
    vote_by_powers,
    weigh_by_head,
    weigh_votes,
)


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


# ---- Powers and the head --------------------------------------------------------------------------------------------


def draw_votes(rng, count, k):
    """Similarities in steps that tie often, labels with -1, and head cosines of labels."""
    similarities = (rng.integers(-3, 11, (count, k)) / 10).astype(np.float32)
    labels = rng.integers(-1, 4, (count, k))
    by_label = (rng.integers(-2, 11, (count, 5)) / 10).astype(np.float32)  # the last one: of no label
    return similarities, labels, np.take_along_axis(by_label, labels, axis=1)


def naive_powers(similarities, labels, heads, votes, power, head_power):
    """(label, score) of one image: sums of cos^p by label, times the head's cosine to its power."""
    sums, factor = {}, {}
    for similarity, label, head in list(zip(similarities, labels, heads, strict=True))[:votes]:
        if label != -1:
            sums[label] = sums.get(label, 0.0) + max(float(similarity), 0.0) ** power
            factor[label] = min(max(float(head), 0.0), 1.0) ** head_power
    if not sums:
        return {-1}, 0.0
    totals = {label: total * factor[label] for label, total in sums.items()}
    most = max(totals.values())
    nearly = {label for label, total in totals.items() if total >= most * (1 - 1e-5)}  # either side of a rounding
    return nearly, (most / votes) ** (1 / (power + head_power))


@pytest.mark.parametrize(("power", "head_power"), [(8.0, 0.0), (2.0, 3.0), (8.0, 12.0), (0.5, 0.0), (1.0, 12.0)])
def test_votes_of_powers_equal_sums_by_label_times_the_head_one_image_at_a_time(power, head_power):
    rng = np.random.default_rng(5)
    for count, k, votes in [(0, 3, 3), (4, 0, 1), (20, 1, 1), (200, 6, 4), (50, 3, 5)]:
        similarities, labels, heads = draw_votes(rng, count, k)
        weights = raise_votes(similarities, power)
        if head_power:
            weights = weigh_by_head(weights, heads, head_power)
        answer = recognise(weights, labels, votes=votes, root=power + head_power)
        assert answer.labels.dtype == np.int64 and answer.scores.dtype == np.float32
        assert answer.labels.shape == answer.scores.shape == (count,)
        for image in range(count):
            nearly, score = naive_powers(
                similarities[image], labels[image].tolist(), heads[image], votes, power, head_power
            )
            assert answer.labels[image] in nearly
            assert answer.scores[image] == pytest.approx(score, abs=2e-6)


def test_the_eighth_power_lets_one_near_neighbour_beat_two_far_ones():
    similarities, labels = np.float32([[0.9, 0.6, 0.6]]), np.array([[4, 7, 7]])
    assert recognise(similarities, labels).labels.tolist() == [7]
    answer = recognise(raise_votes(similarities, 8.0), labels, root=8.0)
    assert answer.labels.tolist() == [4]
    assert answer.scores.tolist() == pytest.approx([0.9 / 3 ** (1 / 8)], abs=1e-6)


def test_the_head_overturns_the_neighbours_and_a_label_it_has_not_learnt_cannot_win():
    weights, labels = np.float32([[0.9, 0.8, 0.7]]), np.array([[1, 2, 3]])
    answer = recognise(weigh_by_head(weights, np.float32([[0.5, 0.6, 0.0]]), 2.0), labels, votes=3, root=3.0)
    assert answer.labels.tolist() == [2]
    assert answer.scores.tolist() == pytest.approx([(0.8 * 0.36 / 3) ** (1 / 3)], abs=1e-6)
    unknown = recognise(weigh_by_head(weights, np.zeros((1, 3), np.float32), 2.0), labels, votes=3, root=3.0)
    assert unknown.labels.tolist() == [1] and unknown.scores.tolist() == [0.0]


def test_powers_far_below_six_decimals_still_tell_labels_and_images_apart():
    weights = weigh_by_head(raise_votes(np.float32([[0.1, 0.11], [0.12, 0.1]]), 8.0), np.full((2, 2), 0.1), 12.0)
    assert weights.max() < 1e-19
    answer = recognise(weights, np.array([[3, 8], [3, 8]]), votes=2, root=20.0)
    assert answer.labels.tolist() == [8, 3]
    assert 0.1 < answer.scores[0] < answer.scores[1] < 0.12


def test_a_power_of_one_leaves_negative_similarities_and_any_other_counts_them_as_zero():
    similarities = np.float32([[0.5, -0.5]])
    assert raise_votes(similarities, 1.0) is similarities
    assert (
        raise_votes(similarities, 2.0).tolist() == [[0.25, 0.0]] and raise_votes(similarities, 2.0).dtype == np.float64
    )
    assert weigh_by_head(similarities, np.float32([[0.5, 0.5]]), 1.0).tolist() == [[0.25, 0.0]]
    assert weigh_by_head(similarities, np.float32([[1.5, -0.5]]), 2.0).tolist() == [[0.5, 0.0]]  # cosines are clipped


def test_inliers_are_added_to_the_power():
    weights = weigh_votes(raise_votes(np.float32([[0.5, -0.2]]), 2.0), np.int32([[35, 7]]), 70)
    assert weights.tolist() == [[0.75, pytest.approx(0.1)]]


def test_equal_sums_of_powers_go_to_the_smaller_label():
    weights = raise_votes(np.float32([[0.3, 0.3, 0.1], [0.2, 0.3, 0.2]]), 4.0)
    assert vote_by_powers(weights, np.array([[9, 2, 5], [9, 9, 9]]), 3, 4.0).labels.tolist() == [2, 9]


def test_what_has_no_power_or_no_root_is_refused():
    zeros, labels = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64)
    with pytest.raises(ValueError, match="power=0"):
        raise_votes(zeros, 0.0)
    with pytest.raises(ValueError, match="head_power=0"):
        weigh_by_head(zeros, zeros, 0.0)
    with pytest.raises(ValueError, match="votes=0"):
        recognise(zeros, labels, votes=0, root=2.0)
    with pytest.raises(ValueError, match="root=0"):
        recognise(zeros, labels, root=0.0)
    with pytest.raises(ValueError, match="negative weight"):
        recognise(zeros - 1, labels, root=2.0)
    assert recognise(zeros - 1, labels - 1, root=2.0).labels.tolist() == [-1]  # of no neighbour: no vote


# ---- What lowers a score --------------------------------------------------------------------------------------------


def test_the_sum_of_the_votes_is_lowered_and_an_image_without_an_answer_stays_at_zero():
    weights, labels = np.float32([[0.9, 0.6, 0.3], [0.0, 0.0, 0.0]]), np.array([[1, 1, 2], [-1, -1, -1]])
    answer = recognise(weights, labels, votes=3, lower_by=np.float32([0.6, 0.6]))
    assert answer.labels.tolist() == [1, -1]
    assert answer.scores.tolist() == [pytest.approx((1.5 - 0.6) / 3), 0.0]
    assert answer.scores.dtype == np.float32


def test_bans_sink_below_lowered_scores():
    weights, labels = np.float32([[0.1], [0.1], [0.1], [0.1]]), np.array([[1], [1], [1], [2]])
    answer = recognise(weights, labels, votes=1, lower_by=np.ones(4, np.float32), ban_above=2)
    assert answer.scores.tolist() == [-3, -3, -3, pytest.approx(-0.9)]


def test_a_photograph_outside_of_the_test_set_is_banned_by_the_answers_of_the_test_set():
    predicted = np.array([12, 12, 12, 5, -1])
    labels, scores = np.array([12, 5, 7, -1]), np.float32([0.9, 0.8, 0.7, 0.0])
    assert ban_by_frequency(labels, scores, predicted, 2).tolist() == pytest.approx([-3.0, 0.8, 0.7, 0.0])
    for unchanged in (ban_by_frequency(labels, scores, predicted, 0), ban_by_frequency(labels, scores, labels[:0], 2)):
        assert unchanged.tolist() == scores.tolist()
