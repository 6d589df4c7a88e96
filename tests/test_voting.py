"""Soft voting against a dictionary of sums, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ranking import voting
from pipeline.ranking.voting import add_votes, neighbour_labels, sharpen, soft_vote, vote_with_inliers


def naive_soft_vote(similarities, labels, votes):
    sums: dict[int, float] = {}
    for similarity, label in list(zip(similarities, labels, strict=True))[:votes]:
        if label != -1:
            sums[label] = sums.get(label, 0.0) + float(similarity)
    best = max(((round(total, 6), -label) for label, total in sums.items()), default=(0.0, 1))
    return -best[1], round(best[0] / votes, 6)


@st.composite
def neighbour_cases(draw):
    count, k = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    quarter = st.integers(-4, 4).map(lambda value: value / 4)
    similarities = np.array([[draw(quarter) for _ in range(k)] for _ in range(count)], np.float32).reshape(count, k)
    labels = np.array([[draw(st.integers(-1, 3)) for _ in range(k)] for _ in range(count)], np.int64).reshape(count, k)
    return similarities, labels, draw(st.integers(1, 7))


@settings(deadline=None, max_examples=200)
@given(neighbour_cases())
def test_soft_voting_equals_a_dictionary_of_sums(case):
    similarities, labels, votes = case
    found = soft_vote(similarities, labels, votes)
    expected = [naive_soft_vote(*row, votes) for row in zip(similarities, labels.tolist(), strict=True)]
    assert found.labels.tolist() == [label for label, _ in expected]
    np.testing.assert_array_equal(found.confidences, np.array([total for _, total in expected], np.float32))
    assert found.labels.dtype == np.int64 and found.confidences.dtype == np.float32


def test_two_votes_for_one_landmark_beat_a_nearer_single_one():
    found = soft_vote(np.float32([[0.9, 0.6, 0.5]]), np.array([[7, 4, 4]]))
    assert found.labels.tolist() == [4]
    assert found.confidences.tolist() == [pytest.approx(1.1 / 3, abs=1e-6)]


def test_the_sum_is_divided_by_votes_even_with_fewer_neighbours():
    found = soft_vote(np.float32([[0.9, 0.0, 0.0]]), np.array([[7, -1, -1]]))
    assert (found.labels[0], found.confidences[0]) == (7, np.float32(0.3))
    assert soft_vote(np.float32([[0.9]]), np.array([[7]])).confidences[0] == np.float32(0.3)


def test_equal_sums_go_to_the_smaller_label():
    assert soft_vote(np.float32([[0.5, 0.3, 0.2]]), np.array([[9, 2, 2]])).labels.tolist() == [2]
    assert soft_vote(np.float32([[0.1, 0.2, 0.3]]), np.array([[3, 3, 8]])).labels.tolist() == [3]  # 0.3 + 1e-17


def test_an_image_without_neighbours_has_no_label_and_confidence_zero():
    for labels in (np.full((2, 3), -1), np.zeros((2, 0), np.int64)):
        found = soft_vote(np.zeros(labels.shape, np.float32), labels)
        assert found.labels.tolist() == [-1, -1] and found.confidences.tolist() == [0, 0]


def test_a_negative_sum_still_wins_when_it_is_the_only_one():
    found = soft_vote(np.float32([[-0.3, 0, 0]]), np.array([[5, -1, -1]]))
    assert (found.labels[0], found.confidences[0]) == (5, np.float32(-0.1))


def test_large_inputs_are_counted_block_by_block(monkeypatch):
    rng = np.random.default_rng(1)
    weights, labels = rng.random((100, 5)), rng.integers(-1, 4, (100, 5))
    expected = add_votes(weights, labels)
    monkeypatch.setattr(voting, "BLOCK_VALUES", 60)
    for found, whole in zip(add_votes(weights, labels), expected, strict=True):
        np.testing.assert_array_equal(found, whole)


def test_labels_of_neighbours_are_minus_one_where_there_is_no_neighbour():
    assert neighbour_labels(np.int32([[1, 0], [1, -1]]), np.array([5, 6])).tolist() == [[6, 5], [6, -1]]
    assert neighbour_labels(np.int32([[-1]]), np.zeros(0, np.int64)).tolist() == [[-1]]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="votes=0"):
        soft_vote(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64), 0)
    with pytest.raises(ValueError, match="one shape"):
        add_votes(np.zeros((1, 2)), np.zeros((1, 1), np.int64))
    with pytest.raises(ValueError, match="votes=0"):
        vote_with_inliers(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64), np.zeros((1, 1)), 0)
    with pytest.raises(ValueError, match="one shape"):
        vote_with_inliers(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int64), np.zeros((1, 1)))


def test_weights_choose_the_label_and_its_mean_cosine_stays_the_confidence():
    similarities, labels = np.float32([[0.8, 0.7, 0.6, 0.9]]), np.array([[5, 5, 2, 2]])
    found = vote_with_inliers(similarities, labels, np.float32([[0.8, 0.7, 1.6, 1.9]]), 3)
    assert found.labels.tolist() == [2] and found.confidences.tolist() == [pytest.approx(0.2)]
    assert soft_vote(similarities, labels, 3).labels.tolist() == [5]


@settings(deadline=None, max_examples=200)
@given(neighbour_cases(), st.integers(0, 2**32 - 1))
def test_a_vote_of_other_weights_equals_two_dictionaries(case, seed):
    similarities, labels, votes = case
    weights = (np.random.default_rng(seed).integers(-2, 5, labels.shape) / 2).astype(np.float32)
    found = vote_with_inliers(similarities, labels, weights, votes)
    assert found.labels.dtype == np.int64 and found.confidences.dtype == np.float32
    for image, line in enumerate(labels.tolist()):
        expected, _ = naive_soft_vote(weights[image], line, votes)
        agreeing = [
            float(s) for s, label in list(zip(similarities[image], line, strict=True))[:votes] if label == expected
        ]
        assert found.labels[image] == expected
        assert found.confidences[image] == np.float32(round(sum(agreeing) / votes, 6) if expected != -1 else 0)


@settings(deadline=None, max_examples=100)
@given(neighbour_cases())
def test_similarities_as_weights_are_the_soft_vote(case):
    similarities, labels, votes = case
    found, expected = (
        vote_with_inliers(similarities, labels, similarities, votes),
        soft_vote(similarities, labels, votes),
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.confidences, expected.confidences)


def naive_sharpen(similarities, sharpness):
    """One row: every vote times its share of the say."""
    if not similarities or similarities[0] <= 0:
        return similarities
    say = [(max(value, 0.0) / similarities[0]) ** (sharpness - 1) for value in similarities]
    return [value * part * len(say) / sum(say) for value, part in zip(similarities, say, strict=True)]


@settings(deadline=None)
@given(neighbour_cases(), st.sampled_from([1.0, 1.5, 2.0, 10.0]))
def test_sharpened_votes_equal_their_formula(case, sharpness):
    similarities = -np.sort(-case[0], axis=1)
    found = sharpen(similarities, sharpness)
    assert found.dtype == np.float32 and found.shape == similarities.shape
    for row, expected in zip(found, similarities.tolist(), strict=True):
        assert row == pytest.approx(naive_sharpen(expected, sharpness), abs=1e-6)


def test_sharpened_votes_are_a_weighted_mean_and_keep_the_nearest_ahead():
    # sharpness 3: the say is 1, 0.25, 0.0625, so the mean is (0.8 + 0.1 + 0.0125) / 1.3125
    found = sharpen(np.float32([[0.8, 0.4, 0.2]]), 3.0)
    assert found.mean() == pytest.approx(0.9125 / 1.3125)
    near, far = soft_vote(np.float32([[0.8, 0.4, 0.41]]), np.array([[7, 4, 4]]), 3, 3.0)
    assert near.tolist() == [7] and far[0] == pytest.approx(0.8 / (1 + 0.25 + 0.41**2 / 0.64), abs=1e-5)
    assert soft_vote(np.float32([[0.8, 0.4, 0.41]]), np.array([[7, 4, 4]])).labels.tolist() == [4]


def test_equal_neighbours_have_equal_say_and_sharpness_one_changes_nothing():
    similarities = np.float32([[0.5, 0.5], [0.9, 0.1]])
    np.testing.assert_array_equal(sharpen(similarities[:1], 10.0), similarities[:1])
    np.testing.assert_array_equal(sharpen(similarities, 1.0), similarities)
    with pytest.raises(ValueError, match=r"sharpness=0\.5"):
        sharpen(similarities, 0.5)
