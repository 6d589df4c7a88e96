"""Feature maps of a frozen backbone: computed once per augmented copy of an image, and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from pipeline.images.batches import PlannedBatch
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.network.batch_plan import BatchPlan
from pipeline.network.data_parallel import Maps, Replicas

Load = Callable[[Iterable[PlannedBatch]], Iterator[LoadedBatch]]
NOT_AUGMENTED = None  # the copy of an image that validation sees


class FrozenMaps:
    """Maps by copy and row. Memory: all of them, for EfficientNet-Lite0 at 224 px about 170 KB per image and copy.

    The maps of a copy are computed from the same batches whenever they are needed: a training that resumes computes
    them again, and continues with the same bits. Of several ranks each computes a slice of every batch, and keeps all.
    """

    def __init__(self, forward: Callable[[LoadedBatch], Maps], load: Load, plan: BatchPlan, replicas: Replicas):
        """forward: a loaded batch -> maps by name, (B, ...) each. load: planned batches with their pixels."""
        self._forward, self._load, self._plan, self._replicas = forward, load, plan, replicas
        self._copies: dict[int | None, dict[int, Maps]] = {}

    def batches(self, planned: Iterable[PlannedBatch]) -> Iterator[LoadedBatch]:
        """The planned batches without pixels; the maps of a copy are computed before its first batch."""
        for batch in planned:
            if batch.epoch not in self._copies:
                copy = batch.epoch
                plan = self._plan.validation_batches(0) if copy is None else self._plan.train_batches(copy)
                self._copies[copy] = self._compute(plan)
            yield self._without_pixels(batch)

    def take(self, copy: int | None, rows: list[int]) -> Maps:
        """The maps of rows of one size, stacked in their order."""
        found = [self._copies[copy][row] for row in rows]
        return {name: torch.stack([maps[name] for maps in found]) for name in found[0]}

    def _compute(self, planned: list[PlannedBatch]) -> dict[int, Maps]:
        found: dict[int, Maps] = {}
        for batch in self._load(map(self._replicas.slice, planned)):
            maps = self._forward(batch) if len(batch.rows) else {}
            for at, row in enumerate(batch.rows.tolist()):
                found[row] = {name: values[at].clone() for name, values in maps.items()}
        return self._replicas.join_maps(found)

    def _without_pixels(self, planned: PlannedBatch) -> LoadedBatch:
        """The rows that have maps; an image that could not be read has none."""
        rows, known = planned.rows.tolist(), self._copies[planned.epoch]
        present = [row for row in rows if row in known]
        missing = tuple((row, "it could not be read before") for row in rows if row not in known)
        return LoadedBatch(torch.empty(0), torch.tensor(present, dtype=torch.int64), missing)
