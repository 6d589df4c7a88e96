"""What the copies of a network on several ranks compute together: sums and rows of the whole batch, and BatchNorm.

Without other ranks in a process group (see data_parallel.py) every function here is the identity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


def has_other_ranks() -> bool:
    """Whether this process trains together with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Sum(Function):
    """The sum over ranks. Its gradient is the sum of theirs, since each of their losses depends on it."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of the values, of one shape, of all ranks; gradients flow back to each."""
    return _Sum.apply(values) if has_other_ranks() else values


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """(n, D) of every rank, n may differ  ->  all of them, in the order of the ranks, without gradients."""
    if not has_other_ranks():
        return rows
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, count)
    longest = int(torch.cat(counts).max())
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    gathered = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[: int(own)] for part, own in zip(gathered, counts, strict=True)])


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm over the images of all ranks, so that training does not depend on how a batch is cut.

    Sums are accumulated in float64. torch's own SyncBatchNorm does the same, but only on a GPU.
    """

    @classmethod
    def replacing(cls, layer: _BatchNorm) -> GlobalBatchNorm:
        """A layer with the parameters and buffers of another, and with what follows the normalisation there."""
        new = cls(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            setattr(new, name, value)
        for name, child in layer.named_children():  # activation and dropout of timm's layers
            new.add_module(name, child)
        return new.train(layer.training)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, ...)  ->  the same shape, normalised by the batch of all ranks, or in evaluation by the past ones."""
        normal = self._normalise(values) if self.training else super().forward(values)
        for child in self.children():
            normal = child(normal)
        return normal

    def _normalise(self, values: Tensor) -> Tensor:
        wide, others = values.float(), [0, *range(2, values.dim())]
        sums = [part.sum(others, dtype=torch.float64) for part in (wide, wide * wide)]
        counts = torch.full_like(sums[0], values.numel() / values.shape[1])
        total, squares, count = sum_over_ranks(torch.stack([*sums, counts]))
        mean = total / count
        variance = (squares / count - mean * mean).clamp(min=0.0)
        self._remember(mean, variance * count / (count - 1).clamp(min=1))
        shape = [1, -1, *[1] * (values.dim() - 2)]
        scale = self.weight / (variance + self.eps).sqrt()
        shift = self.bias - mean * scale
        return (wide * scale.float().view(shape) + shift.float().view(shape)).to(values.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        for average, value in ((self.running_mean, mean), (self.running_var, variance)):
            assert average is not None
            average.lerp_(value.to(average), self.momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""


def share_batchnorm(module: nn.Module) -> None:
    """Make every BatchNorm layer below a module normalise by the images of all ranks. State names stay as they are."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            has_fused = type(child) in (nn.BatchNorm1d, nn.BatchNorm2d) and child.weight.is_cuda
            replace = nn.SyncBatchNorm.convert_sync_batchnorm if has_fused else GlobalBatchNorm.replacing
            setattr(module, name, replace(child))
        else:
            share_batchnorm(child)
