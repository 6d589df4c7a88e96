"""Training of one phase by gradient descent on the loss of the head and of the local branch; it can resume at any step.

As in Yokoo et al. 2020: SGD with momentum, a cosine schedule per iteration, weight decay on all parameters (also on
biases and BatchNorm, as in the published code), batches of one aspect ratio. All randomness comes from (seed, purpose,
step or image): on a CPU a training that was killed and resumed gives bit-identical weights.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.artifacts import atomic_file
from pipeline.device import mixed_precision
from pipeline.errors import PipelineError
from pipeline.hardware import resolve_training_precision
from pipeline.images.augment import Augmenter
from pipeline.images.batches import LoadedBatch, PlannedBatch, load_batches
from pipeline.images.rejection import Rejections
from pipeline.network.batch_plan import BatchPlan
from pipeline.network.checkpoint import load_training_state, save_network, save_training_state
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.frozen_maps import FrozenMaps
from pipeline.network.landmark_network import LandmarkNetwork, Losses, build_embedding, build_landmark_network
from pipeline.network.optimiser import batchnorm_layers, clip_local_gradients, learning_rate, make_optimiser
from pipeline.network.training_set import TrainingSet, map_classes
from pipeline.seeds import derive_seed, seeded
from pipeline.settings import ModelSettings, PhaseSettings
from pipeline.task_context import TaskContext

SMALLEST_BATCH = 2  # images: BatchNorm cannot be trained on one
STATE, HISTORY = "state.pt", "history.csv"
OnStep = Callable[[int, int, float, float], None]  # step, steps, loss, learning rate
COLUMNS = [
    "epoch", "steps", "train_loss", "local_loss", "train_accuracy", "validation_loss", "validation_top1",
    "learning_rate",
]  # fmt: skip


@dataclass(frozen=True)
class TrainingSetup:
    """What is trained and how: the model, one of its two phases, the seed of the run, and the device."""

    model: ModelSettings
    phase: PhaseSettings
    seed: int
    device: torch.device


@dataclass
class Progress:
    """How far a training is; together with the tensors it is all that a checkpoint holds."""

    epoch: int = 0
    step: int = 0  # within the epoch
    loss_sum: float = 0.0  # over the images of the epoch so far
    local_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)


def train(
    setup: TrainingSetup, images: TrainingSet, task: TaskContext, start: LandmarkNetwork | None = None
) -> LandmarkNetwork:
    """The trained network, on the CPU, in evaluation mode.

    start: the network of the phase before. Its embedding and local branch are trained further, and its heads' weights
    are reused for the landmarks that both phases know; it is not changed itself. Without it the embedding starts from
    the weights of the model.
    task.scratch gets history.csv, and state.pt, from which a call with the same arguments resumes after a kill; once
    the network is saved, state.pt can be deleted. When the task should stop, the state is saved and KeyboardInterrupt
    raised.
    Batches are trained without images that cannot be read, which task.folder gets rejected.csv for.
    Raises PipelineError: fewer than two images, a loss or weights that are not finite, the state of another training,
    more unreadable images than the split tolerates (of images that are of no split, one).
    """
    if len(images.paths) < 2:
        raise PipelineError(
            f"{len(images.paths)} photographs to train on", task.scratch,
            "training needs at least two: see stage 01 or 03",
        )  # fmt: skip
    landmark_ids, classes = map_classes(images.labels)
    embedding = build_embedding(setup.model, setup.seed) if start is None else copy.deepcopy(start.embedding)
    network = build_landmark_network(
        embedding, setup.phase, landmark_ids, setup.seed, setup.model.local, np.bincount(classes)
    )
    if start is not None:
        network.warm_start_from(start)
    rejections = Rejections(images.split, task.folder) if images.split is not None else None
    with task.training_progress() as on_step:
        Trainer(network, setup, images, task, rejections).run(on_step)
    if rejections is not None:
        rejections.write(task)
    return network.cpu().eval()


def train_and_save(
    task: TaskContext, setup: TrainingSetup, images: TrainingSet, start: LandmarkNetwork | None = None
) -> None:
    """Train as `train` does, and write weights.safetensors, network.json and history.csv to the task's folder."""
    network = train(setup, images, task, start)
    save_network(task.folder, network)
    (task.scratch / HISTORY).replace(task.folder / HISTORY)


class Trainer:
    """One phase of training and its state on disk."""

    def __init__(
        self,
        network: LandmarkNetwork,
        setup: TrainingSetup,
        images: TrainingSet,
        task: TaskContext,
        rejections: Rejections | None = None,
    ):
        self.phase, self.seed, self.device = setup.phase, setup.seed, setup.device
        self.images, self.task, self.rejections = images, task, rejections
        self.on_bad = rejections.add if rejections is not None else None
        self.identity = _identity(network, setup, images)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = self.phase.backbone_lr_scale == 0.0
        self.precision = resolve_training_precision(self.device.type, self.phase.precision)
        self.backbone: nn.Module = self.network.embedding.backbone
        if self.frozen:  # then it only ever evaluates
            self.backbone = fold_for_evaluation(self.backbone, self.device, self.phase.precision)
        self.optimiser = make_optimiser(self.network, self.phase)
        self.classes = torch.from_numpy(map_classes(images.labels)[1])
        self.plan = BatchPlan(images, self.phase, self.seed)
        keeps_maps = self.frozen and self.phase.augment_copies
        self.frozen_maps = FrozenMaps(self._run_backbone, self._load, self.plan) if keeps_maps else None
        self.progress = Progress()

    def run(self, on_step: OnStep) -> None:
        """Train all remaining epochs. With no epochs the network does not change."""
        self._resume()
        self._write_history()
        planned = self.plan.remaining_batches(self.progress.epoch, self.progress.step)
        batches = self._read(planned)
        while self.progress.epoch < self.phase.epochs_run:
            left = self.plan.epoch_steps[self.progress.epoch] - self.progress.step
            for batch in itertools.islice(batches, left):
                loss, rate = self._step(batch)
                if self._steps_done() % self.phase.checkpoint_steps == 0:
                    self._save()
                on_step(self._steps_done(), self.plan.steps, loss, rate)
                if self.task.should_stop():
                    self._save()
                    raise KeyboardInterrupt
            self._finish_epoch()

    def _read(self, planned: Iterable[PlannedBatch]) -> Iterator[LoadedBatch]:
        """The planned batches, without their pixels where the maps of a frozen backbone are kept."""
        return self._load(planned) if self.frozen_maps is None else self.frozen_maps.batches(planned)

    def _load(self, planned: Iterable[PlannedBatch]) -> Iterator[LoadedBatch]:
        """The planned batches with their pixels; when the user asks to stop, the state is saved."""
        augmenter = Augmenter(self.phase.augment, derive_seed(self.seed, "augment"))
        for batch in load_batches(self.images.paths, planned, augmenter, self.task.workers, on_bad=self.on_bad):
            yield batch
            if self.task.should_stop():
                self._save()
                raise KeyboardInterrupt

    def _step(self, batch: LoadedBatch) -> tuple[float, float]:
        """One optimiser step: its loss and learning rate. Raises PipelineError when the GPU memory does not suffice."""
        try:
            return self._optimise(batch)
        except torch.OutOfMemoryError as error:
            raise PipelineError(
                f"the GPU has not enough memory for batches of {self.phase.batch_size}",
                f"step {self._steps_done()} of {self.plan.steps}",
                "lower batch_size (and learning_rate with it), or take a smaller template",
            ) from error

    def _optimise(self, batch: LoadedBatch) -> tuple[float, float]:
        rate = learning_rate(self.phase, self._steps_done(), self.plan.schedule_steps)
        if batch.bad and len(batch.rows) < SMALLEST_BATCH:  # next to nothing of it can be read: the step is left out
            self.progress.step += 1
            return 0.0, rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self._set_modes()
        targets = self.classes[batch.rows].to(self.device)
        with seeded(self.seed, "step", self._steps_done()):  # for stochastic depth
            losses = self._compute_losses(batch, targets)
        value, local_value = torch.stack([losses.head, losses.local]).tolist()  # synchronises: the bad step stops
        if not math.isfinite(value + local_value):
            raise self._not_finite(f"the loss is {value}, of the local branch {local_value}", batch)
        self.optimiser.zero_grad(set_to_none=True)
        (losses.head + losses.local).backward()
        clip_local_gradients(self.network)
        self.optimiser.step()
        self.progress.step += 1
        self.progress.loss_sum += value * len(targets)
        self.progress.local_sum += local_value * len(targets)
        self.progress.correct += int(losses.correct)
        self.progress.seen += len(targets)
        return value, rate

    def _compute_losses(self, batch: LoadedBatch, targets: Tensor) -> Losses:
        copy = self.progress.epoch % max(self.phase.augment_copies, 1)
        inputs = self._find_maps(batch, copy) if self.frozen else batch.images.to(self.device, non_blocking=True)
        with mixed_precision(self.device, self.precision):
            return self.network(inputs, targets)

    def _find_maps(self, batch: LoadedBatch, copy: int | None = None) -> dict[str, Tensor]:
        """The maps of the batch for what follows the backbone, kept or computed. copy: None = not augmented."""
        kept = self.frozen_maps
        maps = self._run_backbone(batch) if kept is None else kept.take(copy, batch.rows.tolist())
        return {name: values.float() for name, values in maps.items()} if self.precision == "float32" else maps

    @torch.no_grad()
    def _run_backbone(self, batch: LoadedBatch) -> dict[str, Tensor]:
        """The backbone's maps of the batch, without gradients."""
        images = batch.images.to(self.device, non_blocking=True)
        with mixed_precision(self.device, self.phase.precision if self.frozen else self.precision):
            return self.backbone(images)

    def _set_modes(self) -> None:
        """Training mode for all but what is frozen."""
        self.network.train()
        if self.frozen:
            self.network.embedding.backbone.eval()
        elif self.phase.freeze_batchnorm or self.phase.is_large(self.progress.epoch):
            for layer in batchnorm_layers(self.network.embedding.backbone):
                layer.eval().requires_grad_(False)  # the optimiser skips parameters without a gradient

    def _finish_epoch(self) -> None:
        """Validate, add a row to the history, and save."""
        done = self.progress
        if not done.seen and self.plan.epoch_steps[done.epoch]:
            what = f"not one photograph of epoch {done.epoch + 1} could be read"
            raise PipelineError(what, self.task.scratch, "restore the files", exit_code=3)
        loss, top1 = self._validate()
        means = [value / done.seen for value in (done.loss_sum, done.local_sum, done.correct)]
        rate = self.optimiser.param_groups[0]["lr"]
        row = (done.epoch + 1, self._steps_done(), *means, loss, top1, rate)
        history = [*done.history, dict(zip(COLUMNS, row, strict=True))]
        self.progress = Progress(epoch=done.epoch + 1, history=history)
        self._save()

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, float | None]:
        """Loss without margin and top-1 accuracy over the held-out images; None, None if there are none."""
        if not len(self.plan.validation_rows):
            return None, None
        self.network.eval()
        loss, correct, count = 0.0, 0, 0
        for batch in self._read(self.plan.validation_batches(self.progress.epoch)):
            if not len(batch.rows):
                continue
            targets = self.classes[batch.rows].to(self.device)
            with mixed_precision(self.device, self.precision):
                logits = self.network.head(self.network.embedding.embed(self._find_maps(batch)["deep"]))
            loss += F.cross_entropy(logits, targets, reduction="sum").item()
            correct += int((logits.argmax(1) == targets).sum())
            count += len(targets)
        return (loss / count, correct / count) if count else (None, None)

    def _steps_done(self) -> int:
        return self.plan.steps_before(self.progress.epoch) + self.progress.step

    def _save(self) -> None:
        """Save state and history. Weights that are not finite are refused, so that the last good state remains."""
        for name, value in self.network.state_dict().items():
            if not value.isfinite().all():
                raise self._not_finite(f"{name} is not finite", None)
        state = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
            "rejected": dict(self.rejections.reasons) if self.rejections is not None else {},
        }
        save_training_state(self.task.scratch / STATE, state)
        self._write_history()

    def _write_history(self) -> None:
        """The finished epochs as CSV; it holds no times, so that equal trainings write equal bytes."""
        history = pd.DataFrame(self.progress.history, columns=COLUMNS)
        with atomic_file(self.task.scratch / HISTORY) as part:
            history.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")

    def _resume(self) -> None:
        """Continue from the saved state, if there is one."""
        path = self.task.scratch / STATE
        if not path.exists():
            return
        state = load_training_state(path)
        if state["identity"] != self.identity:
            raise PipelineError(
                "this is the state of another training: its settings, photographs or starting weights differ", path,
                "delete the file to train from the start",
            )  # fmt: skip
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        if self.rejections is not None:
            self.rejections.add_unreadable(state["rejected"])

    def _not_finite(self, what: str, batch: LoadedBatch | None) -> PipelineError:
        names = [Path(self.images.paths[row]).stem for row in batch.rows.tolist()] if batch else []
        return PipelineError(
            f"{what} at step {self._steps_done()} of {self.plan.steps}",
            f"the batch of {', '.join(names)}" if names else self.task.scratch,
            "lower learning_rate, or set precision = 'float32'; the last good state is kept",
        )


def _identity(network: LandmarkNetwork, setup: TrainingSetup, images: TrainingSet) -> str:
    """A digest of everything that the result depends on, by which the state of another training is recognised."""
    digest = hashlib.sha256(f"{setup.seed}\n{setup.phase.model_dump_json()}\n".encode())
    digest.update("\n".join(Path(path).name for path in images.paths).encode())
    digest.update(np.asarray(images.aspect_ratios, np.float64).tobytes())
    digest.update(np.asarray(images.labels, np.int64).tobytes())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
