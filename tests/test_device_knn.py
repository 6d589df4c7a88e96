"""The search on a device, on CPU tensors: its bounds hold, its cuts change nothing, and what it reads and loads."""

from itertools import chain

import numpy as np
import pytest
import torch

from pipeline.device_memory import MemoryLimit, count_free_bytes
from pipeline.matching import device_knn, uploads
from pipeline.matching.device_knn import PRECISIONS, DevicePlan, search_on_device
from pipeline.matching.knn import search_exact
from pipeline.matching.proposals import exact_accumulation, propose, round_vectors, take_greatest

CPU = torch.device("cpu")
NOBODY = np.full(40, -1)


def unit_vectors(rng, count, width):
    vectors = rng.standard_normal((count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.fixture
def second_searches(monkeypatch):
    """How many queries each search searched again."""
    counts, again = [], device_knn._DeviceSearch._search_again

    def watched(search, queries, blocks):
        counts.append(len(queries))
        again(search, queries, blocks)

    monkeypatch.setattr(device_knn._DeviceSearch, "_search_again", watched)
    return counts


@pytest.mark.parametrize("precision", PRECISIONS)
def test_blocks_tiles_and_columns_change_no_list(precision, monkeypatch):
    rng = np.random.default_rng(1)
    base, queries = unit_vectors(rng, 700, 24)[rng.integers(0, 700, 700)], unit_vectors(rng, 40, 24)
    exclude = rng.integers(-1, 700, 40)
    expected = search_exact(queries, base, 15, exclude=exclude)
    for block_rows, tile_rows, work_bytes in [(700, 40, 1 << 30), (699, 7, 1), (50, 39, 1 << 14), (1, 40, 1 << 20)]:
        monkeypatch.setattr(device_knn, "WORK_BYTES", work_bytes)
        plan = DevicePlan(precision, block_rows, tile_rows)
        assert_same(search_on_device(queries, base, 15, exclude, CPU, plan), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("block_rows", [None, 30])
def test_ties_across_blocks_and_beyond_the_candidates_come_by_row(precision, block_rows, second_searches, monkeypatch):
    rng = np.random.default_rng(2)
    base = np.repeat(unit_vectors(rng, 3, 8), 100, axis=0)[rng.permutation(300)]
    queries = np.concatenate([base[:4], unit_vectors(rng, 3, 8)])
    exclude = np.array([0, 1, -1, 2, -1, 5, -1])
    monkeypatch.setattr(device_knn, "SCANNED_VALUES", 50)  # the second search in many parts
    for k in (1, 30, 100, 101, 299, 300, 301):
        found = search_on_device(queries, base, k, exclude, CPU, DevicePlan(precision, block_rows))
        assert_same(found, search_exact(queries, base, k, exclude=exclude))
    assert second_searches or block_rows  # of small blocks all rows are candidates


def test_rows_that_half_precision_cannot_tell_apart_are_ranked_by_float64(second_searches):
    rng = np.random.default_rng(3)
    base = unit_vectors(rng, 1, 64) + 2e-5 * rng.standard_normal((500, 64)).astype(np.float32)
    queries = unit_vectors(rng, 20, 64)
    for precision in ("float16", "bfloat16"):
        found = search_on_device(queries, base, 10, NOBODY[:20], CPU, DevicePlan(precision))
        assert_same(found, search_exact(queries, base, 10))
    assert second_searches == [20, 20]


def test_few_lists_of_random_vectors_need_a_second_search(second_searches):
    rng = np.random.default_rng(4)
    base, queries = unit_vectors(rng, 20_000, 128), unit_vectors(rng, 40, 128)
    expected = search_exact(queries, base, 50)
    for precision in ("float32", "float16"):
        assert_same(search_on_device(queries, base, 50, NOBODY, CPU, DevicePlan(precision)), expected)
    assert sum(second_searches) <= 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_of_any_length_are_searched_exactly(precision):
    rng = np.random.default_rng(5)
    for size in (1e-12, 1e-3, 1.0, 3e4, 1e15):
        lengths = size * rng.uniform(0, 50, (300, 1)).astype(np.float32)
        base, queries = unit_vectors(rng, 300, 10) * lengths, unit_vectors(rng, 9, 10) / np.float32(size)
        queries[3], base[7] = 0, 0
        found = search_on_device(queries, base, 15, NOBODY[:9], CPU, DevicePlan(precision, 64))
        assert_same(found, search_exact(queries, base, 15))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_row_that_is_not_proposed_exceeds_its_ceiling(precision):
    rng, dtype = np.random.default_rng(6), PRECISIONS[precision]
    for count, width in [(1, 3), (17, 1), (200, 5), (500, 300)]:
        lengths = rng.uniform(0, 9, (count, 1)).astype(np.float32)
        base, queries = unit_vectors(rng, count, width) * lengths, unit_vectors(rng, 30, width) * lengths.max()
        exact = queries.astype(np.float64) @ base.astype(np.float64).T
        vectors, asked = torch.from_numpy(base), torch.from_numpy(queries)
        known = round_vectors(vectors, vectors.norm(dim=1).amax(), dtype)
        asking = round_vectors(asked, asked.norm(dim=1), dtype)
        for fetch in (1, 3, 40):
            with exact_accumulation():
                found = propose(asking, known, min(fetch, count), 64)
            others = exact.copy()
            np.put_along_axis(others, found.rows.numpy(), -np.inf, axis=1)
            assert (others.max(1) <= found.ceilings.numpy()).all()
            if fetch >= count:
                assert (found.ceilings == -torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_greatest_values_are_those_of_topk_whatever_the_groups(dtype):
    generator = torch.Generator().manual_seed(7)
    for width in (1, 5, 64, 1000, 4097):
        for count in {1, min(7, width), max(1, width - 1), width}:
            for distinct in (3, 100_000):
                values = torch.randint(0, distinct, (6, width), generator=generator).to(dtype)
                found, columns = take_greatest(values, count)
                assert torch.equal(found, values.topk(count).values)
                assert torch.equal(values.gather(1, columns), found)
                assert all(len(row.unique()) == count for row in columns)


def test_the_base_is_read_once_and_its_rows_in_order(monkeypatch):
    class Watched:
        def __init__(self, vectors):
            self.vectors, self.shape, self.read = vectors, vectors.shape, []

        def __len__(self):
            return len(self.vectors)

        def __getitem__(self, rows):
            self.read += range(*rows.indices(len(self)))
            return self.vectors[rows]

    rng = np.random.default_rng(8)
    monkeypatch.setattr(uploads, "PIECE_BYTES", 4 * 16 * 9)  # nine rows a piece
    for block_rows in (None, 100, 37):
        base, queries = Watched(unit_vectors(rng, 100, 16).astype(np.float16)), unit_vectors(rng, 5, 16)
        found = search_on_device(queries, base, 3, NOBODY[:5], CPU, DevicePlan("float16", block_rows))
        assert base.read == list(range(100))
        assert_same(found, search_exact(queries, base.vectors, 3))


def test_the_flags_of_matrix_products_are_given_back():
    flags = torch.backends.cuda.matmul
    flags.allow_fp16_accumulation = True
    try:
        with exact_accumulation():
            assert not flags.allow_fp16_accumulation and not flags.allow_fp16_reduced_precision_reduction
        assert flags.allow_fp16_accumulation and flags.allow_fp16_reduced_precision_reduction
    finally:
        flags.allow_fp16_accumulation = False


def test_work_that_does_not_fit_is_halved_and_the_size_that_fits_is_kept():
    limit, tried = MemoryLimit(), []

    def work(part):
        tried.append(part.stop - part.start)
        if tried[-1] > 5:
            raise torch.OutOfMemoryError
        return list(range(part.start, part.stop))

    assert list(chain(*limit.run(work, 23))) == list(range(23))
    assert tried == [23, 11, 5, 5, 5, 5, 3]
    tried.clear()
    assert list(chain(*limit.run(work, 8, 2.0))) == list(range(8))  # items of twice the size: half as many
    assert tried == [2, 2, 2, 2] and limit.run(work, 0) == []
    with pytest.raises(torch.OutOfMemoryError):
        MemoryLimit().run(lambda part: (_ for _ in ()).throw(torch.OutOfMemoryError), 3)
    assert count_free_bytes(CPU) > 0
