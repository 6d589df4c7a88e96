"""Likeness to non-landmarks: by hand, and one image at a time."""

import numpy as np
import pytest

from pipeline.matching.knn import search
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.non_landmarks import gather_likeness, mean_similarities, penalise_neighbours


def neighbours(similarities, rows):
    return Neighbours(np.array(rows, np.int32), np.array(similarities, np.float32))


def draw_neighbours(rng, count, k, base):
    """Neighbours as a search leaves them, with ties; lists that are shorter than k end with row -1 and 0."""
    similarities = -np.sort(-rng.integers(-4, 5, (count, k)) / 4, axis=1).astype(np.float32)
    rows = rng.integers(0, base, (count, k)).astype(np.int32) if base else np.full((count, k), -1, np.int32)
    rows[np.arange(k) >= rng.integers(0, k + 1, (count, 1))] = -1
    return Neighbours(rows, np.where(rows >= 0, similarities, np.float32(0)))


def test_the_mean_is_over_the_neighbours_there_are():
    found = mean_similarities(
        neighbours([[0.9, 0.3, 0.0], [0.5, 0.4, -0.3], [0, 0, 0]], [[4, 2, -1], [1, 2, 3], [-1] * 3])
    )
    assert found.tolist() == pytest.approx([0.6, 0.2, 0.0]) and found.dtype == np.float32


@pytest.mark.parametrize("k", [0, 1, 4])
def test_means_and_gathered_likeness_equal_one_neighbour_at_a_time(k):
    rng = np.random.default_rng(k)
    for count, train_images in [(0, 5), (7, 0), (30, 9)]:
        near = draw_neighbours(rng, count, 3, train_images)
        train = draw_neighbours(rng, train_images, k, 6)
        found = gather_likeness(train, near.rows)
        assert found.shape == near.rows.shape and found.dtype == np.float32
        for at in np.ndindex(near.rows.shape):
            line = [part[near.rows[at]] for part in train] if near.rows[at] >= 0 else ([], [])
            own = [float(similarity) for row, similarity in zip(*line, strict=True) if row >= 0]
            expected = sum(own) / len(own) if own else 0.0
            assert found[at] == pytest.approx(expected, abs=1e-6)


def test_only_the_lines_of_somebodys_neighbours_are_read():
    class Watched:
        def __init__(self, array):
            self.array, self.read = array, []

        def __getitem__(self, rows):
            self.read.append(rows.tolist())
            return self.array[rows]

    similarities, rows = Watched(np.full((9, 2), 0.5, np.float32)), Watched(np.zeros((9, 2), np.int32))
    found = gather_likeness(Neighbours(rows, similarities), np.int32([[8, 3, -1], [3, 3, 8]]))
    assert similarities.read == rows.read == [[3, 8]]
    assert found.tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]


def test_a_neighbour_like_the_non_landmarks_falls_behind_one_that_is_not():
    near = neighbours([[0.9, 0.7, 0.5, -0.2, 0.0]], [[10, 11, 12, 13, -1]])
    found = penalise_neighbours(near, np.float32([[0.6, 0.1, 0.2, 0.1, 0.9]]))
    assert found.rows.tolist() == [[11, 10, 12, 13, -1]]
    assert found.similarities.tolist() == [pytest.approx([0.6, 0.3, 0.3, -0.1, 0.0])]
    assert found.similarities.dtype == np.float32 and found.rows.dtype == np.int32


@pytest.mark.parametrize("k", [0, 1, 5])
def test_penalised_neighbours_equal_a_stable_sort_of_one_image_at_a_time(k):
    rng = np.random.default_rng(k)
    for count in (0, 1, 60):
        near = draw_neighbours(rng, count, k, 9)
        likeness = (rng.integers(-2, 5, (count, k)) / 4).astype(np.float32)
        found = penalise_neighbours(near, likeness)
        for image in range(count):
            line = zip(near.similarities[image], near.rows[image].tolist(), likeness[image], strict=True)
            scored = [(min(max(float(s), 0.0), 1.0) - float(b), row) for s, row, b in line if row >= 0]
            scored.sort(key=lambda pair: -pair[0])  # stable: of equal ones the nearer first
            missing = k - len(scored)
            assert found.rows[image].tolist() == [row for _, row in scored] + [-1] * missing
            assert found.similarities[image].tolist() == [value for value, _ in scored] + [0.0] * missing


def test_likeness_from_descriptors_is_the_mean_of_the_greatest_cosines():
    rng = np.random.default_rng(3)
    train, strangers = (rng.standard_normal((count, 8)).astype(np.float32) for count in (12, 7))
    train, strangers = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, strangers))
    cosines = -np.sort(-(train.astype(np.float64) @ strangers.T.astype(np.float64)), axis=1)
    for k in (1, 5, 7, 20):  # 20: more than there are
        found = mean_similarities(search(train, strangers, k))
        assert found == pytest.approx(cosines[:, :k].mean(axis=1), abs=2e-6)
