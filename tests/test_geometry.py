"""Mutual matches against sorting every product; maps against planted ones; both implementations against each other."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.matching.coarse_products import coarse_vectors
from pipeline.matching.device_geometry import fit_affine_batch
from pipeline.matching.geometry import MAX_ANISOTROPY, MAX_SCALE, fit_affine, fit_affines
from pipeline.matching.mutual import DescriptorBatch, match_mutual, match_mutual_batch, match_mutual_images

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
SIZE_PX = (1024, 768)


def naive_mutual(queries, base, min_similarity, max_ratio=None):
    """Every product in float64, rounded; both nearest by a search through them."""
    similarities = (queries.astype(np.float64) @ base.astype(np.float64).T).round(6) if queries.size else None
    pairs = []
    for q in range(len(queries)):
        ranked = sorted((-similarities[q, b], b) for b in range(len(base)))
        if not ranked or -ranked[0][0] < min_similarity:
            continue
        b = ranked[0][1]
        back = min((-similarities[other, b], other) for other in range(len(queries)))[1]
        distances = [np.sqrt(max(0.0, 2 + 2 * negative)) for negative, _ in ranked[:2]]
        distinct = max_ratio is None or len(base) == 1 or distances[0] <= max_ratio * distances[1]
        if back == q and distinct:
            pairs.append((q, b))
    return np.array(pairs, np.int32).reshape(-1, 2)


def unit_vectors(rng, count, width):
    vectors = rng.standard_normal((count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def keypoints(rng, count, pool):
    """Unit vectors, of which many repeat each other and some come from a pool that both images share."""
    own = unit_vectors(rng, count, pool.shape[1])
    shared = rng.random(count) < 0.6
    own[shared] = pool[rng.integers(0, len(pool), int(shared.sum()))]
    return own


def match_padded(queries, base, min_similarity, max_ratio, device, padding=(0, 0)):
    """match_mutual_batch over lists of arrays, as a list of match_mutual's answers."""

    def padded(arrays, more):
        full = np.zeros((len(arrays), max(map(len, arrays)) + more, arrays[0].shape[1]), np.float32)
        for at, array in enumerate(arrays):
            full[at, : len(array)] = array
        return DescriptorBatch(torch.from_numpy(full).to(device), torch.tensor([len(a) for a in arrays], device=device))

    batches = padded(queries, padding[0]), padded(base, padding[1])
    partners = match_mutual_batch(*batches, min_similarity, max_ratio).cpu().numpy()
    rows = [np.flatnonzero(found >= 0) for found in partners]
    return [np.stack([row, found[row]], 1) for row, found in zip(rows, partners, strict=True)]


# ---- Matches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_ratio", [None, 0.9])
def test_mutual_matches_equal_a_search_through_every_product(max_ratio):
    rng = np.random.default_rng(1)
    for _ in range(60):
        pool = unit_vectors(rng, int(rng.integers(1, 20)), int(rng.integers(2, 40)))
        queries, base = (keypoints(rng, int(rng.integers(0, 50)), pool) for _ in range(2))
        least = float(rng.choice([-1.0, 0.0, 0.5, 0.9, 1.0]))
        found = match_mutual(queries, base, least, max_ratio)
        np.testing.assert_array_equal(found, naive_mutual(queries, base, least, max_ratio))
        assert found.dtype == np.int32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("max_ratio", [None, 0.9])
def test_a_batch_gives_the_matches_of_each_single_pair(device, max_ratio):
    rng = np.random.default_rng(2)
    for _ in range(10):
        pool = unit_vectors(rng, 15, int(rng.integers(2, 40)))
        queries, base = ([keypoints(rng, int(rng.integers(0, 50)), pool) for _ in range(7)] for _ in range(2))
        for padding in [(0, 0), (3, 17)]:
            found = match_padded(queries, base, 0.4, max_ratio, device, padding)
            for pairs, q, b in zip(found, queries, base, strict=True):
                np.testing.assert_array_equal(pairs, match_mutual(q, b, 0.4, max_ratio))


@pytest.mark.parametrize("device", DEVICES)
def test_many_keypoints_of_full_width_match_alike_in_both_implementations(device):
    rng = np.random.default_rng(3)
    pool = unit_vectors(rng, 300, 128)
    queries, base = keypoints(rng, 700, pool), keypoints(rng, 600, pool)
    expected = naive_mutual(queries, base, 0.2)
    np.testing.assert_array_equal(match_mutual(queries, base, 0.2), expected)
    np.testing.assert_array_equal(match_padded([queries], [base], 0.2, None, device)[0], expected)


@pytest.mark.parametrize("bytes_too", [True, False])
@pytest.mark.parametrize("max_ratio", [None, 0.9])
def test_images_that_are_matched_together_have_the_matches_of_each_alone(max_ratio, bytes_too, monkeypatch):
    if not bytes_too:
        monkeypatch.setattr("pipeline.matching.coarse_products.multiplies_bytes", lambda: False)
    rng = np.random.default_rng(19)
    for _ in range(20):
        pool = unit_vectors(rng, 15, int(rng.integers(2, 40)))
        queries, *bases = (keypoints(rng, int(rng.integers(0, 50)), pool) for _ in range(rng.integers(2, 8)))
        least = float(rng.choice([-1.0, 0.4, 0.9]))
        found = match_mutual_images(coarse_vectors(queries), bases, least, max_ratio)
        for at, base in enumerate(bases):
            expected = naive_mutual(queries, base, least, max_ratio)
            np.testing.assert_array_equal(found.rows[found.images == at], expected)
        assert (np.diff(found.images) >= 0).all() and found.rows.dtype == np.int32


def test_equal_descriptors_match_the_smaller_row_on_both_sides():
    x, y = np.float32([1, 0]), np.float32([0, 1])
    assert match_mutual(np.stack([y, x, x]), np.stack([x, x, y]), 0.5).tolist() == [[0, 2], [1, 0]]
    found = match_padded([np.stack([y, x, x])], [np.stack([x, x, y])], 0.5, None, "cpu")
    assert found[0].tolist() == [[0, 2], [1, 0]]


def test_a_similarity_equal_to_the_least_is_enough():
    queries, base = np.float32([[1, 0]]), np.float32([[0.6, 0.8]])
    assert len(match_mutual(queries, base, 0.6)) == 1
    assert len(match_mutual(queries, base, 0.600002)) == 0


def test_the_ratio_test_refuses_a_keypoint_that_looks_like_two():
    queries, base = np.float32([[1, 0]]), np.float32([[0.6, 0.8], [0.6, -0.8], [-1, 0]])
    assert match_mutual(queries, base, 0.0, max_ratio=None).tolist() == [[0, 0]]
    assert match_mutual(queries, base, 0.0, max_ratio=0.99).tolist() == []
    assert match_mutual(queries, base[[0, 2]], 0.0, max_ratio=0.99).tolist() == [[0, 0]]
    assert match_mutual(queries, base[:1], 0.0, max_ratio=0.1).tolist() == [[0, 0]]  # there is no second


def test_no_keypoints_on_either_side_give_no_matches():
    some, none = np.eye(4, dtype=np.float32), np.zeros((0, 4), np.float32)
    for queries, base in [(some, none), (none, some), (none, none)]:
        found = match_mutual(queries, base, 0.0, 0.9)
        assert found.shape == (0, 2) and found.dtype == np.int32
        assert match_padded([queries, queries], [base, base], 0.0, 0.9, "cpu")[0].shape == (0, 2)
    no_pairs = (DescriptorBatch(torch.zeros(0, count, 4), torch.zeros(0).long()) for count in (3, 5))
    assert match_mutual_batch(*no_pairs, 0.0).shape == (0, 3)


@pytest.mark.filterwarnings("error")
def test_read_only_and_half_precision_descriptors_are_matched_without_a_warning():
    base = np.eye(4, dtype=np.float32)
    base.flags.writeable = False
    assert match_mutual(base, base, 0.5).tolist() == [[n, n] for n in range(4)]
    assert match_mutual(base.astype(np.float16), base, 0.5).tolist() == [[n, n] for n in range(4)]


# ---- Maps -----------------------------------------------------------------------------------------------------------


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def plausible_map(rng):
    """A random map (2, 3) well inside the bounds: scale 1/2 to 2, anisotropy to 1.6, any direction."""
    root = np.sqrt(rng.uniform(1, 1.6))  # of the anisotropy
    axes = turn(rng.uniform(0, np.pi))
    linear = 2 ** rng.uniform(-1, 1) * turn(rng.uniform(-0.5, 0.5)) @ axes @ np.diag([root, 1 / root]) @ axes.T
    return np.column_stack([linear, rng.uniform(-100, 100, 2)])


def apply(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


def planted(rng, count, share, noise_px=0.0, matrix=None):
    """(source, target, map, which matches obey it): the others go anywhere."""
    matrix = plausible_map(rng) if matrix is None else matrix
    source = rng.uniform(0, SIZE_PX, (count, 2))
    target = apply(matrix, source) + noise_px * rng.standard_normal((count, 2))
    true = rng.permutation(count) < round(share * count)
    target[~true] = rng.uniform(0, SIZE_PX, (int((~true).sum()), 2))
    return source.astype(np.float32), target.astype(np.float32), matrix, true


def fit_together(sources, targets, limits, device="cpu", **settings):
    """fit_affine_batch over lists of arrays of any lengths: matrices, and the inliers of each as an array."""
    most = max(map(len, sources))
    points = np.zeros((2, len(sources), most, 2), np.float32)
    valid = np.zeros((len(sources), most), np.bool_)
    for at, (x, y) in enumerate(zip(sources, targets, strict=True)):
        points[0, at, : len(x)], points[1, at, : len(x)], valid[at, : len(x)] = x, y, True
    tensors = (torch.from_numpy(part).to(device) for part in (points[0], points[1], valid, np.float64(limits)))
    fitted = fit_affine_batch(*tensors, **settings)
    inliers = fitted.inliers.cpu().numpy()
    return fitted.matrices.cpu().numpy(), [row[: len(x)] for row, x in zip(inliers, sources, strict=True)]


def fit_single(source, target, limit, **settings):
    matrices, inliers = fit_together([source], [target], [limit], **settings)
    return matrices[0], inliers[0]


FORMS = pytest.mark.parametrize("fit", [fit_affine, fit_single], ids=["single", "batch"])


def assert_no_map(fitted, count):
    matrix, inliers = fitted
    assert matrix.shape == (2, 3) and not matrix.any()
    assert inliers.shape == (count,) and inliers.dtype == np.bool_ and not inliers.any()


@FORMS
@pytest.mark.parametrize("outliers", [0.0, 0.5, 0.7, 0.8])
def test_a_known_map_is_recovered_among_outliers(fit, outliers):
    rng = np.random.default_rng(4)
    for _ in range(10):
        source, target, matrix, true = planted(rng, 200, 1 - outliers)
        found, inliers = fit(source, target, 3.0)
        assert inliers[true].all()
        assert inliers[~true].sum() <= 2
        assert np.abs(apply(found, source) - apply(matrix, source)).max() < 1.0


@FORMS
def test_noisy_matches_are_found_and_the_inliers_are_those_of_the_matrix(fit):
    rng = np.random.default_rng(5)
    for _ in range(20):
        source, target, _, true = planted(rng, int(rng.integers(30, 300)), 0.4, noise_px=4.0)
        found, inliers = fit(source, target, 20.0)
        assert inliers[true].mean() > 0.98
        apart = np.linalg.norm(apply(found, source.astype(np.float64)) - target, axis=1)
        np.testing.assert_array_equal(inliers, apart <= 20.0)


@pytest.mark.parametrize("device", DEVICES)
def test_both_implementations_find_the_same_inliers_of_clean_maps(device):
    rng = np.random.default_rng(6)
    worlds = [planted(rng, int(rng.integers(20, 200)), 0.5) for _ in range(25)]
    sources, targets = [w[0] for w in worlds], [w[1] for w in worlds]
    matrices, inliers = fit_together(sources, targets, [2.0] * 25, device)
    for x, y, matrix, found in zip(sources, targets, matrices, inliers, strict=True):
        single = fit_affine(x, y, 2.0)
        np.testing.assert_array_equal(found, single.inliers)
        np.testing.assert_allclose(matrix, single.matrix, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_both_implementations_count_alike_on_noisy_maps(device):
    rng = np.random.default_rng(7)
    worlds = [planted(rng, 200, share, noise_px=4.0) for share in [0.2, 0.3, 0.5, 0.9] * 5]
    sources, targets = [w[0] for w in worlds], [w[1] for w in worlds]
    _, inliers = fit_together(sources, targets, [20.0] * 20, device)
    for x, y, found in zip(sources, targets, inliers, strict=True):
        assert abs(int(found.sum()) - int(fit_affine(x, y, 20.0).inliers.sum())) <= 3


@FORMS
def test_chance_gives_few_inliers_to_images_that_share_nothing(fit):
    rng = np.random.default_rng(8)
    for _ in range(20):
        source, target, _, _ = planted(rng, 150, 0.0)
        assert fit(source, target, 20.0)[1].sum() <= 12


@FORMS
@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_matches_are_no_map(fit, count):
    points = np.arange(2 * count, dtype=np.float32).reshape(count, 2) ** 2
    assert_no_map(fit(points, points, 20.0), count)


@FORMS
def test_three_matches_are_enough(fit):
    source = np.float32([[0, 0], [100, 0], [0, 100]])
    matrix, inliers = fit(source, source * 2 + 5, 20.0)
    np.testing.assert_allclose(matrix, [[2, 0, 5], [0, 2, 5]], atol=1e-6)
    assert inliers.all()


@FORMS
def test_matches_along_a_line_are_no_map(fit):
    along = np.linspace(0, 900, 40, dtype=np.float32)[:, None] * np.float32([1, 0.5])
    spread = np.random.default_rng(9).uniform(0, 1000, (40, 2)).astype(np.float32)
    assert_no_map(fit(along, along + 3, 1.0), 40)
    assert fit(along, spread, 20.0)[1].sum() == 0
    assert fit(spread, along, 20.0)[1].sum() == 0


@FORMS
def test_matches_of_one_spot_are_no_map(fit):
    spot = np.full((40, 2), 300, np.float32)
    spread = np.random.default_rng(10).uniform(0, 1000, (40, 2)).astype(np.float32)
    for source, target in [(spot, spot), (spot, spread), (spread, spot)]:
        assert_no_map(fit(source, target, 20.0), 40)


@FORMS
def test_repeated_locations_do_not_make_two_places_a_surface(fit):
    places = np.float32([[100, 100], [500, 300]])
    source = np.repeat(places, 30, axis=0)
    assert_no_map(fit(source, source + 7, 20.0), 60)


@FORMS
def test_a_mirrored_view_is_refused(fit):
    source = np.random.default_rng(11).uniform(0, 500, (60, 2)).astype(np.float32)
    assert fit(source, source * np.float32([-1, 1]) + 500, 3.0)[1].sum() <= 8  # what obeys a map by chance


@FORMS
def test_a_map_that_collapses_everything_onto_a_spot_is_refused(fit):
    rng = np.random.default_rng(12)
    source = rng.uniform(0, SIZE_PX, (80, 2)).astype(np.float32)
    target = (np.float32([400, 300]) + source / 50).astype(np.float32)
    assert fit(source, target, 5.0)[1].sum() <= 8
    assert fit(target, source, 5.0)[1].sum() <= 8


@FORMS
def test_a_surface_is_found_beside_a_greater_number_of_matches_on_one_spot(fit):
    rng = np.random.default_rng(13)
    source, target, _, true = planted(rng, 100, 0.4)
    target[~true] = np.float32([500, 400]) + rng.uniform(-5, 5, (60, 2)).astype(np.float32)
    _, inliers = fit(source, target, 10.0)
    assert inliers[true].all() and inliers[~true].sum() <= 6


@FORMS
@pytest.mark.parametrize(
    ("linear", "plausible"),
    [
        (np.eye(2) * MAX_SCALE * 0.99, True),
        (np.eye(2) * MAX_SCALE * 1.01, False),
        (np.eye(2) / MAX_SCALE * 1.01, True),
        (np.eye(2) / MAX_SCALE * 0.99, False),
        (turn(1.0) @ np.diag([MAX_ANISOTROPY * 0.99, 1]) @ turn(0.3), True),
        (turn(1.0) @ np.diag([MAX_ANISOTROPY * 1.01, 1]) @ turn(0.3), False),
        (turn(np.pi), True),
        (turn(2.0) @ np.diag([1, -1]), False),
    ],
)
def test_maps_are_plausible_within_the_bounds(fit, linear, plausible):
    source = np.float32([[0, 0], [200, 0], [0, 200]])
    assert fit(source, source @ linear.T.astype(np.float32), 0.5)[1].sum() == (3 if plausible else 0)


@FORMS
def test_all_matches_can_be_inliers_and_none(fit):
    rng = np.random.default_rng(14)
    source, target, _, _ = planted(rng, 50, 1.0)
    assert fit(source, target, 1.0)[1].all()
    assert fit(source, rng.uniform(0, 1000, (50, 2)).astype(np.float32), 1e-3)[1].sum() in (0, 3)


@FORMS
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_points_that_are_not_finite_are_outliers(fit, value):
    rng = np.random.default_rng(15)
    source, target, _, _ = planted(rng, 40, 1.0)
    source[3, 0] = target[17, 1] = value
    matrix, inliers = fit(source, target, 1.0)
    assert np.isfinite(matrix).all()
    assert np.flatnonzero(~inliers).tolist() == [3, 17]
    assert_no_map(fit(np.full_like(source, np.nan), target, 1.0), 40)


@FORMS
def test_the_answer_is_always_the_same(fit):
    rng = np.random.default_rng(16)
    source, target, _, _ = planted(rng, 300, 0.15, noise_px=5.0)
    first = fit(source, target, 20.0)
    torch.manual_seed(1)
    cv2.setRNGSeed(5)
    again = fit(source, target, 20.0)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_a_pair_of_a_batch_does_not_depend_on_the_others():
    rng = np.random.default_rng(17)
    worlds = [planted(rng, int(rng.integers(0, 120)), 0.25, noise_px=4.0) for _ in range(12)]
    sources, targets = [w[0] for w in worlds], [w[1] for w in worlds]
    limits = rng.uniform(5, 20, 12)
    _, together = fit_together(sources, targets, limits)
    for x, y, limit, inliers in zip(sources, targets, limits, together, strict=True):
        np.testing.assert_array_equal(fit_single(x, y, limit)[1], inliers)


def test_pairs_that_are_fitted_together_have_the_bits_of_each_alone():
    rng = np.random.default_rng(20)
    worlds = [planted(rng, int(rng.integers(0, 120)), share, noise_px=4.0) for share in [0.0, 0.2, 0.6] * 6]
    for _, target, _, _ in worlds[::4]:
        target[:] = target @ np.float32([[-1, 0], [0, 1]])  # mirrored: refused, and tried a second time
    limits, counts = rng.uniform(5, 20, len(worlds)), np.array([len(world[0]) for world in worlds])
    source, target = (np.concatenate([world[side] for world in worlds]) for side in (0, 1))
    source[3] = np.nan
    together = fit_affines(source, target, counts, limits)
    ends = np.cumsum([0, *counts])
    for at, limit in enumerate(limits):
        own = slice(ends[at], ends[at + 1])
        single = fit_affine(source[own], target[own], limit)
        np.testing.assert_array_equal(single.matrix, together.matrices[at])
        np.testing.assert_array_equal(single.inliers, together.inliers[own])
    assert together.matrices.any(axis=(1, 2)).sum() >= 10


def test_no_pairs_at_all_have_no_maps():
    none = fit_affines(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
    assert none.matrices.shape == (0, 2, 3) and none.inliers.shape == (0,)


def test_samples_scored_in_parts_give_the_same_map(monkeypatch):
    rng = np.random.default_rng(18)
    source, target, _, _ = planted(rng, 100, 0.3, noise_px=4.0)
    whole = fit_single(source, target, 20.0)
    monkeypatch.setattr("pipeline.matching.device_geometry.SCORED_VALUES", 700)
    parts = fit_single(source, target, 20.0)
    np.testing.assert_array_equal(whole[0], parts[0])


def test_a_batch_without_pairs_or_without_matches_is_empty():
    none = fit_affine_batch(torch.zeros(0, 5, 2), torch.zeros(0, 5, 2), torch.zeros(0, 5).bool(), torch.zeros(0))
    assert none.matrices.shape == (0, 2, 3) and none.inliers.shape == (0, 5)
    empty = fit_affine_batch(torch.zeros(3, 0, 2), torch.zeros(3, 0, 2), torch.zeros(3, 0).bool(), torch.ones(3))
    assert not empty.matrices.any() and empty.inliers.shape == (3, 0)


@FORMS
@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(0, 12))
def test_any_small_integer_points_give_a_finite_map_and_its_own_inliers(fit, data, count):
    grid = st.lists(st.integers(0, 6).map(float), min_size=2 * count, max_size=2 * count)
    source, target = (np.float32(data.draw(grid)).reshape(count, 2) for _ in range(2))
    limit = data.draw(st.sampled_from([0.25, 1.0, 3.0]))
    matrix, inliers = fit(source, target, limit)
    assert np.isfinite(matrix).all()
    assert inliers.sum() >= 3 or not (inliers.any() or matrix.any())
    if inliers.any():
        assert np.linalg.det(matrix[:, :2]) > 0
        apart = ((apply(matrix, source.astype(np.float64)) - target) ** 2).sum(1)
        surely = np.abs(apart - limit**2) > 1e-9
        np.testing.assert_array_equal(inliers[surely], (apart <= limit**2)[surely])
