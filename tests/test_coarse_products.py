"""Approximate products against exact ones: within the bound, on every processor."""

import numpy as np
import pytest

from pipeline.matching import coarse_products
from pipeline.matching.coarse_products import coarse_vectors, multiply_coarsely


@pytest.fixture(params=["integers", "float32"], autouse=True)
def processor(request, monkeypatch):
    """One that multiplies 8-bit integers, if the tests run on one, and one that does not."""
    if request.param == "integers" and not coarse_products.multiplies_bytes():
        pytest.skip("this processor has no fast products of 8-bit integers")
    monkeypatch.setattr(coarse_products, "multiplies_bytes", lambda: request.param == "integers")


def draw_vectors(rng, count, width):
    """Unit vectors, some of a single component, some zero."""
    vectors = rng.standard_normal((count, width)) * 10 ** rng.uniform(-3, 0, (count, width))
    vectors[rng.random(count) < 0.1] *= np.eye(width)[0]
    vectors[rng.random(count) < 0.1] = 0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@pytest.mark.parametrize("width", [1, 2, 31, 128, 512])
def test_products_are_within_the_slack_of_the_exact_ones(width):
    rng = np.random.default_rng(width)
    for counts in [(1, 1), (1, 40), (3, 1), (16, 17), (70, 90)]:
        left, right = (draw_vectors(rng, count, width) for count in counts)
        products = multiply_coarsely(coarse_vectors(left), coarse_vectors(right))
        exact = left.astype(np.float64) @ right.T.astype(np.float64)
        assert products.values.shape == exact.shape
        apart = np.abs(products.values * products.unit - exact)
        assert 2 * apart.max() + 1e-6 <= products.slack * products.unit
        for similarity in (-1.0, -0.3, 0.0, 0.7, 1.0):
            assert (products.values >= products.least(similarity))[exact.round(6) >= similarity].all()


def test_vectors_of_zeros_have_products_of_zero():
    products = multiply_coarsely(coarse_vectors(np.zeros((2, 8))), coarse_vectors(np.ones((3, 8)) / np.sqrt(8)))
    assert not products.values.any() and products.values.shape == (2, 3)
    assert products.slack * products.unit < 0.1


@pytest.mark.parametrize("vectors", [np.eye(6)[:, ::2], np.eye(6).T[2:3], np.eye(6)[::3, ::-1]])
def test_the_layout_of_the_vectors_in_memory_changes_nothing(vectors):
    products = multiply_coarsely(coarse_vectors(vectors), coarse_vectors(vectors))
    np.testing.assert_allclose(products.values * products.unit, vectors @ vectors.T, atol=1e-6)


def test_the_slack_is_a_few_hundredths_so_that_there_are_few_candidates():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 128)).astype(np.float32)
    vectors = coarse_vectors(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    products = multiply_coarsely(vectors, vectors)
    assert products.slack * products.unit < 0.06
