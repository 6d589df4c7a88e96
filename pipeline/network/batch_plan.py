"""The batches of a training phase: which images each step sees at which size, the same after every restart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.images.batches import PlannedBatch, plan_evaluation, plan_training_epoch, template_sizes
from pipeline.images.decode import Size
from pipeline.network.training_set import TrainingSet, holdout_mask
from pipeline.seeds import derive_seed
from pipeline.settings import PhaseSettings

SMALLEST_BATCH = 2  # images: BatchNorm cannot be trained on one


class BatchPlan:
    """The batches of every epoch and of validation.

    train_rows, validation_rows: row numbers of the training set. epoch_steps: the steps of each epoch of the schedule,
    of which `phase.stop_after` may leave the last ones out.
    """

    def __init__(self, images: TrainingSet, phase: PhaseSettings, seed: int):
        self.phase, self._order_seed = phase, derive_seed(seed, "order")
        self._aspect_ratios = np.asarray(images.aspect_ratios)
        held_out = holdout_mask(images.labels, phase.validation_fraction, derive_seed(seed, "validation"))
        self.train_rows, self.validation_rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        self.epoch_steps = [len(self.train_batches(epoch)) for epoch in range(phase.epochs)]

    @property
    def steps(self) -> int:
        """The steps that are run."""
        return self.steps_before(self.phase.epochs_run)

    @property
    def schedule_steps(self) -> int:
        """The steps that the learning-rate schedule spans: those of all epochs."""
        return sum(self.epoch_steps)

    def steps_before(self, epoch: int) -> int:
        """The steps of all epochs before this one."""
        return sum(self.epoch_steps[:epoch])

    def train_batches(self, epoch: int) -> list[PlannedBatch]:
        """The batches of one epoch, in their order."""
        ratios, sizes = self._aspect_ratios[self.train_rows], self._sizes(epoch)
        copies = self.phase.augment_copies
        plan = plan_training_epoch(ratios, sizes, self.phase.batch_size, self._order_seed, epoch, copies)
        return [planned._replace(rows=self.train_rows[planned.rows]) for planned in plan]

    def remaining_steps(self, epoch: int, step: int) -> Iterator[list[PlannedBatch]]:
        """The steps from this one of this epoch on, to the end of the last epoch that is run, each in its parts.

        A step is a batch, in `phase.accumulate` parts whose gradients are added up; a part has two images at least.
        """
        for following in range(epoch, self.phase.epochs_run):
            for planned in self.train_batches(following)[step if following == epoch else 0 :]:
                count = max(1, min(self.phase.accumulate, len(planned.rows) // SMALLEST_BATCH))
                yield [planned._replace(rows=rows) for rows in np.array_split(planned.rows, count)]

    def validation_batches(self, epoch: int) -> list[PlannedBatch]:
        """The batches of the images held out for validation, at the sizes of this epoch."""
        ratios, sizes = self._aspect_ratios[self.validation_rows], self._sizes(epoch)
        plan = plan_evaluation(ratios, sizes, self.phase.batch_size)
        return [planned._replace(rows=self.validation_rows[planned.rows]) for planned in plan]

    def _sizes(self, epoch: int) -> list[Size]:
        return template_sizes(self.phase.large_template if self.phase.is_large(epoch) else self.phase.template)
