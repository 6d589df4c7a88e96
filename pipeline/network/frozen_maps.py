"""Feature maps of a frozen backbone: computed once per augmented copy of an image, and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from pipeline.images.batches import PlannedBatch
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.network.backbones.body import Maps
from pipeline.network.batch_plan import BatchPlan
from pipeline.network.data_parallel import Replicas
from pipeline.network.frozen_backbone import ComputedBatch, FrozenBackbone

Load = Callable[[Iterable[PlannedBatch]], Iterator[LoadedBatch]]


class FrozenMaps:
    """Maps by copy and row. Memory: all of them, for EfficientNet-Lite0 at 224 px about 170 KB per image and copy.

    The maps of a copy are computed from the same batches whenever they are needed: a training that resumes computes
    them again, and continues with the same bits. Of several ranks each computes a slice of every batch, and keeps all.
    """

    def __init__(self, backbone: FrozenBackbone, load: Load, plan: BatchPlan, replicas: Replicas):
        """backbone: open whenever batches are read. load: planned batches with their pixels."""
        self._backbone, self._load, self._plan, self._replicas = backbone, load, plan, replicas
        self._copies: dict[int | None, dict[int, Maps]] = {}  # None: not augmented, as validation sees an image

    def batches(self, planned: Iterable[PlannedBatch]) -> Iterator[ComputedBatch]:
        """The planned batches with their maps; those of a copy are computed before its first batch."""
        for batch in planned:
            copy = batch.epoch
            if copy not in self._copies:
                plan = self._plan.validation_batches(0) if copy is None else self._plan.train_batches(copy)
                self._copies[copy] = self._keep(plan)
            yield self._take(batch)

    def _keep(self, planned: list[PlannedBatch]) -> dict[int, Maps]:
        found: dict[int, Maps] = {}
        for batch in self._backbone.run_ahead(self._load(map(self._replicas.slice, planned))):
            for at, row in enumerate(batch.rows.tolist()):
                found[row] = {name: values[at].clone() for name, values in batch.maps.items()}
        return self._replicas.join_maps(found)

    def _take(self, planned: PlannedBatch) -> ComputedBatch:
        """The rows that have maps; an image that could not be read has none."""
        rows, known = planned.rows.tolist(), self._copies[planned.epoch]
        present = [row for row in rows if row in known]
        missing = tuple((row, "it could not be read before") for row in rows if row not in known)
        names = known[present[0]] if present else ()
        maps = {name: torch.stack([known[row][name] for row in present]) for name in names}
        return ComputedBatch(maps, torch.tensor(present, dtype=torch.int64), missing)
