"""Parts of a base searched one by one and merged, against the search of the whole."""

import numpy as np
import pytest

from pipeline.distributed import Share
from pipeline.matching.gaps import Gaps
from pipeline.matching.knn import search_exact
from pipeline.matching.knn_parts import RowRange, merge_parts, search_part


def vectors_with_ties(rng, count, width=6):
    """Vectors of few different components, many of them equal."""
    return rng.integers(-1, 2, (count, width)).astype(np.float32)


def search_all_parts(queries, base, k, count, exclude=None):
    return [search_part(queries, base, k, share=Share(part, count), exclude=exclude) for part in range(count)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_merged_parts_are_the_lists_of_the_whole_base(parts):
    rng = np.random.default_rng(parts)
    for rows in (0, 1, 2, 5, 40):
        base, queries = vectors_with_ties(rng, rows), vectors_with_ties(rng, 9)
        for k in (1, 3, rows + 1):
            exclude = rng.integers(-1, max(rows, 1), 9) if rows else None
            found = search_all_parts(queries, base, k, parts, exclude)
            expected = search_exact(queries, base, k, exclude=exclude)
            assert_same(merge_parts(found, k), expected)
            assert_same(merge_parts(found[::-1], k), expected)


def test_parts_cover_every_row_once_and_differ_by_one_row_at_most():
    for length in (0, 1, 5, 16, 17):
        for count in (1, 2, 3, 20):
            bounds = [Share(part, count).bounds(length) for part in range(count)]
            assert [row for start, stop in bounds for row in range(start, stop)] == list(range(length))
            sizes = [stop - start for start, stop in bounds]
            assert max(sizes) - min(sizes) <= 1


def test_a_part_reads_no_row_of_another(tmp_path):
    class Watched:
        def __init__(self, vectors):
            self.vectors, self.shape, self.read = vectors, vectors.shape, set()

        def __len__(self):
            return len(self.vectors)

        def __getitem__(self, rows):
            self.read |= set(np.arange(len(self))[rows].tolist())
            return self.vectors[rows]

    base = Watched(vectors_with_ties(np.random.default_rng(1), 30))
    search_part(base.vectors[:4], base, 3, share=Share(1, 3))
    assert base.read == set(range(10, 20))
    part = RowRange(base.vectors, 10, 20)
    np.testing.assert_array_equal(part[np.array([0, 9, 3])], base.vectors[[10, 19, 13]])
    np.testing.assert_array_equal(part[7:99], base.vectors[17:20])


def test_parts_merge_where_images_have_no_descriptor_too():
    rng = np.random.default_rng(2)
    base, queries = vectors_with_ties(rng, 25), vectors_with_ties(rng, 8)
    gaps = Gaps(np.array([1, 5]), np.array([0, 3, 4, 24]))
    exclude = rng.integers(-1, 25, 8)
    parts = []
    for part in range(3):

        def find(*arguments, part=part, **options):
            return search_part(*arguments, share=Share(part, 3), **options)

        parts.append(gaps.search(find, queries, base, 6, exclude))
    assert_same(merge_parts(parts, 6), gaps.search(search_exact, queries, base, 6, exclude))
