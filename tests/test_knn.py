"""Exact search against sorting every float64 product; independence of tiles, blocks and engines."""

import numpy as np
import pytest
import torch

from pipeline.matching import blocks, device_knn, knn
from pipeline.matching.knn import SearchOptions, Tiling, search, search_approximate, search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.products import pair_products

PRECISIONS = ["float32", "float16", "bfloat16"]


def search_on_torch(monkeypatch, precision="float32"):
    """Search with CPU tensors as on a GPU, with proposals of this precision."""
    monkeypatch.setattr(knn, "_uses_faiss", lambda device: False)
    monkeypatch.setattr(device_knn, "choose_precision", lambda device: precision)


@pytest.fixture(params=["faiss", *PRECISIONS])
def engine(request, monkeypatch):
    """All engines on the CPU: faiss is what a search takes there, torch what it takes on a GPU."""
    if request.param != "faiss":
        search_on_torch(monkeypatch, request.param)


@pytest.fixture
def torch_engine(monkeypatch):
    search_on_torch(monkeypatch)


def naive_search(queries, base, k, exclude=None):
    """Every product in float64, rounded, sorted by (-similarity, row), one query at a time."""
    similarities = np.zeros((len(queries), k), np.float32)
    rows = np.full((len(queries), k), -1, np.int32)
    for q, query in enumerate(queries.astype(np.float64)):
        ranked = [(-np.float32(round(float(x.astype(np.float64) @ query), 6)), n) for n, x in enumerate(base)]
        ranked = sorted(pair for pair in ranked if exclude is None or pair[1] != exclude[q])[:k]
        similarities[q, : len(ranked)] = [-s + 0.0 for s, _ in ranked]
        rows[q, : len(ranked)] = [n for _, n in ranked]
    return Neighbours(rows, similarities)


def unit_vectors(rng, count, width):
    vectors = rng.standard_normal((count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.similarities, expected.similarities)
    assert found.rows.dtype == np.int32 and found.similarities.dtype == np.float32


@pytest.mark.usefixtures("engine")
def test_exact_search_equals_sorting_every_product():
    rng = np.random.default_rng(1)
    for _ in range(30):
        count, width, k = int(rng.integers(1, 60)), int(rng.integers(1, 20)), int(rng.integers(1, 70))
        base = unit_vectors(rng, count, width)[rng.integers(0, count, count)]  # with duplicates
        queries = unit_vectors(rng, int(rng.integers(1, 9)), width)
        exclude = rng.integers(-1, count, len(queries)) if rng.random() < 0.5 else None
        tiling = Tiling(int(rng.integers(1, 70)), int(rng.integers(1, 9)))
        found = search_exact(queries, base, k, exclude=exclude, tiling=tiling)
        assert_same(found, naive_search(queries, base, k, exclude))


def test_results_do_not_depend_on_tiles_blocks_or_engine(monkeypatch):
    rng = np.random.default_rng(2)
    base, queries = unit_vectors(rng, 1500, 64), unit_vectors(rng, 130, 64)
    expected = search_exact(queries, base, 20)
    for precision in [None, *PRECISIONS]:
        if precision:
            search_on_torch(monkeypatch, precision)
        for cut in [(1500, 130), (100, 129), (500, 9), (1499, 33)]:
            assert_same(search_exact(queries, base, 20, tiling=Tiling(*cut)), expected)
        one_by_one = [search_exact(queries[q : q + 1], base, 20) for q in range(5)]
        together = Neighbours(*map(np.concatenate, zip(*one_by_one, strict=True)))
        assert_same(together, Neighbours(*(x[:5] for x in expected)))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("block_rows", [40, 1000])
def test_more_equal_rows_than_candidates_come_in_order_of_row(block_rows):
    rng = np.random.default_rng(3)
    base = np.repeat(unit_vectors(rng, 3, 8), 100, axis=0)[rng.permutation(300)]
    queries = np.concatenate([base[:4], unit_vectors(rng, 3, 8)])
    exclude = np.array([0, 1, -1, 2, -1, 5, -1])
    for k in (1, 30, 100, 101, 150, 300):
        found = search_exact(queries, base, k, exclude=exclude, tiling=Tiling(block_rows))
        assert_same(found, naive_search(queries, base, k, exclude))


def test_a_base_of_one_repeated_vector_answers_the_first_rows():
    base = np.tile(np.float32([0.6, 0.8]), (50, 1))
    assert search_exact(base[:2], base, 3).rows.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert search_exact(base[:2], base, 3, exclude=np.array([0, 1])).rows.tolist() == [[1, 2, 3], [0, 2, 3]]


def test_the_query_itself_is_left_out_by_row_even_when_a_duplicate_ranks_first():
    base = np.float32([[1, 0], [1, 0], [0, 1]])
    found = search_exact(base, base, 2, exclude=np.arange(3))
    assert found.rows.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found.similarities.tolist() == [[1, 0], [1, 0], [0, 0]]


def test_lists_longer_than_the_base_end_with_minus_one_and_similarity_zero():
    base = np.float32([[1, 0], [-1, 0]])
    found = search_exact(np.float32([[1, 0]]), base, 4)
    assert found.rows.tolist() == [[0, 1, -1, -1]]
    assert found.similarities.tolist() == [[1, -1, 0, 0]]


@pytest.mark.parametrize("index_factory", ["Flat", "IVF1,Flat"])
@pytest.mark.usefixtures("engine")
def test_no_queries_or_no_base_give_empty_lists_of_the_right_shape(index_factory):
    some, none, options = np.ones((3, 4), np.float32), np.zeros((0, 4), np.float32), SearchOptions(index_factory)
    assert search(none, some, 5, options).rows.shape == (0, 5)
    found = search(some, none, 5, options)
    assert (found.rows == -1).all() and found.similarities.shape == (3, 5) and not found.similarities.any()


def test_vectors_that_are_not_finite_are_refused_by_row():
    good = np.ones((5, 3), np.float32)
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[3, 1] = value
        with pytest.raises(ValueError, match="row 3 of the base"):
            search_exact(good, bad, 2, tiling=Tiling(2))
        with pytest.raises(ValueError, match="row 3 of the queries"):
            search_exact(bad, good, 2)
        with pytest.raises(ValueError, match="row 3 of the base"):
            search_approximate(good, bad, 2, SearchOptions("IVF1,Flat"), tiling=Tiling(2))


def test_wrong_arguments_are_refused():
    x = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match="k=0"):
        search_exact(x, x, 0)
    with pytest.raises(ValueError, match="3 dimensions, the base 2"):
        search_exact(x, x[:, :2], 1)
    with pytest.raises(ValueError, match="exclude has shape"):
        search_exact(x, x, 1, exclude=np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="Nonsense"):
        search_approximate(x, x, 1, SearchOptions("Nonsense"))
    with pytest.raises(ValueError, match="IVF64"):
        search_approximate(x, x, 1, SearchOptions("IVF64,Flat"))


class JoinedRows:
    """Two stores read as one, by slices only."""

    def __init__(self, left, right):
        self.left, self.right = left, right
        self.shape = (len(left), left.shape[1] + right.shape[1])

    def __len__(self):
        return len(self.left)

    def __getitem__(self, rows):
        assert isinstance(rows, slice) and rows.step is None
        return np.concatenate([self.left[rows], self.right[rows]], axis=1)


@pytest.mark.usefixtures("engine")
def test_the_base_may_be_a_half_precision_memmap_or_vectors_joined_when_read(tmp_path):
    rng = np.random.default_rng(4)
    base = unit_vectors(rng, 90, 12).astype(np.float16)
    np.save(tmp_path / "base.npy", base)
    stored = np.load(tmp_path / "base.npy", mmap_mode="r")
    expected = naive_search(base[:7], base, 10)
    assert_same(search_exact(stored[:7], stored, 10, tiling=Tiling(32)), expected)
    joined = JoinedRows(base[:, :5], base[:, 5:])
    assert_same(search_exact(base[:7], joined, 10, tiling=Tiling(32)), expected)


@pytest.mark.usefixtures("torch_engine")
@pytest.mark.filterwarnings("error")
def test_a_read_only_base_gives_no_warning():
    base = np.eye(4, dtype=np.float32)
    base.flags.writeable = False
    assert search_exact(base, base, 1).rows.ravel().tolist() == [0, 1, 2, 3]


def test_long_and_short_vectors_are_searched_by_inner_product_not_cosine():
    rng = np.random.default_rng(5)
    base = unit_vectors(rng, 200, 10) * rng.uniform(0, 50, (200, 1)).astype(np.float32)
    assert_same(search_exact(base[:9] * 3, base, 15, tiling=Tiling(64)), naive_search(base[:9] * 3, base, 15))


def test_similarities_never_hold_minus_zero():
    found = search_exact(np.float32([[1, 0]]), np.float32([[-1e-9, 0], [0, -1]]), 2)
    assert not np.signbit(found.similarities).any()
    assert found.rows.tolist() == [[0, 1]]


def test_an_approximate_index_that_visits_everything_is_exact():
    rng = np.random.default_rng(6)
    base, queries = unit_vectors(rng, 600, 16), unit_vectors(rng, 30, 16)
    exclude = rng.integers(-1, 600, 30)
    expected = search_exact(queries, base, 10, exclude=exclude)
    for index_factory in ("IVF8,Flat", "PCA16,IVF8,Flat"):
        options = SearchOptions(index_factory, nprobe=8)
        found = search_approximate(queries, base, 10, options, exclude=exclude, tiling=Tiling(99))
        assert_same(found, expected)


def test_an_approximate_search_gives_exact_similarities_of_what_it_finds():
    rng = np.random.default_rng(7)
    base, queries = unit_vectors(rng, 600, 16), unit_vectors(rng, 30, 16)
    few = search(queries, base, 10, SearchOptions("IVF32,Flat", nprobe=1))
    more = search(queries, base, 10, SearchOptions("IVF32,Flat", nprobe=16))
    exact = search(queries, base, 10)
    products = np.einsum("qd,qkd->qk", queries.astype(np.float64), base[few.rows].astype(np.float64))
    np.testing.assert_array_equal(np.where(few.rows < 0, 0, products.round(6)).astype(np.float32), few.similarities)
    shared = [
        np.mean([np.isin(a, b).mean() for a, b in zip(exact.rows, found.rows, strict=True)]) for found in (few, more)
    ]
    assert shared[0] < shared[1] and shared[1] > 0.9


def test_a_compressed_index_can_leave_lists_short_but_never_repeats_a_row():
    rng = np.random.default_rng(8)
    base = unit_vectors(rng, 400, 16)
    found = search_approximate(base[:20], base, 60, SearchOptions("IVF32,PQ4x4", nprobe=1))
    for rows, similarities in zip(*found, strict=True):
        held = rows[rows >= 0]
        assert len(np.unique(held)) == len(held) and (rows[len(held) :] == -1).all()
        assert (np.diff(similarities[: len(held)]) <= 0).all()


@pytest.mark.usefixtures("torch_engine")
def test_the_search_restores_the_matmul_precision_of_its_caller():
    torch.set_float32_matmul_precision("high")
    try:
        search_exact(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_error_bound_covers_float32_products():
    rng = np.random.default_rng(9)
    x, y = unit_vectors(rng, 200, 300) * 5, unit_vectors(rng, 200, 300)
    bounds = blocks.error_bounds(x, float(np.linalg.norm(y, axis=1).max()))
    difference = np.abs((x @ y.T).astype(np.float64) - x.astype(np.float64) @ y.astype(np.float64).T)
    assert (difference <= bounds[:, None]).all()


@pytest.mark.parametrize("pairs", [0, 1, 3000])
def test_pair_products_are_summed_in_float64_and_do_not_depend_on_the_other_pairs(pairs):
    rng = np.random.default_rng(12)
    left, right = unit_vectors(rng, 20, 100), unit_vectors(rng, 30, 100)
    rows = rng.integers(0, 20, pairs), rng.integers(0, 30, pairs)
    products = pair_products(left, right, *rows)
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    np.testing.assert_allclose(products, exact[rows], rtol=0, atol=1e-15)
    assert products.dtype == np.float64
    one_by_one = [pair_products(left, right, rows[0][at : at + 1], rows[1][at : at + 1]) for at in range(pairs)]
    assert products.tolist() == [float(product[0]) for product in one_by_one]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_lists_of_the_cpu():
    rng = np.random.default_rng(10)
    base, queries = unit_vectors(rng, 20_000, 256), unit_vectors(rng, 300, 256)
    assert_same(search_exact(queries, base, 100, device=torch.device("cuda")), search_exact(queries, base, 100))


def test_rescoring_resolves_most_queries_without_a_third_reading(monkeypatch):
    rng = np.random.default_rng(11)
    base, queries = unit_vectors(rng, 5000, 64), unit_vectors(rng, 200, 64)
    unresolved = []
    monkeypatch.setattr(knn, "_scan_again", lambda search, queries, *rest: unresolved.append(len(queries)))
    search_exact(queries, base, 50)
    assert unresolved[0] <= 2
