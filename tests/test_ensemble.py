"""Joined descriptors against the naive matrix."""

import numpy as np
import pytest

from pipeline.features.ensemble import JoinedDescriptors


def unit_rows(rows, dims, seed):
    x = np.random.default_rng(seed).normal(size=(rows, dims)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_joined_rows_equal_the_naive_matrix():
    a, b = unit_rows(20, 8, 0), unit_rows(20, 5, 1)
    joined = JoinedDescriptors([a, b], [1.0, 0.5])
    naive = np.concatenate([a, 0.5 * b], axis=1)
    naive /= np.linalg.norm(naive, axis=1, keepdims=True)
    assert joined.shape == (20, 13) and len(joined) == 20
    for rows in (slice(None), slice(3, 9), slice(0, 0), slice(19, 50), np.array([4, 4, 0])):
        assert joined[rows].dtype == np.float32
        np.testing.assert_allclose(joined[rows], naive[rows], atol=1e-6)


def test_weights_count_squared_in_the_cosine():
    a, b = unit_rows(2, 8, 0), unit_rows(2, 8, 1)
    first, second = JoinedDescriptors([a, b], [1.0, 0.5])[:]
    assert first @ second == pytest.approx(0.8 * (a[0] @ a[1]) + 0.2 * (b[0] @ b[1]), abs=1e-6)


def test_a_single_model_is_its_own_vectors_bit_for_bit_without_a_copy():
    a = unit_rows(20, 8, 0)
    joined = JoinedDescriptors([a], [0.3])
    assert np.shares_memory(joined[2:5], a)
    assert (joined[:] == a).all()


def test_half_precision_and_mapped_files_are_joined_in_float32(tmp_path):
    np.save(tmp_path / "a.npy", unit_rows(6, 4, 0).astype(np.float16))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert JoinedDescriptors([mapped, mapped])[1:3].dtype == np.float32
    assert JoinedDescriptors([mapped])[1:3].dtype == np.float32


def test_models_of_different_photographs_and_bad_weights_are_refused():
    a, b = unit_rows(20, 8, 0), unit_rows(19, 8, 1)
    with pytest.raises(ValueError, match="20 and 19"):
        JoinedDescriptors([a, b])
    with pytest.raises(ValueError, match="no descriptors"):
        JoinedDescriptors([])
    with pytest.raises(ValueError, match="weights"):
        JoinedDescriptors([a, a], [1.0])
    with pytest.raises(ValueError, match="weights"):
        JoinedDescriptors([a, a], [1.0, 0.0])
