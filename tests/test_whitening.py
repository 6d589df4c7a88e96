"""PCA whitening against its definition, scikit-learn, and examples worked by hand."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from pipeline.features.ensemble import JoinedDescriptors
from pipeline.features.whitening import Whitening, fit_whitening


def spread_vectors(rows=400, dims=12, seed=0):
    """Correlated vectors away from the origin; every direction has another variance."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, dims)) * 0.8 ** np.arange(dims)) @ rng.normal(size=(dims, dims)) + rng.normal(
        size=dims
    )


def project(whitening, vectors):
    """What `apply` makes of the vectors before it normalises them."""
    return (vectors - whitening.mean) @ whitening.projection


@pytest.mark.parametrize("dims", [1, 5, 12])
def test_the_fitted_vectors_have_the_identity_as_covariance(dims):
    vectors = spread_vectors()
    for given, error in ((vectors, 1e-8), (vectors.astype(np.float32), 1e-5)):
        covariance = np.cov(project(fit_whitening(given, dims, power=0.5), given), rowvar=False)
        np.testing.assert_allclose(np.atleast_2d(covariance), np.eye(dims), atol=error)


def test_components_equal_those_of_scikit_learn_up_to_their_sign():
    vectors = spread_vectors()
    for power in (0.0, 0.5):
        expected = PCA(7, whiten=power == 0.5, svd_solver="full").fit(vectors)
        found = fit_whitening(vectors, 7, power)
        ours, theirs = project(found, vectors), expected.transform(vectors)
        np.testing.assert_allclose(ours * np.sign((ours * theirs).sum(axis=0)), theirs, atol=1e-9)
        assert found.explained == pytest.approx(expected.explained_variance_ratio_.sum())


def test_components_come_by_falling_variance_and_their_greatest_entry_is_positive():
    axes, middle = np.diag([1.0, 3.0, 2.0]), np.array([5.0, -5.0, 0.0])
    vectors = np.concatenate([middle + axes, middle - axes])
    found = fit_whitening(vectors, 3, power=0.0)  # worked by hand: the second axis, then the third, then the first
    np.testing.assert_allclose(found.projection, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(found.mean, [5.0, -5.0, 0.0])
    assert fit_whitening(vectors, 1).explained == pytest.approx(9 / 14)
    projection = fit_whitening(spread_vectors(), 12).projection
    assert (projection[np.abs(projection).argmax(axis=0), np.arange(12)] > 0).all()


def test_power_0_with_all_dimensions_keeps_every_distance():
    vectors = spread_vectors(30)
    turned = project(fit_whitening(vectors, 12, power=0.0), vectors)
    before, after = (((x[:, None] - x[None]) ** 2).sum(axis=2) for x in (vectors, turned))
    np.testing.assert_allclose(after, before, atol=1e-9)


@pytest.mark.parametrize("power", [0.0, 0.2, 0.5])
def test_the_power_says_how_far_the_variances_are_evened_out(power):
    vectors = spread_vectors()
    plain, scaled = (project(fit_whitening(vectors, 6, p), vectors).var(axis=0, ddof=1) for p in (0.0, power))
    np.testing.assert_allclose(scaled, plain ** (1 - 2 * power), rtol=1e-9)


@pytest.mark.parametrize("block_rows", [1, 7, 399, 400, 5000])
def test_blocks_change_nothing(block_rows):
    vectors = spread_vectors()
    whole, parts = fit_whitening(vectors, 6), fit_whitening(vectors, 6, block_rows=block_rows)
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(parts.projection, whole.projection, atol=1e-9)


def test_mapped_files_and_joined_models_are_read_like_arrays(tmp_path):
    vectors = spread_vectors().astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(tmp_path / "a.npy", vectors)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (fit_whitening(mapped, 4).projection == fit_whitening(vectors, 4).projection).all()
    joined = JoinedDescriptors([mapped, mapped[:, ::-1]], [1.0, 0.5])
    assert (fit_whitening(joined, 4).projection == fit_whitening(joined[:], 4).projection).all()


def test_whitened_rows_are_normalised_and_do_not_depend_on_those_beside_them():
    vectors = spread_vectors().astype(np.float32)
    whitening = fit_whitening(vectors, 5)
    rows = whitening.apply(vectors)
    assert rows.shape == (400, 5) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert all((whitening.apply(vectors[n : n + 1]) == rows[n]).all() for n in range(0, 400, 37))
    assert whitening.apply(vectors[:0]).shape == (0, 5)


def test_a_vector_that_is_the_mean_stays_zero():
    whitening = Whitening(np.ones(3), np.eye(3), 1.0)
    assert whitening.apply(np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0]])).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_there_are_as_many_components_as_the_vectors_have_directions():
    few = spread_vectors(rows=4)  # three directions from their mean
    three = fit_whitening(few, 3)
    for asked in (3, 4, 12, 100):
        assert fit_whitening(few, asked).projection.shape == (12, 3)
        np.testing.assert_array_equal(fit_whitening(few, asked).projection, three.projection)
    assert fit_whitening(few, 2).projection.shape == (12, 2)
    flat = np.concatenate([spread_vectors(dims=3), np.ones((400, 2))], axis=1)
    assert fit_whitening(flat.astype(np.float32), 4).projection.shape == (5, 3)
    with pytest.raises(ValueError, match="all equal"):
        fit_whitening(np.ones((5, 3)), 1)
    with pytest.raises(ValueError, match="dims=0"):
        fit_whitening(few, 0)


def test_too_few_vectors_bad_numbers_and_bad_powers_are_refused():
    for rows in (0, 1):
        with pytest.raises(ValueError, match=f"at least two vectors to fit on, not {rows}"):
            fit_whitening(np.ones((rows, 3)), 1)
    with pytest.raises(ValueError, match="not finite"):
        fit_whitening(np.array([[1.0, np.nan], [0.0, 1.0], [1.0, 1.0]]), 1)
    for power in (-0.1, 0.6):
        with pytest.raises(ValueError, match="power"):
            fit_whitening(spread_vectors(), 2, power)
