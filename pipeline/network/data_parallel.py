"""Data-parallel training: every rank has a copy of the network and takes its slice of each global batch.

The global batches, and so the steps, the schedule and the state on disk, are the same for every number of ranks. The
losses are weighted so that the averaged gradient is that of the mean over the global batch; BatchNorm and AdaCos see
all of it. So the result differs from that of one process only by the order of sums.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.distributed import Ranks
from pipeline.images.batches import PlannedBatch
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.network.backbones.body import Maps
from pipeline.network.collectives import share_batchnorm
from pipeline.network.frozen_backbone import ComputedBatch


class Agreement(NamedTuple):
    """What all ranks know of a step. images: how many are trained on, of each of its parts.

    has_bad: some could not be read. has_empty: a rank has nothing of a part. should_stop: a rank was asked to stop.
    counted: whether the images of this rank count for the means; not those that every rank has, but the first's.
    """

    images: list[int]
    has_bad: bool
    has_empty: bool
    should_stop: bool
    counted: bool


class Replicas:
    """The ranks of a training. With one of them every method is trivial."""

    def __init__(self, ranks: Ranks, device: torch.device):
        """Opens the process group of the run on its first training: NCCL between GPUs, gloo for all else."""
        self.ranks, self._device = ranks, device
        self._wrapped: nn.Module | None = None
        self._trained: list[bool] = []
        if ranks.count > 1 and not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            store = distributed.PrefixStore("training", ranks.store)  # type: ignore[arg-type]
            distributed.init_process_group(backend, store=store, rank=ranks.number, world_size=ranks.count)

    def slice(self, planned: PlannedBatch) -> PlannedBatch:
        """This rank's part of a batch; of a batch with fewer images than ranks, all of it."""
        rows = planned.rows
        return planned if len(rows) < self.ranks.count else planned._replace(rows=self.ranks.slice(rows))

    def slice_evenly(self, planned: PlannedBatch) -> PlannedBatch:
        """This rank's part of a batch that is only evaluated: each image is some rank's, and of one only."""
        return planned._replace(rows=self.ranks.slice(planned.rows))

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as it is called in training: DistributedDataParallel for the parameters that are trained now."""
        if self.ranks.count == 1:
            return network
        trained = [parameter.requires_grad for parameter in network.parameters()]
        if self._wrapped is None or trained != self._trained:
            devices = [self._device] if self._device.type == "cuda" else None
            self._wrapped = DistributedDataParallel(
                network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
            )
            self._trained = trained
        return self._wrapped

    @contextlib.contextmanager
    def summing_later(self, network: nn.Module, later: bool) -> Iterator[None]:
        """If `later`, gradients are only added up here; ranks average the sum at the last part of a step."""
        with network.no_sync() if later and isinstance(network, DistributedDataParallel) else contextlib.nullcontext():
            yield

    def share_batchnorm(self, network: nn.Module) -> None:
        """Let BatchNorm see the images of all ranks."""
        if self.ranks.count > 1:
            share_batchnorm(network)

    def agree(
        self, planned: Sequence[PlannedBatch], parts: Sequence[LoadedBatch | ComputedBatch], should_stop: bool = False
    ) -> Agreement:
        """What the parts of a step hold on all ranks together; of the planned ones every rank has loaded its slice."""
        images = [len(part.rows) for part in parts]
        flags = [any(part.bad for part in parts), not all(images), should_stop]
        *agreed, has_bad, has_empty, stop = (int(value) for value in self.sum([*images, *flags]))
        is_shared = all(len(part.rows) < self.ranks.count for part in planned)
        counted = self.ranks.is_first or not is_shared
        return Agreement(agreed, has_bad > 0, has_empty > 0, stop > 0, counted)

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks, in float64. No GPU is waited for."""
        if self.ranks.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, in their order."""
        if self.ranks.count == 1:
            return [value]
        values: list[Any] = [None] * self.ranks.count
        distributed.all_gather_object(values, value)
        return values

    def join_maps(self, found: dict[int, Maps]) -> dict[int, Maps]:
        """The maps by row that all ranks have computed, on the device of this one."""
        if self.ranks.count == 1:
            return found
        own = {row: {name: values.cpu() for name, values in maps.items()} for row, maps in found.items()}
        joined = {row: maps for part in self.gather(own) for row, maps in part.items()}
        return {row: {name: values.to(self._device) for name, values in maps.items()} for row, maps in joined.items()}


def weigh(loss: Tensor, own: int, of_all: int, ranks: int) -> Tensor:
    """The mean loss of `own` images, weighted so that its average over the ranks is the mean over `of_all` images."""
    return loss if own == of_all else loss * (own * ranks / of_all)
