"""Training of one phase: gradient descent on the cosine softmax and on the local branch, resumable at every step.

The recipe of Yokoo et al. 2020: SGD with momentum, a cosine schedule by iteration, weight decay on all parameters (on
biases and BatchNorm too, as in the published code), batches of one aspect ratio. Everything random comes from (seed,
purpose, step or photograph): a training that was killed and started again ends with the same bytes as one that was
left in peace.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.artifacts import atomic_file
from pipeline.device import mixed_precision
from pipeline.errors import PipelineError
from pipeline.images.augment import Augmenter
from pipeline.images.batches import (
    LoadedBatch,
    PlannedBatch,
    load_batches,
    plan_evaluation,
    plan_training_epoch,
    template_sizes,
)
from pipeline.images.decode import Size
from pipeline.network.checkpoint import load_training_state, save_network, save_training_state
from pipeline.network.delg import local_loss
from pipeline.network.landmark_network import LandmarkNetwork, build_embedding, build_landmark_network
from pipeline.network.optimiser import batchnorm_layers, clip_local_gradients, learning_rate, make_optimiser
from pipeline.network.progress import COLUMNS, Progress, history_csv
from pipeline.network.training_set import TrainingSet, hold_back, map_classes
from pipeline.seeds import derive_seed, seeded
from pipeline.settings import ModelSettings, PhaseSettings
from pipeline.task_context import TaskContext

STATE, HISTORY = "state.pt", "history.csv"
OnStep = Callable[[int, int, float, float], None]  # step, steps, loss, learning rate


def train(
    model: ModelSettings,
    phase: PhaseSettings,
    photographs: TrainingSet,
    folder: Path,
    seed: int,
    start: LandmarkNetwork | None = None,
    device: torch.device | None = None,
    workers: int = 0,
    on_step: OnStep | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LandmarkNetwork:
    """The trained network, on the CPU, in evaluation mode.

    start: the network that this phase goes on from: its embedding, and its head's weights of the landmarks that both
    phases know; it is not changed itself. Without it the embedding starts from the model's weights.
    `folder` gets history.csv, and state.pt, from which a call with the same arguments goes on after a kill; when the
    network is safe elsewhere, state.pt may go.
    on_step(step, steps, loss, learning_rate) is called after each step. should_stop() is asked after each step: when
    it says yes, the state is saved and KeyboardInterrupt raised.
    Raises PipelineError: fewer than two photographs, a loss or weights that are not finite, an unreadable photograph,
    a state of another training.
    """
    if len(photographs.paths) < 2:
        raise PipelineError(
            f"{len(photographs.paths)} photographs to train on",
            folder,
            "training needs two at least: see stage 01 or 03",
        )
    landmark_ids, classes = map_classes(photographs.labels)
    embedding = build_embedding(model, seed) if start is None else copy.deepcopy(start.embedding)
    network = build_landmark_network(embedding, phase, landmark_ids, seed, start, model.local, np.bincount(classes))
    trainer = Trainer(network, phase, photographs, folder, seed, device or torch.device("cpu"), workers)
    trainer.run(on_step or (lambda *_: None), should_stop or (lambda: False))
    return network.cpu().eval()


def train_and_save(
    task: TaskContext,
    model: ModelSettings,
    phase: PhaseSettings,
    photographs: TrainingSet,
    seed: int,
    device: torch.device,
    start: LandmarkNetwork | None = None,
) -> None:
    """Train a phase in a task's folders, as `train` does, and write weights, description and history."""
    with task.training_progress() as on_step:
        network = train(
            model, phase, photographs, task.scratch, seed, start, device, task.workers, on_step, task.should_stop
        )
    save_network(task.folder, network)
    (task.scratch / HISTORY).replace(task.folder / HISTORY)


class Trainer:
    """One phase of training and its state on disk."""

    def __init__(
        self,
        network: LandmarkNetwork,
        phase: PhaseSettings,
        photographs: TrainingSet,
        folder: Path,
        seed: int,
        device: torch.device,
        workers: int,
    ):
        self.phase, self.photographs, self.folder = phase, photographs, folder
        self.seed, self.device, self.workers = seed, device, workers
        self.identity = _identity(network, phase, photographs, seed)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = phase.backbone_lr_scale == 0.0
        self.optimiser = make_optimiser(self.network, phase)
        self.classes = torch.from_numpy(map_classes(photographs.labels)[1])
        held_back = hold_back(photographs.labels, phase.validation_fraction, derive_seed(seed, "validation"))
        self.train_rows, self.validation_rows = np.flatnonzero(~held_back), np.flatnonzero(held_back)
        self.progress = Progress()
        self.steps_in = [len(self._plan_epoch(epoch)) for epoch in range(phase.epochs)]  # of each epoch

    def run(self, on_step: OnStep, should_stop: Callable[[], bool]) -> None:
        """All epochs that are left; none: the network stays as it came."""
        self._resume()
        self._write_history()
        plan = self._plan_the_rest()
        augmenter = Augmenter(self.phase.augment, derive_seed(self.seed, "augment"))
        batches = load_batches(self.photographs.paths, plan, augmenter, self.workers)
        while self.progress.epoch < self.phase.epochs_run:
            for batch in itertools.islice(batches, self.steps_in[self.progress.epoch] - self.progress.step):
                loss, rate = self._step_or_advise(batch)
                if self._steps_done() % self.phase.checkpoint_steps == 0:
                    self._save()
                on_step(self._steps_done(), self._steps(), loss, rate)
                if should_stop():
                    self._save()
                    raise KeyboardInterrupt
            self._finish_epoch()

    def _step_or_advise(self, batch: LoadedBatch) -> tuple[float, float]:
        try:
            return self._step(batch)
        except torch.OutOfMemoryError as error:
            raise PipelineError(
                f"the GPU has not enough memory for batches of {self.phase.batch_size}",
                f"step {self._steps_done()} of {self._steps()}",
                "lower batch_size (and learning_rate with it), or take a smaller template",
            ) from error

    def _step(self, batch: LoadedBatch) -> tuple[float, float]:
        """One step of the optimiser: the loss and the learning rate it was made at."""
        rate = learning_rate(self.phase, self._steps_done(), sum(self.steps_in))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self._set_modes()
        targets = self.classes[batch.rows].to(self.device)
        with seeded(self.seed, "step", self._steps_done()):  # for what networks draw: dropped paths
            maps = self._see(batch)
            descriptors = self._describe(maps)
        scores = self.network.head.scores(descriptors)
        loss = F.cross_entropy(self.network.head.logits(scores, targets), targets)
        local = self._learn_locally(maps, targets)
        value, local_value = torch.stack([loss, local]).tolist()  # waits for the device: to stop at the very step …
        if not math.isfinite(value + local_value):  # … that goes wrong
            raise self._not_finite(f"the loss is {value}, of the local branch {local_value}", batch)
        self.optimiser.zero_grad(set_to_none=True)
        (loss + local).backward()
        clip_local_gradients(self.network)
        self.optimiser.step()
        self.progress.step += 1
        self.progress.loss_sum += value * len(targets)
        self.progress.local_sum += local_value * len(targets)
        self.progress.correct += int((scores.argmax(1) == targets).sum())
        self.progress.seen += len(targets)
        return value, rate

    def _see(self, batch: LoadedBatch) -> dict[str, Tensor]:
        """The backbone's maps of the batch; from a frozen backbone without gradients."""
        images = batch.images.to(self.device, non_blocking=True)
        with (
            mixed_precision(self.device, self.phase.precision),
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
        ):
            return self.network.embedding.backbone(images)

    def _describe(self, maps: dict[str, Tensor]) -> Tensor:
        with mixed_precision(self.device, self.phase.precision):
            return self.network.embedding.embed(maps["deep"])

    def _learn_locally(self, maps: dict[str, Tensor], targets: Tensor) -> Tensor:
        """The loss of the local branch, 0 where there is none."""
        if self.network.local is None:
            return torch.zeros((), device=self.device)
        with mixed_precision(self.device, self.phase.precision):
            seen = self.network.local(maps["shallow"])
        return local_loss(seen, self.network.classify_attended(seen), targets)

    def _set_modes(self) -> None:
        self.network.train()
        if self.frozen:
            self.network.embedding.backbone.eval()
        elif self.phase.freeze_batchnorm or self.phase.is_large(self.progress.epoch):
            for layer in batchnorm_layers(self.network.embedding.backbone):
                layer.eval().requires_grad_(False)  # without a gradient the optimiser leaves them alone

    def _finish_epoch(self) -> None:
        """Validate, add a row to the history, and save."""
        done = self.progress
        loss, top1 = self._validate()
        means = [value / done.seen for value in (done.loss_sum, done.local_sum, done.correct)]
        rate = self.optimiser.param_groups[0]["lr"]
        row = (done.epoch + 1, self._steps_done(), *means, loss, top1, rate)
        history = [*done.history, dict(zip(COLUMNS, row, strict=True))]
        self.progress = Progress(epoch=done.epoch + 1, history=history)
        self._save()

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, float | None]:
        """Loss without margin and top-1 accuracy over the held-back photographs; None, None when there are none."""
        if not len(self.validation_rows):
            return None, None
        self.network.eval()
        ratios, sizes = self.photographs.aspect_ratios[self.validation_rows], self._sizes(self.progress.epoch)
        plan = plan_evaluation(ratios, sizes, self.phase.batch_size)
        plan = [planned._replace(rows=self.validation_rows[planned.rows]) for planned in plan]
        loss, correct = 0.0, 0
        for batch in load_batches(self.photographs.paths, plan, workers=self.workers):
            targets = self.classes[batch.rows].to(self.device)
            logits = self.network.head(self._describe(self._see(batch)))
            loss += F.cross_entropy(logits, targets, reduction="sum").item()
            correct += int((logits.argmax(1) == targets).sum())
        return loss / len(self.validation_rows), correct / len(self.validation_rows)

    def _plan_epoch(self, epoch: int) -> list[PlannedBatch]:
        ratios = np.asarray(self.photographs.aspect_ratios)[self.train_rows]
        seed = derive_seed(self.seed, "order")
        plan = plan_training_epoch(ratios, self._sizes(epoch), self.phase.batch_size, seed, epoch)
        return [planned._replace(rows=self.train_rows[planned.rows]) for planned in plan]

    def _plan_the_rest(self) -> Iterator[PlannedBatch]:
        """The batches of this epoch from the present step on, then those of the following epochs."""
        first, done = self.progress.epoch, self.progress.step
        for epoch in range(first, self.phase.epochs_run):
            yield from self._plan_epoch(epoch)[done if epoch == first else 0 :]

    def _sizes(self, epoch: int) -> list[Size]:
        return template_sizes(self.phase.large_template if self.phase.is_large(epoch) else self.phase.template)

    def _steps(self) -> int:
        """Steps that are run; the schedule is that of all epochs' steps."""
        return sum(self.steps_in[: self.phase.epochs_run])

    def _steps_done(self) -> int:
        return sum(self.steps_in[: self.progress.epoch]) + self.progress.step

    def _save(self) -> None:
        """State and history, unless the weights have gone bad: the last good state is worth more."""
        for name, value in self.network.state_dict().items():
            if not value.isfinite().all():
                raise self._not_finite(f"{name} is not finite", None)
        state = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
        }
        save_training_state(self.folder / STATE, state)
        self._write_history()

    def _write_history(self) -> None:
        with atomic_file(self.folder / HISTORY) as part:
            part.write_text(history_csv(self.progress.history), encoding="utf-8")

    def _resume(self) -> None:
        """Go on from the state in the folder, if there is one."""
        path = self.folder / STATE
        if not path.exists():
            return
        state = load_training_state(path)
        if state["identity"] != self.identity:
            raise PipelineError(
                "a state of another training: its settings, photographs or starting weights differ",
                path,
                "delete the file to train from the start",
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])

    def _not_finite(self, what: str, batch: LoadedBatch | None) -> PipelineError:
        names = [Path(self.photographs.paths[row]).stem for row in batch.rows.tolist()] if batch else []
        return PipelineError(
            f"{what} at step {self._steps_done()} of {self._steps()}",
            f"the batch of {', '.join(names)}" if names else self.folder,
            "lower learning_rate, or set precision = 'float32'; the last good state is kept",
        )


def _identity(network: LandmarkNetwork, phase: PhaseSettings, photographs: TrainingSet, seed: int) -> str:
    """A digest of all that the result depends on: a state with another one belongs to another training."""
    digest = hashlib.sha256(f"{seed}\n{phase.model_dump_json()}\n".encode())
    digest.update("\n".join(Path(path).name for path in photographs.paths).encode())
    digest.update(np.asarray(photographs.aspect_ratios, np.float64).tobytes())
    digest.update(np.asarray(photographs.labels, np.int64).tobytes())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
