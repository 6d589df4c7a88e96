"""The head's cosines of the labels beside an image: against all cosines of a trained head, and one pair at a time."""

import numpy as np
import pytest
import torch

from pipeline.catalogue import HEADS
from pipeline.network.heads import build_head
from pipeline.ranking import head_cosines as module
from pipeline.ranking.head_cosines import head_cosines, join_head_cosines


def draw_unit(rng, count, dims):
    vectors = rng.standard_normal((count, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def naive(descriptors, directions, landmark_ids, labels):
    found = np.zeros(labels.shape)
    for image, place in np.ndindex(labels.shape):
        for landmark, centres in zip(landmark_ids, directions, strict=True):
            if landmark == labels[image, place]:
                centres = np.float64(centres).reshape(-1, centres.shape[-1])
                found[image, place] = max(
                    float(np.dot(np.float64(descriptors[image]), one) / np.linalg.norm(one)) for one in centres
                )
    return found


@pytest.mark.parametrize("centres", [None, 1, 3])
@pytest.mark.parametrize(("count", "k", "classes"), [(0, 3, 4), (5, 0, 4), (6, 1, 1), (6, 3, 0), (40, 4, 7)])
def test_gathered_cosines_equal_one_pair_at_a_time(centres, count, k, classes, monkeypatch):
    rng = np.random.default_rng(7)
    landmark_ids = np.sort(rng.choice(12, classes, replace=False))
    directions = rng.standard_normal((classes, 6) if centres is None else (classes, centres, 6)).astype(np.float32)
    descriptors, labels = draw_unit(rng, count, 6), rng.integers(-1, 14, (count, k))  # some unknown, some missing
    for values in (1, 50, 1 << 20):
        monkeypatch.setattr(module, "BLOCK_VALUES", values)
        found = head_cosines(descriptors, directions, landmark_ids, labels)
        assert found.shape == labels.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, naive(descriptors, directions, landmark_ids, labels), atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_they_are_the_cosines_by_which_a_head_learns(kind):
    head = build_head(kind, dims=5, classes=4)
    descriptors = draw_unit(np.random.default_rng(0), 3, 5)
    every = head.class_cosines(torch.from_numpy(descriptors)).detach().numpy()
    ids = np.array([2, 5, 9, 30])
    found = head_cosines(descriptors, head.weight.detach().numpy(), ids, np.tile(ids, (3, 1)))
    np.testing.assert_allclose(found, every, atol=1e-6)


def test_what_the_head_has_not_learnt_and_a_direction_without_length_have_the_cosine_zero():
    directions = np.float32([[2.0, 0.0], [0.0, 0.0]])
    found = head_cosines(np.float32([[1.0, 0.0]]), directions, np.array([4, 6]), np.array([[4, 5, 6, -1, 99]]))
    assert found.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0]]


def test_the_nearest_of_several_centres_counts():
    directions = np.float32([[[0.0, 1.0], [3.0, 4.0]]])
    assert head_cosines(np.float32([[1.0, 0.0]]), directions, np.array([0]), np.array([[0]])).tolist() == [
        [pytest.approx(0.6)]
    ]


def test_models_count_by_the_square_of_their_weights():
    first, second = np.float32([[1.0, 0.0]]), np.float32([[0.0, 0.5]])
    joined = join_head_cosines([first, second], [1.0, 0.5])
    assert joined.tolist() == [pytest.approx([0.8, 0.1])] and joined.dtype == np.float32
    assert join_head_cosines([first], [0.3]) is first


def test_what_does_not_fit_together_is_refused():
    labels = np.zeros((2, 1), np.int64)
    with pytest.raises(ValueError, match="ascending"):
        head_cosines(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), np.array([4, 1]), labels)
    with pytest.raises(ValueError, match="as many landmarks"):
        head_cosines(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), np.array([4]), labels)
    with pytest.raises(ValueError, match="descriptors"):
        head_cosines(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32), np.array([1, 4]), labels)
    with pytest.raises(ValueError, match="descriptors"):
        head_cosines(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32), np.array([1, 4]), labels)
