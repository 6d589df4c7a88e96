"""Training of one phase by gradient descent on the loss of the head and of the local branch; it can resume at any step.

As in Yokoo et al. 2020: SGD with momentum, a cosine schedule per iteration, weight decay on all parameters (also on
biases and BatchNorm, as in the published code), batches of one aspect ratio. All randomness comes from (seed, purpose,
step or image): on a CPU a training that was killed and resumed gives bit-identical weights. Several ranks share every
batch (data_parallel.py).
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.device import mixed_precision
from pipeline.errors import PipelineError
from pipeline.hardware import resolve_training_precision
from pipeline.images.augment import Augmenter
from pipeline.images.batch_loader import load_batches
from pipeline.images.batches import PlannedBatch
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.images.rejection import Rejections
from pipeline.network.backbones.body import Maps
from pipeline.network.batch_plan import SMALLEST_BATCH, BatchPlan
from pipeline.network.checkpoint import save_network
from pipeline.network.data_parallel import Agreement, Replicas, weigh
from pipeline.network.folding import PROBE_SIDE_PX, frozen_batchnorms_folded
from pipeline.network.frozen_backbone import ComputedBatch, FrozenBackbone
from pipeline.network.frozen_maps import FrozenMaps, Load
from pipeline.network.kept_weights import KeptWeights
from pipeline.network.landmark_network import LandmarkNetwork, Losses, build_embedding, build_landmark_network
from pipeline.network.optimiser import batchnorm_layers, clip_local_gradients, learning_rate, make_optimiser
from pipeline.network.parameter_groups import set_frozen_to_evaluation
from pipeline.network.step_readings import Reading, StepReadings
from pipeline.network.training_set import TrainingSet, map_classes
from pipeline.network.training_state import (
    COLUMNS,
    HISTORY,
    Progress,
    TrainingFolder,
    TrainingSetup,
    identify_training,
)
from pipeline.seeds import derive_seed, seeded
from pipeline.task_context import TaskContext

OnStep = Callable[[int, int, float, float], None]  # step, steps, loss, learning rate
Batch = LoadedBatch | ComputedBatch


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
    more unreadable images than the split tolerates (of images that are of no split, one). PartDone on every rank of the
    task but the first, once all are done.
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
    task.ranks.leave_to_first(task.stop_if_asked)
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
        identity = identify_training(network, setup, images)
        self.replicas, self.readings = Replicas(task.ranks, self.device), StepReadings(self.device)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = resolve_training_precision(self.device.type, self.phase.precision)
        self.frozen_backbone: FrozenBackbone | None = None
        if self.phase.backbone_lr_scale == 0.0:
            self.frozen_backbone = FrozenBackbone(self.network.embedding.backbone, self.device, self.phase.precision)
        self.replicas.share_batchnorm(self.network)
        self.compiled = setup.compiled
        if setup.compiled:
            self.network.compile()
        self.optimiser = make_optimiser(self.network, self.phase)
        self.network.embedding.backbone.checkpoint_gradients(self.phase.gradient_checkpointing)
        self.kept = KeptWeights(self.network, self.phase)
        self.folder = TrainingFolder(task.scratch, identity, self.network, self.optimiser, self.kept, rejections)
        self.classes = torch.from_numpy(map_classes(images.labels)[1])
        self.plan = BatchPlan(images, self.phase, self.seed)
        self.frozen_maps: FrozenMaps | None = None
        if self.frozen_backbone is not None and self.phase.augment_copies:
            self.frozen_maps = FrozenMaps(self.frozen_backbone, self._load_or_stop, self.plan, self.replicas)
        self.progress, self.loss = Progress(), 0.0

    def run(self, on_step: OnStep) -> None:
        """Train all remaining epochs. With no epochs the network does not change."""
        self._resume()
        with self.frozen_backbone or self._fold_batchnorms():
            self._run(on_step)
        self.kept.finish()

    def _run(self, on_step: OnStep) -> None:
        steps, ahead = itertools.tee(self.plan.remaining_steps(self.progress.epoch, self.progress.step))
        batches = self._read((self.replicas.slice(part) for parts in ahead for part in parts), self._load)
        while self.progress.epoch < self.phase.epochs_run:
            left = self.plan.epoch_steps[self.progress.epoch] - self.progress.step
            for planned in itertools.islice(steps, left):
                with self._explaining_gpu_memory():
                    parts = list(itertools.islice(batches, len(planned)))
                    agreed = self.replicas.agree(planned, parts, self.task.should_stop())
                    rate = self._step(parts, agreed)
                if self._steps_done() % self.phase.checkpoint_steps == 0:
                    self._save()
                on_step(self._steps_done(), self.plan.steps, self.loss, rate)
                if agreed.should_stop:
                    self._save()
                    raise KeyboardInterrupt
            self._finish_epoch()

    def _fold_batchnorms(self) -> contextlib.AbstractContextManager[None]:
        """Frozen BatchNorms cost no passes over the maps of a backbone that is trained. A compiler does the same."""
        if self.compiled:
            return contextlib.nullcontext()
        probe = torch.zeros(1, 3, PROBE_SIDE_PX, PROBE_SIDE_PX, device=self.device)
        return frozen_batchnorms_folded(self.network.embedding.backbone, probe)

    def _read(self, planned: Iterable[PlannedBatch], load: Load) -> Iterator[Batch]:
        """The planned batches on the device, where the backbone is frozen with its maps, computed now or kept."""
        if self.frozen_maps is not None:
            return self.frozen_maps.batches(planned)
        if self.frozen_backbone is not None:
            return self.frozen_backbone.run_ahead(load(planned))
        return copy_ahead(load(planned), self.device)

    def _load(self, planned: Iterable[PlannedBatch]) -> Iterator[LoadedBatch]:
        """The planned batches with their pixels."""
        augmenter = Augmenter(self.phase.augment, derive_seed(self.seed, "augment"))
        return load_batches(self.images.paths, planned, augmenter, self.task.workers, on_bad=self.on_bad)

    def _load_or_stop(self, planned: Iterable[PlannedBatch]) -> Iterator[LoadedBatch]:
        """The same between two steps; when the user asks to stop, the state is saved."""
        for batch in self._load(planned):
            yield batch
            if self.task.should_stop():
                self._save_alone()
                raise KeyboardInterrupt

    @contextlib.contextmanager
    def _explaining_gpu_memory(self) -> Iterator[None]:
        """Raise PipelineError when the memory of the GPU does not suffice for a step."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise PipelineError(
                f"the GPU has not enough memory for batches of {self.phase.batch_size}",
                f"step {self._steps_done()} of {self.plan.steps}",
                "raise accumulate, which computes a batch in parts, or take a smaller template",
            ) from error

    def _step(self, parts: list[Batch], agreed: Agreement) -> float:
        """One optimiser step: its learning rate."""
        rate = learning_rate(self.phase, self._steps_done(), self.plan.schedule_steps)
        if agreed.has_bad:
            self._gather_rejections()
        if agreed.has_bad and (min(agreed.images) < SMALLEST_BATCH or agreed.has_empty):
            self.progress.step += 1  # next to nothing of it can be read: the step is left out
            return rate
        self._optimise(parts, agreed, rate)
        self.progress.step += 1
        return rate

    def _optimise(self, parts: list[Batch], agreed: Agreement, rate: float) -> None:
        """A step by the gradient of the mean loss over the images of all parts and ranks."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self._set_modes()
        network, computed = self.replicas.wrap(self.network), []
        self.optimiser.zero_grad(set_to_none=True)
        rank = [self.task.ranks.number] if self.task.ranks.number else []
        with seeded(self.seed, "step", self._steps_done(), *rank):  # for stochastic depth
            for part in parts:
                with self.replicas.summing_later(network, part is not parts[-1]):
                    losses = self._compute_losses(network, part)
                    total = weigh(losses.head + losses.local, len(part.rows), sum(agreed.images), self.task.ranks.count)
                    total.backward()
                computed.append((losses, part.rows.tolist()))
        self._count(self.readings.exchange(computed, agreed.counted))
        clip_local_gradients(self.network)
        self.optimiser.step()
        self.kept.update(self._steps_done() + 1)

    def _count(self, readings: list[Reading]) -> None:
        """Add up what was computed. Raises PipelineError for a loss that is not finite: the last good state is kept."""
        for read in readings:
            if not math.isfinite(read.loss + read.local):
                raise self._not_finite(f"the loss is {read.loss}, of the local branch {read.local}", read.rows)
            self.progress.add(read.loss, read.local, read.correct, read.images)
            self.loss = read.loss

    def _compute_losses(self, network: nn.Module, batch: Batch) -> Losses:
        targets = self.classes[batch.rows].to(self.device, non_blocking=True)
        with mixed_precision(self.device, self.precision):
            return network(self._inputs(batch), targets)

    def _inputs(self, batch: Batch) -> Tensor | Maps:
        """Its pixels, or the maps of a frozen backbone in the precision of what is trained on them."""
        if isinstance(batch, LoadedBatch):
            return batch.images
        maps = batch.maps
        return {name: values.float() for name, values in maps.items()} if self.precision == "float32" else maps

    def _set_modes(self) -> None:
        """Training mode for all but what is frozen."""
        self.network.train()
        if self.frozen_backbone is not None:
            self.network.embedding.backbone.eval()
        elif self.phase.freeze_batchnorm or self.phase.is_large(self.progress.epoch):
            for layer in batchnorm_layers(self.network.embedding.backbone):
                layer.eval().requires_grad_(False)  # the optimiser skips parameters without a gradient
        if self.phase.trained_blocks:
            set_frozen_to_evaluation(self.network.embedding.backbone)

    def _finish_epoch(self) -> None:
        """Validate, add a row to the history, and save."""
        self._count(self.readings.finish())
        done = self.progress.of_all(self.replicas)
        self._take_over(done)
        if not done.seen and self.plan.epoch_steps[done.epoch]:
            what = f"not one photograph of epoch {done.epoch + 1} could be read"
            raise PipelineError(what, self.task.scratch, "restore the files", exit_code=3)
        with self.kept.shown():
            loss, top1 = self._validate()
        self.kept.judge(loss, top1)
        self._gather_rejections()
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
        planned = map(self.replicas.slice_evenly, self.plan.validation_batches(self.progress.epoch))
        for batch in self._read(planned, self._load_or_stop):
            if not len(batch.rows):
                continue
            inputs, targets = self._inputs(batch), self.classes[batch.rows].to(self.device)
            with mixed_precision(self.device, self.precision):
                embedding = self.network.embedding
                descriptors = embedding.embed(inputs["deep"]) if isinstance(inputs, dict) else embedding(inputs)
                logits = self.network.head(descriptors)
            loss += F.cross_entropy(logits, targets, reduction="sum").item()
            correct += int((logits.argmax(1) == targets).sum())
            count += len(targets)
        loss, right, of_all = self.replicas.sum([loss, correct, count])
        return (loss / of_all, right / of_all) if of_all else (None, None)

    def _steps_done(self) -> int:
        return self.plan.steps_before(self.progress.epoch) + self.progress.step

    def _gather_rejections(self) -> None:
        """Leave out what other ranks could not read."""
        if self.rejections is not None and self.task.ranks.count > 1:
            for reasons in self.replicas.gather(self.rejections.reasons):
                for position, reason in reasons.items():
                    self.rejections.add(position, reason)

    def _save(self) -> None:
        """Save the state that all ranks have reached. Weights that are not finite are refused."""
        self._count(self.readings.finish())
        self._save_alone(self.progress.of_all(self.replicas))

    def _save_alone(self, progress: Progress | None = None) -> None:
        """Save the state by the first rank, where it does not hear of the others."""
        if self.task.ranks.is_first:
            try:
                self.folder.save(progress or self.progress)
            except FloatingPointError as error:
                raise self._not_finite(str(error), []) from error

    def _resume(self) -> None:
        """Continue from the saved state, if there is one."""
        self._take_over(self.folder.load())
        if self.task.ranks.is_first:
            self.folder.write_history(self.progress)

    def _take_over(self, progress: Progress) -> None:
        """Go on from a progress of all ranks; its sums become part of the first rank's."""
        others = Progress(progress.epoch, progress.step, history=progress.history)
        self.progress = progress if self.task.ranks.is_first else others

    def _not_finite(self, what: str, rows: list[int]) -> PipelineError:
        names = [Path(self.images.paths[row]).stem for row in rows]
        return PipelineError(
            f"{what} at step {self._steps_done()} of {self.plan.steps}",
            f"the batch of {', '.join(names)}" if names else self.task.scratch,
            "lower learning_rate, or set precision = 'float32'; the last good state is kept",
        )
