"""Verified pairs: looked up like a dictionary, and the same table however the work is cut."""

import numpy as np
import pandas as pd
import pytest
import torch
from tasks import RecordedTask

from pipeline.competition.metrics import Truth
from pipeline.features.local_store import DIMENSIONS, LocalFeatures, LocalStore, pack
from pipeline.features.store import write_ragged_in_shards
from pipeline.matching import verified_pairs
from pipeline.matching.pair_lists import list_first_neighbours, list_neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.matching.verification import MatchOptions, verify_pair
from pipeline.matching.verified_pairs import Comparison, write_verified_pairs
from pipeline.settings import VerifySettings

# ---- Looking up ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [0, 1, 6])
@pytest.mark.parametrize("k", [0, 1, 5])
@pytest.mark.parametrize("compared", [0, 1, 25])
def test_a_table_answers_like_a_dictionary(queries, k, compared):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        keys = rng.permutation(7 * 9)[:compared]  # in no order, each pair once
        asked, rows, inliers = keys // 9, keys % 9, rng.integers(0, 50, len(keys))
        known = dict(zip(zip(asked.tolist(), rows.tolist(), strict=True), inliers.tolist(), strict=True))
        table = PairTable(asked.astype(np.int32), rows.astype(np.int32), inliers)
        lists = rng.integers(-1, 9, (queries, k)).astype(np.int32)
        found = table.look_up(lists)
        assert found.dtype == np.int32 and found.shape == (queries, k) and len(table) == len(known)
        assert found.tolist() == [[known.get((q, row), 0) for row in near] for q, near in enumerate(lists.tolist())]


@pytest.mark.parametrize("first", [0, 1, 3, 9])
def test_each_setup_has_its_first_neighbours_compared_each_pair_once(first):
    rng = np.random.default_rng(first)
    rows = np.stack([rng.permutation(8)[:6] for _ in range(5)]).astype(np.int32)
    rows[2, 4:] = -1
    plain = {(q, row) for q, near in enumerate(rows.tolist()) for row in near[:first] if row >= 0}
    assert [tuple(pair) for pair in list_first_neighbours(rows, first)] == [
        (q, row) for q, near in enumerate(rows.tolist()) for row in near[:first] if row >= 0
    ]
    junk = [[sorted(rng.permutation(8)[: rng.integers(0, 5)].tolist()) for _ in range(5)] for _ in range(3)]
    expected = set()
    for setup in junk:
        for q, near in enumerate(rows.tolist()):
            expected |= {(q, row) for row in [row for row in near if row >= 0 and row not in setup[q]][:first]}
    found = list_first_neighbours(rows, first, [Truth.from_lists(setup) for setup in junk])
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)
    empty = list_first_neighbours(rows, first, [Truth.from_lists([[]] * 5)])
    assert {tuple(pair) for pair in empty.tolist()} == plain


def test_row_numbers_up_to_the_largest_stay_apart():
    largest = 2**31 - 1
    table = PairTable(np.int32([0, 1, 1]), np.int32([largest, 0, largest]), np.array([4, 5, 6]))
    assert table.look_up(np.int32([[0, largest, -1], [largest, -1, 0]])).tolist() == [[0, 4, 0], [6, 0, 5]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (4, 6)])
def test_the_pairs_of_lists_are_those_of_a_loop(shape):
    rows = np.random.default_rng(1).integers(-1, 4, shape).astype(np.int32)
    pairs = list_neighbours(rows)
    assert pairs.dtype == np.int64 and pairs.ndim == 2 and pairs.shape[1] == 2
    assert pairs.tolist() == [[q, row] for q, near in enumerate(rows.tolist()) for row in near if row >= 0]


# ---- Verifying -----------------------------------------------------------------------------------------------------

CPU = torch.device("cpu")
SIDES = np.array([400, 800, 640, 100, 500])
SETTINGS = {"min_similarity": 0.5, "max_iterations": 100}


def image(rng, count, surface, seen):
    """Features of which the first `seen` lie on the surface, shifted and a few pixels off."""
    points, descriptors = rng.uniform(0, 400, (count, 2)), rng.standard_normal((count, DIMENSIONS))
    points[:seen] = surface.points[:seen] + rng.uniform(-40, 40, 2) + rng.normal(0, 4, (seen, 2))
    descriptors[:seen] = surface.descriptors[:seen] + 0.3 * rng.standard_normal((seen, DIMENSIONS))
    ones = np.ones(count, np.float32)
    return LocalFeatures(points.astype(np.float32), ones, ones, descriptors.astype(np.float32))


def write_store(folder, features):
    write_ragged_in_shards(folder, folder / "s", len(features), 3, lambda at, to: pack(features[at:to], "float16"))
    return LocalStore(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three queries and five base images, some of one surface, one of each without features."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("stores")
    surface = image(rng, 40, LocalFeatures(*(np.zeros((0, width)) for width in (2, 1, 1, DIMENSIONS))), 0)
    queries = [image(rng, count, surface, seen) for count, seen in ((40, 30), (0, 0), (35, 20))]
    base = [image(rng, count, surface, seen) for count, seen in ((30, 25), (50, 40), (0, 0), (40, 30), (40, 0))]
    return write_store(folder / "queries", queries), write_store(folder / "base", base)


PAIRS = np.array([(query, row) for query in (2, 0, 1) for row in (3, 1, 0, 4, 2)])


def verify(folder, stores, pairs=PAIRS, shards=1000, **settings):
    given = VerifySettings(**SETTINGS | settings)
    comparison = Comparison(*stores, pairs, SIDES)
    inliers = write_verified_pairs(RecordedTask(folder, shards), comparison, "index", given, CPU)
    return inliers, pd.read_parquet(folder / "pairs.parquet")


@pytest.mark.parametrize("max_ratio", [1.0, 0.33])
def test_a_table_holds_the_counts_of_each_pair_within_a_fraction_of_the_base_image(tmp_path, stores, max_ratio):
    inliers, table = verify(tmp_path, stores, max_ratio=max_ratio, inlier_threshold=0.015)
    options = MatchOptions(0.5, max_ratio if max_ratio < 1 else None, 100)
    expected = []
    for query, row in PAIRS.tolist():
        matches, fitted = verify_pair(stores[0][query], stores[1][row], 0.015 * SIDES[row], options)
        expected.append([query, "index", row, len(matches), int(fitted.inliers.sum())])
    assert table.columns.tolist() == ["query", "split", "row", "matches", "inliers"]
    assert table.to_numpy().tolist() == expected
    assert inliers.tolist() == table["inliers"].tolist() and inliers.dtype == np.int32
    near, far = (table.loc[table["row"] == row, "inliers"].iloc[1] for row in (3, 1))
    assert far > near > 0  # both see 30 points of query 0; 1.5 px are allowed in the one, 12 px in the other


@pytest.mark.parametrize("shard_pairs", [1, 4, 15])
def test_the_table_is_the_same_however_the_pairs_are_cut(tmp_path, stores, shard_pairs):
    verify(tmp_path / "whole", stores)
    verify(tmp_path / "cut", stores, shard_pairs=shard_pairs)
    whole, cut = ((tmp_path / name / "pairs.parquet").read_bytes() for name in ("whole", "cut"))
    assert cut == whole


def test_verification_resumes_after_the_last_shard_and_gives_the_same_bytes(tmp_path, stores, monkeypatch):
    verify(tmp_path / "whole", stores)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            verify(tmp_path / "killed", stores, shard_pairs=4, shards=2)
        assert [path.name for path in (tmp_path / "killed").iterdir()] == ["scratch"]
    compared, verify_pairs = [], verified_pairs.verify_pairs

    def watched(queries, base, pairs, *arguments):
        compared.append(len(pairs))
        return verify_pairs(queries, base, pairs, *arguments)

    monkeypatch.setattr(verified_pairs, "verify_pairs", watched)
    verify(tmp_path / "killed", stores, shard_pairs=4)
    assert compared == [4, 3]
    whole, killed = ((tmp_path / name / "pairs.parquet").read_bytes() for name in ("whole", "killed"))
    assert killed == whole


def test_without_pairs_the_table_is_empty_and_has_its_columns_and_dtypes(tmp_path, stores):
    inliers, empty = verify(tmp_path / "empty", stores, pairs=list_neighbours(np.full((3, 2), -1, np.int32)))
    assert len(inliers) == len(empty) == 0
    _, full = verify(tmp_path / "full", stores)
    kinds = {"query": "int32", "split": "category", "row": "int32", "matches": "int32", "inliers": "int32"}
    for table in (empty, full):
        assert table.dtypes.astype(str).to_dict() == kinds
    lists = np.int32([[3, -1]])
    assert PairTable.from_table(empty).look_up(lists).tolist() == [[0, 0]]


def test_a_table_that_was_written_is_read_again(tmp_path, stores):
    inliers, written = verify(tmp_path, stores)
    table = PairTable.from_table(written)
    known = dict(zip(map(tuple, PAIRS.tolist()), inliers.tolist(), strict=True))
    lists = np.int32([[0, 1, 2, 3, 4, -1]] * 3)
    assert table.look_up(lists).tolist() == [[known.get((query, row), 0) for row in lists[0]] for query in range(3)]
    assert table.look_up(lists).max() > 10
