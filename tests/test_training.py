"""Training: what learns, what is validated, and that no kill changes a byte."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from photographs import LANDMARKS, write_photographs
from tasks import TrainingTask

from pipeline.catalogue import HEADS
from pipeline.errors import PipelineError
from pipeline.images.batches import plan_training_epoch
from pipeline.network.checkpoint import WEIGHTS
from pipeline.network.frozen_backbone import FrozenBackbone
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.optimiser import learning_rate
from pipeline.network.training import Trainer, train, train_and_save
from pipeline.network.training_set import TrainingSet, holdout_mask, map_classes
from pipeline.network.training_state import HISTORY, STATE, TrainingSetup
from pipeline.settings import ModelSettings, PhaseSettings

MODEL = ModelSettings(backbone="efficientnet_lite0", weights="imagenet", dims=16)
GLOBAL = MODEL.model_copy(update={"local": False})
PHASE = PhaseSettings(
    epochs=2,
    batch_size=6,
    learning_rate=0.02,
    template=[(96, 64), (64, 64), (64, 96)],
    validation_fraction=0.15,
    checkpoint_steps=3,
    precision="float32",
)
SEED = 5


class Killed(Exception):
    pass


def kill_at(step):
    def on_step(done, steps, loss, rate):
        if done == step:
            raise Killed

    return on_step


def setup_of(phase=PHASE, model=MODEL, seed=SEED):
    return TrainingSetup(model, phase, seed, torch.device("cpu"))


def fit(folder, photographs, phase=PHASE, model=MODEL, start=None, **options):
    """The network trained with a folder for its state."""
    return train(setup_of(phase, model), photographs, TrainingTask(folder, **options), start)


def published(folder, photographs, phase=PHASE, model=MODEL, **options):
    """The bytes that a stage would publish: weights and history."""
    task = TrainingTask(folder, **options)
    train_and_save(task, setup_of(phase, model), photographs)
    return (folder / WEIGHTS).read_bytes(), (folder / HISTORY).read_bytes()


def read_history(folder):
    """The rows of the history that a training writes while it runs, as texts."""
    return [line.split(",") for line in (TrainingTask(folder).scratch / HISTORY).read_text().splitlines()[1:]]


def state_file(folder):
    return TrainingTask(folder).scratch / STATE


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), 27)


@pytest.fixture(scope="module")
def undisturbed(photographs, tmp_path_factory):
    return published(tmp_path_factory.mktemp("undisturbed"), photographs)


COPIES = PHASE.model_copy(update={"epochs": 3, "augment_copies": 2, "backbone_lr_scale": 0.0})


def count_images_of_backbone(monkeypatch):
    """A list that grows by the number of images of each forward pass of a frozen backbone."""
    calls, real = [], FrozenBackbone._compute
    monkeypatch.setattr(
        FrozenBackbone, "_compute", lambda self, images: calls.append(len(images)) or real(self, images)
    )
    return calls


def test_the_kept_maps_of_a_frozen_backbone_train_what_its_forward_passes_train(tmp_path, photographs, monkeypatch):
    kept = fit(tmp_path / "kept", photographs, COPIES)
    monkeypatch.setattr("pipeline.network.training.FrozenMaps", lambda *_: None)
    calls = count_images_of_backbone(monkeypatch)
    computed = fit(tmp_path / "computed", photographs, COPIES)
    assert sum(calls) == 3 * 27  # each epoch, those that are held out too
    for (name, wanted), found in zip(computed.state_dict().items(), kept.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4, msg=name)


def test_kept_maps_are_computed_once_for_each_copy_and_for_validation(tmp_path, photographs, monkeypatch):
    calls = count_images_of_backbone(monkeypatch)
    fit(tmp_path, photographs, COPIES.model_copy(update={"epochs": 5}))
    held_out = int(holdout_mask(photographs.labels, PHASE.validation_fraction, 0).sum())
    assert sum(calls) == 2 * (27 - held_out) + held_out


@pytest.mark.parametrize("step", [1, 6, 11])
def test_a_training_on_kept_maps_that_is_killed_ends_with_the_same_bytes(tmp_path, photographs, step):
    whole = published(tmp_path / "whole", photographs, COPIES)
    with pytest.raises(Killed):
        published(tmp_path / "killed", photographs, COPIES, on_step=kill_at(step))
    assert published(tmp_path / "killed", photographs, COPIES) == whole


def test_the_history_has_a_row_an_epoch_and_the_schedule_ends_low(undisturbed):
    lines = undisturbed[1].decode().splitlines()
    assert lines[0] == "epoch,steps,train_loss,local_loss,train_accuracy,validation_loss,validation_top1,learning_rate"
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "4"], ["2", "8"]]
    assert float(lines[-1].split(",")[-1]) < 0.05 * PHASE.learning_rate


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_training_killed_at_any_step_ends_with_the_same_bytes(tmp_path, photographs, undisturbed, step):
    with pytest.raises(Killed):
        fit(tmp_path, photographs, on_step=kill_at(step))
    assert published(tmp_path, photographs, workers=1) == undisturbed


SCRIPT = """
import sys
from pathlib import Path
import test_training as t
photographs = t.write_photographs(Path(sys.argv[1]), 27)
say = lambda done, steps, loss, rate: print(done, flush=True)
t.fit(Path(sys.argv[2]), photographs, on_step=say)
"""


def test_a_sigkilled_training_ends_with_the_same_bytes(tmp_path, photographs, undisturbed):
    paths = os.pathsep.join(["tests", "."])
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "photographs"), str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert state_file(tmp_path / "run").exists()
    assert published(tmp_path / "run", photographs) == undisturbed


def test_asked_to_stop_it_saves_this_very_step(tmp_path, photographs, undisturbed):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, photographs, stop=True)
    steps = []
    assert published(tmp_path, photographs, on_step=lambda done, *_: steps.append(done)) == undisturbed
    assert steps[0] == 2


def test_a_finished_training_called_again_does_no_step(tmp_path, photographs, undisturbed):
    published(tmp_path, photographs)
    assert published(tmp_path, photographs, on_step=kill_at(8)) == undisturbed


def test_the_state_of_another_training_is_refused(tmp_path, photographs):
    with pytest.raises(Killed):
        fit(tmp_path, photographs, on_step=kill_at(4))
    with pytest.raises(PipelineError, match="another training"):
        train(setup_of(seed=SEED + 1), photographs, TrainingTask(tmp_path))


def test_it_learns_the_tints_of_the_landmarks(tmp_path, photographs):
    phase = PHASE.model_copy(update={"epochs": 4, "validation_fraction": 0.0, "augment": "none"})
    network = fit(tmp_path, photographs, phase)
    assert network.landmark_ids.tolist() == sorted(LANDMARKS)
    rows = read_history(tmp_path)
    assert float(rows[-1][2]) < float(rows[0][2]) and float(rows[-1][4]) > 0.8
    assert rows[-1][5:7] == ["", ""]  # nothing was held out


def test_zero_epochs_pass_the_network_on(tmp_path, photographs):
    phase = PHASE.model_copy(update={"epochs": 0})
    start = build_landmark_network(build_embedding(MODEL, 9), phase, np.array([3, 8]), 9, local=False)
    network = fit(tmp_path, photographs, phase, start=start)
    for name, value in start.embedding.state_dict().items():
        assert torch.equal(value, network.embedding.state_dict()[name]), name
    assert len(network.head.weight) == 3
    assert read_history(tmp_path) == []


def changed_parts(phase, photographs, folder):
    """Which tensors a training changes, by name, and the network that it started from."""
    start = build_landmark_network(build_embedding(MODEL, 9), phase, np.array(sorted(LANDMARKS)), 9)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    network = fit(folder, photographs, phase, start=start)
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in before.items())
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_backbone_stays_as_it_is_with_its_statistics(tmp_path, photographs):
    phase = PHASE.model_copy(update={"epochs": 1, "backbone_lr_scale": 0.0})
    changed = changed_parts(phase, photographs, tmp_path)
    assert not any(name.startswith("embedding.backbone.") for name in changed)
    assert {"head.weight", "embedding.projection.weight", "embedding.pool.power"} <= changed


def test_frozen_batchnorm_keeps_its_statistics_and_weights_while_the_rest_learns(tmp_path, photographs):
    phase = PHASE.model_copy(update={"epochs": 1, "freeze_batchnorm": True})
    changed = {name for name in changed_parts(phase, photographs, tmp_path) if name.startswith("embedding.backbone.")}
    assert changed and not any(".bn" in name for name in changed)


def test_the_local_branch_learns_and_leaves_what_the_global_branch_learns_as_it_is(tmp_path, photographs):
    with_branch = fit(tmp_path / "with", photographs)
    without = fit(tmp_path / "without", photographs, model=GLOBAL)
    assert with_branch.local is not None and without.local is None
    for name, value in without.state_dict().items():
        assert torch.equal(value, with_branch.state_dict()[name]), name
    losses = [float(row[3]) for row in read_history(tmp_path / "with")]
    assert losses[-1] < losses[0]


def test_a_phase_starts_from_the_local_branch_of_the_phase_before(tmp_path, photographs):
    start = fit(tmp_path / "base", photographs)
    network = fit(tmp_path / "final", photographs, PHASE.model_copy(update={"epochs": 0}), start=start)
    for name in ("local", "local_head"):
        for key, value in getattr(start, name).state_dict().items():
            assert torch.equal(value, getattr(network, name).state_dict()[key]), (name, key)


def test_a_loss_that_is_not_finite_stops_at_its_step_and_keeps_the_good_state(tmp_path, photographs):
    with pytest.raises(Killed):
        fit(tmp_path, photographs, on_step=kill_at(3))
    good = state_file(tmp_path).read_bytes()

    phase = PHASE.model_copy(update={"scale": 1e38, "learning_rate": 1e30})
    folder = tmp_path / "other"
    with pytest.raises(PipelineError, match=r"at step \d of 8\n  where: .*(photo0|other)"):
        fit(folder, photographs, phase)
    assert state_file(tmp_path).read_bytes() == good


@pytest.mark.parametrize("head", list(HEADS))
def test_with_every_head_the_loss_falls(tmp_path, photographs, head):
    margins = (
        {"margin": 0.2, "min_margin": 0.05} if head in [name for name, traits in HEADS.items() if traits.margin] else {}
    )
    update = {"epochs": 4, "head": head, "scale": 10.0, "validation_fraction": 0.0, "augment": "none", **margins}
    fit(tmp_path, photographs, PHASE.model_copy(update=update), GLOBAL)
    losses = [float(row[2]) for row in read_history(tmp_path)]
    assert losses[-1] < 0.85 * losses[0]


LARGE = [(128, 96), (96, 128)]
STAGED = PHASE.model_copy(
    update={"epochs": 3, "large_epochs": 1, "large_template": LARGE, "head": "adacos", "checkpoint_steps": 3}
)


@pytest.fixture(scope="module")
def staged(photographs, tmp_path_factory):
    return published(tmp_path_factory.mktemp("staged"), photographs, STAGED, GLOBAL)


@pytest.mark.parametrize("step", [6, 11])
def test_with_a_large_epoch_and_a_moving_scale_a_kill_changes_no_byte(tmp_path, photographs, staged, step):
    with pytest.raises(Killed):
        fit(tmp_path, photographs, STAGED, GLOBAL, on_step=kill_at(step))
    assert published(tmp_path, photographs, STAGED, GLOBAL) == staged


def test_a_kill_changes_no_byte_where_epochs_have_other_numbers_of_batches(tmp_path, photographs, monkeypatch):
    def halve(ratios, sizes, batch_size, seed, epoch, copies=0):
        return plan_training_epoch(ratios, sizes, batch_size // (2 if len(sizes) == len(LARGE) else 1), seed, epoch)

    monkeypatch.setattr("pipeline.network.batch_plan.plan_training_epoch", halve)
    rates = {}

    def note_rate(done, steps, loss, rate):
        rates[done] = rate

    expected = published(tmp_path / "undisturbed", photographs, STAGED, GLOBAL, on_step=note_rate)
    assert [line.split(",")[1] for line in expected[1].decode().splitlines()[1:]] == ["4", "8", "16"]
    assert rates == {done: learning_rate(STAGED, done - 1, 16) for done in range(1, 17)}
    with pytest.raises(Killed):
        fit(tmp_path / "killed", photographs, STAGED, GLOBAL, on_step=kill_at(13))
    assert published(tmp_path / "killed", photographs, STAGED, GLOBAL) == expected


def test_large_epochs_are_larger_and_leave_batchnorm_as_it_was(tmp_path, photographs, monkeypatch):
    seen, norms = {}, {}
    step = Trainer._step

    def watched(trainer, parts, agreed):
        at = trainer._steps_done()
        backbone = trainer.network.embedding.backbone
        before = {name: value.clone() for name, value in backbone.state_dict().items() if ".bn" in name}
        result = step(trainer, parts, agreed)
        norms[at] = any(not torch.equal(backbone.state_dict()[name], value) for name, value in before.items())
        seen[at] = tuple(parts[0].images.shape[:1:-1])
        return result

    monkeypatch.setattr(Trainer, "_step", watched)
    fit(tmp_path, photographs, STAGED, GLOBAL)
    assert {seen[at] for at in range(8)} <= set(PHASE.template)
    assert {seen[at] for at in range(8, 12)} <= set(LARGE)
    assert [norms[at] for at in range(12)] == [True] * 8 + [False] * 4


def test_a_training_stopped_early_is_the_first_part_of_the_whole_schedule(tmp_path, photographs, undisturbed):
    phase = PHASE.model_copy(update={"stop_after": 1})
    steps = []

    def note_step(done, total, loss, rate):
        steps.append((done, total))

    weights, history = published(tmp_path, photographs, phase, on_step=note_step)
    assert steps == [(done, 4) for done in range(1, 5)]
    assert history.splitlines() == undisturbed[1].splitlines()[:2] and weights != undisturbed[0]


def test_too_few_photographs_are_refused(tmp_path, photographs):
    one = TrainingSet(photographs.paths[:1], photographs.aspect_ratios[:1], photographs.labels[:1])
    with pytest.raises(PipelineError, match="at least two"):
        fit(tmp_path, one)


def test_one_landmark_and_a_short_last_batch_train(tmp_path, photographs):
    few = TrainingSet(photographs.paths[:7], photographs.aspect_ratios[:7], np.full(7, 42))
    phase = PHASE.model_copy(update={"epochs": 1, "head": "cosface"})
    assert fit(tmp_path, few, phase).landmark_ids.tolist() == [42]


def test_a_photograph_gone_bad_stops_training_with_its_name(tmp_path):
    photographs = write_photographs(tmp_path / "photographs", 9)
    photographs.paths[4].write_bytes(b"")
    with pytest.raises(PipelineError, match=r"photo004\.jpg") as caught:
        fit(tmp_path / "run", photographs)
    assert caught.value.exit_code == 3


def test_landmark_ids_of_any_value_become_classes_in_ascending_order():
    ids, classes = map_classes(np.array([500, 7, 203_093, 7, 500]))
    assert ids.tolist() == [7, 500, 203_093] and classes.tolist() == [1, 0, 2, 0, 1]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_validation_never_takes_the_last_photograph_of_a_landmark(fraction):
    labels = np.random.default_rng(0).zipf(1.5, 300)
    for seed in range(5):
        held_out = holdout_mask(labels, fraction, seed)
        assert set(labels[~held_out]) == set(labels)
        assert held_out.sum() <= round(300 * fraction)
        assert (held_out == holdout_mask(labels, fraction, seed)).all()
    assert holdout_mask(np.arange(10), 0.5, 0).sum() == 0
    assert holdout_mask(np.zeros(10), 0.3, 0).sum() == 3
    assert holdout_mask(np.zeros(2), 0.5, 0).sum() == 0
    assert len(holdout_mask(np.zeros(0), 0.5, 0)) == 0


def test_the_schedule_is_half_a_cosine():
    phase = PhaseSettings(learning_rate=1.0, min_learning_rate=0.1)
    rates = [learning_rate(phase, step, 100) for step in range(100)]
    assert rates[0] == 1.0 and rates[50] == pytest.approx(0.55)
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0.1
