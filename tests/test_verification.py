"""Many pairs against one at a time; independence of threads, blocks and calls."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.features.local_store import LocalFeatures
from pipeline.matching import pair_batches, verification
from pipeline.matching.geometry import fit_affine
from pipeline.matching.mutual import match_mutual
from pipeline.matching.verification import MatchOptions, Verified, verify_pair, verify_pairs
from pipeline.settings import VerifySettings

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BATCHES = ["batches on a CPU", pytest.param("batches on a GPU", marks=needs_gpu)]
WAYS = ["threads", *BATCHES]
WIDTH = 32


def unit_vectors(rng, count):
    vectors = rng.standard_normal((count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def image(rng, count, surface=None, seen=0, noise_px=1.0):
    """Features of an image, `seen` of which lie on a surface that is scaled, turned and shifted at random."""
    points = rng.uniform(0, 800, (count, 2))
    descriptors = unit_vectors(rng, count)
    if seen:
        rows = rng.permutation(len(surface.points))[:seen]
        angle, scale = rng.uniform(-0.4, 0.4), 2 ** rng.uniform(-0.5, 0.5)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points[:seen] = surface.points[rows] @ turn.T + rng.uniform(-50, 50, 2)
        points[:seen] += noise_px * rng.standard_normal((seen, 2))
        descriptors[:seen] = surface.descriptors[rows] + 0.02 * rng.standard_normal((seen, WIDTH))
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    ones = np.ones(count, np.float32)
    return LocalFeatures(points.astype(np.float32), ones, ones, descriptors.astype(np.float32))


@pytest.fixture(scope="module")
def world():
    """Six queries and nine base images, some of one surface, two without features; pairs, limits."""
    rng = np.random.default_rng(1)
    surface = image(rng, 120)
    queries = [image(rng, int(rng.integers(60, 150)), surface, seen) for seen in (50, 50, 0, 40, 0)]
    base = [image(rng, int(rng.integers(60, 150)), surface, seen) for seen in (50, 0, 45, 0, 55, 50, 0, 30)]
    queries.append(image(rng, 0))
    base.append(image(rng, 0))
    pairs = np.array([(q, b) for q in range(6) for b in rng.permutation(9)])
    return queries, base, pairs, rng.uniform(8, 20, len(pairs))


OPTIONS = MatchOptions(min_similarity=0.5, max_ratio=0.95)


def device_of(way, monkeypatch):
    """The device that verifies in threads or in batches; batches on a CPU are what a GPU would do, without one."""
    if way == "batches on a CPU":
        monkeypatch.setattr(verification, "_uses_threads", lambda device: False)
    return torch.device("cuda" if way == "batches on a GPU" else "cpu")


def one_by_one(queries, base, pairs, limits):
    counts = []
    for (q, b), limit in zip(pairs, limits, strict=True):
        matches = match_mutual(queries[q].descriptors, base[b].descriptors, 0.5, 0.95)
        fitted = fit_affine(queries[q].points[matches[:, 0]], base[b].points[matches[:, 1]], limit)
        counts.append((len(matches), fitted.inliers.sum()))
    return Verified(*np.array(counts, np.int32).reshape(-1, 2).T)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.int32


def test_many_pairs_have_the_counts_of_each_single_pair(world):
    assert_same(verify_pairs(*world, OPTIONS), one_by_one(*world))


def test_results_do_not_depend_on_the_number_of_threads_or_on_the_blocks(world, monkeypatch):
    expected = one_by_one(*world)
    for threads, block, products in [(1, 1000, 1), (3, 1, 1 << 20), (2, 5, 1 << 15), (40, 5, 1)]:
        monkeypatch.setattr(verification, "BLOCK_PAIRS", block)
        monkeypatch.setattr(verification, "PRODUCTS", products)
        assert_same(verify_pairs(*world, OPTIONS, threads=threads), expected)


@pytest.mark.parametrize("way", WAYS)
def test_results_do_not_depend_on_how_pairs_are_split_over_calls(world, way, monkeypatch):
    monkeypatch.setattr(pair_batches, "MAX_PAIRS", 7)
    device = device_of(way, monkeypatch)
    queries, base, pairs, limits = world
    whole = verify_pairs(*world, OPTIONS, device)
    order = np.random.default_rng(2).permutation(len(pairs))
    parts = [verify_pairs(queries, base, pairs[at], limits[at], OPTIONS, device) for at in np.split(order, [1, 2, 20])]
    together = Verified(*(np.concatenate(part)[np.argsort(order)] for part in zip(*parts, strict=True)))
    assert_same(together, whole)


@pytest.mark.parametrize("way", BATCHES)
def test_batches_find_the_matches_of_the_threads_and_their_inliers_within_a_few(world, way, monkeypatch):
    threads = verify_pairs(*world, OPTIONS)
    batches = verify_pairs(*world, OPTIONS, device_of(way, monkeypatch))
    np.testing.assert_array_equal(batches.matches, threads.matches)
    surely = threads.inliers > 12
    assert np.abs(batches.inliers - threads.inliers)[surely].max() <= 2
    np.testing.assert_array_equal(batches.inliers > 12, surely)


@pytest.mark.parametrize("way", WAYS)
def test_images_of_one_surface_stand_out(world, way, monkeypatch):
    inliers = verify_pairs(*world, OPTIONS, device_of(way, monkeypatch)).inliers
    shared = np.isin(world[2][:, 0], [0, 1, 3]) & np.isin(world[2][:, 1], [0, 2, 4, 5, 7])
    assert inliers[shared].min() > inliers[~shared].max()


@pytest.mark.parametrize("way", WAYS)
def test_an_image_without_features_has_no_matches_and_no_inliers(world, way, monkeypatch):
    device = device_of(way, monkeypatch)
    queries, base, pairs, _ = world
    verified = verify_pairs(*world, OPTIONS, device)
    without = (pairs[:, 0] == 5) | (pairs[:, 1] == 8)
    assert not verified.matches[without].any() and not verified.inliers[without].any()
    nobody = verify_pairs(queries, base, np.array([[5, 8]]), np.array([20.0]), OPTIONS, device)
    assert nobody.matches.tolist() == [0] and nobody.inliers.tolist() == [0]


@pytest.mark.parametrize("way", WAYS)
def test_no_pairs_give_empty_counts(world, way, monkeypatch):
    device = device_of(way, monkeypatch)
    verified = verify_pairs(*world[:2], np.zeros((0, 2), np.int64), np.zeros(0), OPTIONS, device)
    assert verified.matches.shape == verified.inliers.shape == (0,)


def test_a_pair_in_detail_agrees_with_its_counts(world):
    queries, base, pairs, limits = world
    verified = verify_pairs(*world, OPTIONS)
    for at in range(0, len(pairs), 5):
        query, other = queries[pairs[at, 0]], base[pairs[at, 1]]
        matches, fitted = verify_pair(query, other, limits[at], OPTIONS)
        assert len(matches) == verified.matches[at] and fitted.inliers.sum() == verified.inliers[at]
        x, y = query.points[matches[fitted.inliers, 0]], other.points[matches[fitted.inliers, 1]]
        there = x.astype(np.float64) @ fitted.matrix[:, :2].T + fitted.matrix[:, 2]
        assert (np.linalg.norm(there - y, axis=1) <= limits[at]).all()


class CountingStore:
    """Features that say how often each row was read."""

    def __init__(self, features):
        self.features, self.reads = features, []

    def __getitem__(self, row):
        assert type(row) is int
        self.reads.append(row)
        return self.features[row]


def test_the_features_of_a_query_are_read_once_for_its_run_of_pairs(world, monkeypatch):
    monkeypatch.setattr(verification, "BLOCK_PAIRS", 9)
    store = CountingStore(world[0])
    verify_pairs(store, *world[1:], OPTIONS, threads=1)
    assert store.reads == [0, 1, 2, 3, 4, 5]


def test_thread_counts_and_precision_are_given_back_even_after_an_error(world):
    queries, base, pairs, limits = world
    before = torch.get_num_threads(), cv2.getNumThreads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(IndexError):
            verify_pairs(queries, base, pairs + 100, limits, OPTIONS)
        assert (torch.get_num_threads(), cv2.getNumThreads()) == before[:2]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before[2])


def test_wrong_arguments_are_refused(world):
    queries, base, pairs, limits = world
    with pytest.raises(ValueError, match="pairs has shape"):
        verify_pairs(queries, base, pairs.T, limits, OPTIONS)
    with pytest.raises(ValueError, match="thresholds_px has shape"):
        verify_pairs(queries, base, pairs, limits[1:], OPTIONS)
    for value in (0.0, -1.0, np.nan, np.inf):
        limits = np.full(len(pairs), 20.0)
        limits[4] = value
        with pytest.raises(ValueError, match="thresholds_px of pair 4"):
            verify_pairs(queries, base, pairs, limits, OPTIONS)


def test_pairs_that_do_not_fit_into_the_memory_of_a_device_are_halved(world, monkeypatch):
    device = device_of("batches on a CPU", monkeypatch)
    expected = verify_pairs(*world, OPTIONS, device)
    whole, sizes = pair_batches._Batches._verify_together, []

    def short_of_memory(batches, start, part):
        sizes.append(part.stop - part.start)
        if sizes[-1] > 5:
            raise torch.OutOfMemoryError
        whole(batches, start, part)

    monkeypatch.setattr(pair_batches._Batches, "_verify_together", short_of_memory)
    monkeypatch.setattr(pair_batches, "MAX_PAIRS", 20)
    found = verify_pairs(*world, OPTIONS, device)
    assert sizes[:4] == [20, 10, 5, 5] and max(sizes[2:]) == 5  # what did not fit is not tried again
    assert_same(found, expected)


def test_a_cpu_means_threads_and_any_other_device_batches(world, monkeypatch):
    used = []
    monkeypatch.setattr(verification, "_verify_block", lambda *_: used.append("threads"))
    monkeypatch.setattr(verification, "verify_in_batches", lambda work: used.append("batches") or ([0], [0]))
    for device in (CPU, torch.device("meta")):
        verify_pairs(*world[:2], world[2][:1], world[3][:1], OPTIONS, device)
    assert used == ["threads", "batches"]


def test_a_ratio_of_one_in_the_settings_means_no_ratio_test():
    assert MatchOptions.from_settings(VerifySettings()) == MatchOptions(min_similarity=0.0)
    settings = VerifySettings(min_similarity=0.3, max_ratio=0.9, max_iterations=50)
    assert MatchOptions.from_settings(settings) == MatchOptions(0.3, 0.9, 50)
