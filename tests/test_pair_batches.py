"""Batches of pairs on a device, on CPU tensors: what is read and sent, how it is cut, and what it needs to run."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.features.local_store import LocalFeatures, LocalStore, pack
from pipeline.features.store import write_ragged_in_shards
from pipeline.matching import pair_batches, verification
from pipeline.matching.device_geometry import fit_affine_batch
from pipeline.matching.pair_batches import MAX_PAIRS, MAX_VALUES, count_batch_pairs
from pipeline.matching.resident_features import ResidentFeatures
from pipeline.matching.verification import MatchOptions, verify_pairs

CPU = torch.device("cpu")
OPTIONS = MatchOptions(0.3, 0.97, max_iterations=100)
COUNTS = [30, 0, 41, 17, 0, 64, 1, 25]


def make_images(seed, counts=COUNTS):
    """Images that share half of their descriptors and points, shifted."""
    rng, pool = np.random.default_rng(seed), np.random.default_rng(0)
    shared, places = pool.standard_normal((64, 128)), pool.uniform(0, 500, (64, 2))
    images = []
    for count in counts:
        descriptors, points = rng.standard_normal((count, 128)), rng.uniform(0, 500, (count, 2))
        descriptors[: count // 2] = shared[: count // 2] + 0.2 * rng.standard_normal((count // 2, 128))
        points[: count // 2] = places[: count // 2] + rng.uniform(0, 90, 2)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        ones = np.ones(count, np.float32)
        images.append(LocalFeatures(points.astype(np.float32), ones, ones, descriptors.astype(np.float32)))
    return images


def store(folder, images, storage):
    def make(start, stop):
        return pack(images[start:stop], storage)

    write_ragged_in_shards(folder, folder / "scratch", len(images), 3, make)
    return LocalStore(folder)


def all_pairs(count=len(COUNTS)):
    pairs = np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1).reshape(-1, 2)
    return np.random.default_rng(2).permutation(pairs), np.full(len(pairs), 15.0)


@pytest.fixture
def on_device(monkeypatch):
    """Verify pairs in batches of CPU tensors."""

    def verify(queries, base, pairs, limits, options=OPTIONS):
        monkeypatch.setattr(verification, "_uses_threads", lambda device: False)
        found = verify_pairs(queries, base, pairs, limits, options)
        monkeypatch.undo()
        return found

    return verify


@pytest.mark.parametrize("storage", ["float16", "int8", "bits"])
@pytest.mark.parametrize("max_ratio", [None, 0.97])
def test_stored_features_match_on_a_device_as_they_do_on_a_cpu(tmp_path, storage, max_ratio, on_device):
    queries, base = (store(tmp_path / name, make_images(seed), storage) for seed, name in enumerate(["one", "two"]))
    options = MatchOptions(0.3, max_ratio, 100)
    expected, found = (
        verify_pairs(queries, base, *all_pairs(), options),
        on_device(queries, base, *all_pairs(), options),
    )
    assert expected.matches.max() > 10
    np.testing.assert_array_equal(found.matches, expected.matches)
    clear = expected.inliers > 8
    assert clear.any() and np.abs(found.inliers - expected.inliers)[clear].max() <= 2


class Reads(LocalStore):
    """A store that notes the rows whose descriptors are read."""

    rows = None

    def stored_descriptors(self, row):
        self.rows = [*(self.rows or []), row]
        return super().stored_descriptors(row)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_each_image_is_read_once_for_all_its_pairs_and_one_store_serves_both_sides(tmp_path, batch, on_device):
    store(tmp_path, make_images(3), "float16")
    pairs, limits = all_pairs()
    queries, base = Reads(tmp_path), Reads(tmp_path)
    expected = on_device(queries, base, pairs, limits)
    for side in (queries, base):
        rows = side.rows[1:]  # the first shows the format
        assert sorted(rows) == [row for row, count in enumerate(COUNTS) if count]
    same = Reads(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_batches, "MAX_PAIRS", batch)
        found = on_device(same, same, pairs, limits)
    assert len(same.rows[1:]) == np.count_nonzero(COUNTS)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_that_do_not_fit_are_sent_in_parts_with_the_same_counts(tmp_path, on_device):
    queries, base = (store(tmp_path / name, make_images(seed), "float16") for seed, name in enumerate(["one", "two"]))
    expected, held = on_device(queries, base, *all_pairs()), []
    whole = pair_batches._Batches.verify

    def watched(batches):
        held.append(batches.device_bytes)
        return whole(batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_batches._Batches, "verify", watched)
        patch.setattr(pair_batches, "count_free_bytes", lambda device: 60_000 / pair_batches.RESIDENT_SHARE)
        found = on_device(queries, base, *all_pairs())
    assert len(held) > 3 and max(held) <= 60_000
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_pairs_and_images_without_keypoints_have_no_matches(tmp_path, on_device):
    nobody = store(tmp_path, make_images(1, [0, 0]), "int8")
    found = on_device(nobody, nobody, *all_pairs(2))
    assert found.matches.tolist() == found.inliers.tolist() == [0] * 4
    assert on_device(nobody, nobody, np.zeros((0, 2), np.int64), np.zeros(0)).matches.shape == (0,)


def test_loaded_parts_are_packed_in_the_order_of_first_use(tmp_path):
    images = make_images(4)
    features = ResidentFeatures(store(tmp_path, images, "float16"), np.array([5, 1, 5, 0, 7, 0]))
    features.allocate(CPU)
    for uses in (1, 3, 3, 6):
        features.send(features.load(uses))
    batch = features.gather(torch.tensor([0, 1, 3, 2]), 64)
    assert batch.descriptors.counts.tolist() == [64, 0, 25, 30]
    for at, row in enumerate([5, 1, 7, 0]):
        count = len(images[row].points)
        np.testing.assert_array_equal(batch.points[at, :count], images[row].points)
        np.testing.assert_allclose(batch.descriptors.vectors[at, :count], images[row].descriptors, atol=1e-3)
    assert batch.points.isfinite().all() and batch.descriptors.vectors.isfinite().all()
    assert features.device_bytes == (64 + 0 + 30 + 25) * (8 + 256)


def test_a_batch_fits_into_the_memory_and_no_tensor_has_two_to_the_31_values():
    for free in (0, 1 << 20, 1 << 30, 80 << 30, 1 << 45):
        for lengths in [(0, 0), (1, 1), (1000, 1000), (8200, 8200), (1, 46_000), (46_000, 46_000)]:
            pairs = count_batch_pairs(free, lengths, 128, 1000)
            assert 1 <= pairs <= MAX_PAIRS
            assert pairs == 1 or pairs * lengths[0] * lengths[1] <= MAX_VALUES
            assert pairs == 1 or pairs * 4 * lengths[0] * lengths[1] <= free
    assert count_batch_pairs(80 << 30, (1000, 1000), 128, 1000) == MAX_PAIRS
    assert 300 <= count_batch_pairs(8 << 30, (1000, 1000), 128, 1000) < MAX_PAIRS
    assert count_batch_pairs(1 << 45, (8200, 8200), 128, 1000) == MAX_VALUES // 8200**2


def test_compiled_scoring_finds_the_same_maps(monkeypatch):
    compiled = []

    def compile_nothing(function, **options):
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    rng = np.random.default_rng(5)
    source = torch.from_numpy(rng.uniform(0, 500, (4, 60, 2)).astype(np.float32))
    target = source + torch.rand(4, 60, 2) * 300 * (torch.arange(60) > 30)[None, :, None]
    arguments = source, target, torch.ones(4, 60, dtype=torch.bool), torch.full((4,), 3.0)
    plain, scored = fit_affine_batch(*arguments, 100), fit_affine_batch(*arguments, 100, compiled=True)
    assert compiled == [{"dynamic": True}] and plain.inliers.sum() >= 120
    for one, other in zip(plain, scored, strict=True):
        assert torch.equal(one, other)


def test_search_and_verification_on_a_device_need_only_torch_and_numpy():
    blocked = ["faiss", "albumentations", "cv2", "pandas", "pydantic", "scipy", "tqdm", "torchvision", "PIL"]
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "import numpy as np, torch\n"
        "from pipeline.matching import knn, knn_parts, verification\n"
        "from pipeline.features.local_store import LocalFeatures\n"
        "knn._uses_faiss = verification._uses_threads = lambda device: False\n"
        "x, ones = np.eye(16, dtype=np.float32), np.ones(16, np.float32)\n"
        "assert knn.search_exact(x, x, 2).rows[:, 0].tolist() == list(range(16))\n"
        "points = np.random.default_rng(0).uniform(0, 99, (16, 2)).astype(np.float32)\n"
        "images = [LocalFeatures(points, ones, ones, x)]\n"
        "pairs, limits = np.zeros((1, 2), np.int64), np.ones(1)\n"
        "found = verification.verify_pairs(images, images, pairs, limits, verification.MatchOptions(0.5))\n"
        "assert found.matches.tolist() == found.inliers.tolist() == [16]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
