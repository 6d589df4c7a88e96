"""Every path of a GPU on a pretend device: nothing stays behind on the CPU, and the host waits no oftener than said."""

import contextlib

import cv2
import numpy as np
import pytest
import torch
from photographs import write_photographs
from pretend import DEVICE, pretending
from runs import share_finished
from tasks import TrainingTask
from test_pair_batches import all_pairs, make_images, store

from benchmarks.gpu_twins import compare_twins
from pipeline.features.global_descriptors import Describer, InputImages, extract_descriptors
from pipeline.features.local_batches import LocalExtractor, LocalNetwork
from pipeline.features.local_features import calibrate_attention, extract_local
from pipeline.features.pyramid_cells import ImageRegions
from pipeline.images.batch_loader import load_batches
from pipeline.images.batches import plan_evaluation
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.matching import device_knn
from pipeline.matching.device_knn import PRECISIONS, DevicePlan, search_on_device
from pipeline.matching.knn import search_exact
from pipeline.matching.verification import MatchOptions, verify_pairs
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.training import TrainingSetup, train
from pipeline.query import open_run
from pipeline.settings import ExtractSettings, LocalSettings, ModelSettings, PhaseSettings

CPU = torch.device("cpu")
MODEL = ModelSettings(backbone="resnet18", weights="none", dims=16)
BUCKETS = [(96, 64), (64, 64), (64, 96)]
EXTRACT = ExtractSettings(template=BUCKETS, scales=[0.75, 1.0], batch_size=4, precision="float32")
LOCAL = LocalSettings(precision="float32", scales=[0.5, 1.0], max_side_px=112, max_features=40, suppression_cells=1)
PHASE = PhaseSettings(
    epochs=2, batch_size=6, learning_rate=0.01, template=BUCKETS, validation_fraction=0.2, precision="float32"
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), 13)


@pytest.fixture(scope="module")
def network():
    embedding = build_embedding(MODEL, 1)
    return build_landmark_network(embedding, PHASE, np.array([3, 7, 100]), 1, True, np.ones(3, np.int64)).eval()


def test_the_pretend_device_refuses_what_a_gpu_refuses():
    with pretending() as waits:
        here, there = torch.ones(3), torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="not on the device"):
            there + here
        with pytest.raises(RuntimeError, match="not on the device"):
            there[torch.tensor([0, 2])]
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (2 * there + 1).device == DEVICE and len(waits) == 0
        assert (there + 1).tolist() == [2, 2, 2] and float(there.sum()) == 3 and len(waits) == 2


@pytest.mark.parametrize("max_side_px", [0, 96])
def test_global_descriptors_are_those_of_the_cpu_and_wait_once(network, photographs, max_side_px):
    settings = EXTRACT.model_copy(update={"max_side_px": max_side_px})
    sizes = np.array([(96, 64)] * 13) if max_side_px else None
    images = InputImages(photographs.paths, photographs.aspect_ratios, None, sizes)
    expected = extract_descriptors(fold_for_evaluation(network.embedding, CPU, "float32"), images, settings, CPU)
    with pretending() as waits:
        folded = fold_for_evaluation(network.embedding, DEVICE, "float32")
        before = len(waits)
        with Describer(folded, images, settings, DEVICE) as describer:
            found = describer.describe(np.arange(13))
        assert len(waits) == before + 1, waits
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_local_features_are_those_of_the_cpu_and_only_what_is_kept_is_waited_for(network, photographs):
    regions = ImageRegions(photographs.paths, np.array([(120, 80), (100, 100), (80, 120)])[np.arange(13) // 3 % 3])
    local = LocalNetwork(network)
    on_cpu = LocalExtractor(fold_for_evaluation(local, CPU, "float32"), LOCAL, CPU)
    threshold = calibrate_attention(on_cpu, regions)
    expected = extract_local(on_cpu, regions, threshold)
    with pretending() as waits:
        on_device = LocalExtractor(fold_for_evaluation(local, DEVICE, "float32"), LOCAL, DEVICE)
        before = len(waits)
        found = extract_local(on_device, regions, threshold)
        assert len(waits) == before + 5 * 3, (
            waits
        )  # of each of three batches its kept values, and whether all is finite
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)
        assert len(one.points) == len(other.points) > 0


@pytest.mark.parametrize("storage", ["float16", "int8", "bits"])
@pytest.mark.parametrize("max_ratio", [None, 0.97])
def test_pairs_are_verified_with_two_waits_a_batch(tmp_path, storage, max_ratio):
    queries, base = (store(tmp_path / name, make_images(seed), storage) for seed, name in enumerate(["one", "two"]))
    options = MatchOptions(0.3, max_ratio, 100)
    expected = verify_pairs(queries, base, *all_pairs(), options)
    with pretending() as waits:
        found = verify_pairs(queries, base, *all_pairs(), options, DEVICE)
    np.testing.assert_array_equal(found.matches, expected.matches)
    assert len(waits) <= 3, waits


@pytest.mark.parametrize("precision", PRECISIONS)
def test_searches_give_the_lists_of_the_cpu(precision, monkeypatch):
    rng = np.random.default_rng(2)
    base = np.repeat(rng.standard_normal((40, 8)), 10, axis=0)[rng.permutation(400)].astype(np.float32)
    queries, exclude = np.concatenate([base[:4], base[:6] + 1]), np.array([0, 1, -1, 2, -1, 5, -1, -1, -1, -1])
    monkeypatch.setattr(device_knn, "SCANNED_VALUES", 50)
    for k, plan in [(5, DevicePlan(precision)), (30, DevicePlan(precision, 64, 3)), (400, DevicePlan(precision))]:
        expected = search_exact(queries, base, k, exclude=exclude)
        with pretending():
            found = search_on_device(queries, base, k, exclude, DEVICE, plan)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("head", ["arcface", "adacos"])
def test_training_and_validation_give_the_weights_of_the_cpu(tmp_path, photographs, head):
    phase = PHASE.model_copy(update={"head": head, "epochs": 1})
    expected = train(TrainingSetup(MODEL, phase, 3, CPU), photographs, TrainingTask(tmp_path / "cpu"))
    with pretending():
        found = train(TrainingSetup(MODEL, phase, 3, DEVICE), photographs, TrainingTask(tmp_path / "device"))
    for (name, wanted), given in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4, msg=name)
    logs = [(tmp_path / name / "scratch" / "history.csv").read_text() for name in ("cpu", "device")]
    assert len(logs[0].splitlines()) == len(logs[1].splitlines()) == 2


@pytest.mark.parametrize("head", ["arcface", "adacos"])
def test_a_step_of_training_waits_once_for_the_losses_that_may_stop_it(tmp_path, photographs, head):
    phase, waited = PHASE.model_copy(update={"head": head, "epochs": 1, "batch_size": 2}), []
    with pretending() as waits:
        task = TrainingTask(tmp_path, lambda *_: waited.append(len(waits)))
        train(TrainingSetup(MODEL, phase, 3, DEVICE), photographs, task)
    assert len(waited) >= 5 and set(np.diff(waited)) == {1}, waits


@pytest.mark.parametrize("copies", [0, 1])
def test_a_frozen_backbone_trains_there_too(tmp_path, photographs, copies):
    phase = PHASE.model_copy(update={"backbone_lr_scale": 0.0, "augment_copies": copies, "epochs": 1})
    with pretending():
        found = train(TrainingSetup(MODEL, phase, 3, DEVICE), photographs, TrainingTask(tmp_path))
    assert all(value.isfinite().all() for value in found.state_dict().values())


def test_a_query_is_answered_as_on_the_cpu(tmp_path_factory, monkeypatch):
    world, outputs = share_finished(tmp_path_factory)
    folder = outputs / "smoke"
    asked = sorted((world / "test").rglob("*.jpg"))[:3]
    expected = [open_run(folder).search(path) for path in asked]
    monkeypatch.setattr("pipeline.query.photographs.choose_device", lambda setting: DEVICE)
    with pretending():
        opened = open_run(folder)
        for path, other in zip(asked, expected, strict=True):
            answer = opened.search(path)
            assert answer.landmark == other.landmark
            np.testing.assert_allclose(np.sort(answer.similarities), np.sort(other.similarities), atol=1e-5)


def test_batches_are_copied_one_ahead_and_stay_in_their_order(tmp_path):
    paths = write_photographs(tmp_path, 7).paths
    for path in paths[2:4]:
        cv2.imwrite(str(path), np.full((64, 64, 3), 9, np.uint8))
    plan, loaded = plan_evaluation(np.ones(7), [(64, 64)], 2), []
    expected = list(load_batches(paths, plan))
    with pretending() as waits:
        batches = copy_ahead((loaded.append(batch) or batch for batch in load_batches(paths, plan)), DEVICE)
        for at, (batch, other) in enumerate(zip(batches, expected, strict=True)):
            assert batch.images.device == DEVICE and batch.rows.tolist() == other.rows.tolist()
            assert len(loaded) == min(at + 2, 4) and not len(waits)
            assert torch.equal(batch.images.cpu(), other.images)
            waits.reasons.clear()
        assert list(copy_ahead(iter([]), DEVICE)) == []


class Stream:
    """Notes what is asked of a stream of a GPU."""

    def __init__(self, told, name):
        self.told, self.name, self.events = told, name, 0

    def record_event(self):
        self.events += 1
        return Event(self.told, f"{self.name}{self.events}")

    def wait_event(self, event):
        self.told.append(f"wait for {event.name}")


class Event:
    def __init__(self, told, name):
        self.told, self.name = told, name

    def synchronize(self):
        self.told.append(f"hold back until {self.name}")


class Pixels:
    def __init__(self, told):
        self.told = told

    def to(self, device, non_blocking):
        self.told.append("copy" if non_blocking else "blocking copy")
        return self

    def record_stream(self, stream):
        self.told.append(f"keep for {stream.name}")


def test_copies_have_a_stream_of_their_own_and_the_host_is_two_batches_ahead_at_most(monkeypatch):
    told = []
    current, copying = Stream(told, "computed"), Stream(told, "copied")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    batches = (LoadedBatch(Pixels(told), None) for _ in range(5))
    for _ in copy_ahead(batches, torch.device("cuda")):
        told.append("compute")
    used = ["keep for computed", "compute"]
    assert told == [
        "copy", "copy", "wait for copied1", *used,
        "copy", "wait for copied2", *used,
        "copy", "wait for copied3", *used, "hold back until computed1",
        "copy", "wait for copied4", *used, "hold back until computed2",
        "wait for copied5", *used,
    ]  # fmt: skip


def test_the_comparisons_that_a_card_is_given_agree():
    with pretending():
        rows = list(compare_twins(DEVICE, half=False))
    assert len(rows) >= 8 and all(row["agrees"] for row in rows), rows
