"""Evaluation copies of convolutional networks with every BatchNorm folded into the convolution before it.

In evaluation a BatchNorm is one factor and one offset per channel, which the convolution's own weights can hold. The
outputs are the same up to rounding; on a CPU a forward pass is faster (docs/performance.md), because part of it went
into reading and writing maps for BatchNorm, and into converting weights for autocast anew for every image.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.hardware import resolve_precision

Network = TypeVar("Network", bound=nn.Module)
PROBE_SIDE_PX = 64  # a few cells of the deepest map
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)  # that can overwrite their input


@dataclass
class _Calls:
    """Which module made each tensor of a forward pass, and what every module was given.

    kept: the tensors, so that no later one gets the identity of one that was freed.
    """

    makers: dict[int, nn.Module] = field(default_factory=dict)
    inputs: dict[nn.Module, list[nn.Module | None]] = field(default_factory=dict)
    readers: dict[nn.Module, int] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)

    def record(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        """Note one call of a module without children."""
        source = self.makers.get(id(given[0])) if given else None
        self.inputs.setdefault(module, []).append(source)
        if source is not None:
            self.readers[source] = self.readers.get(source, 0) + 1
        if isinstance(made, Tensor):
            self.makers[id(made)] = module
        self.kept += [given, made]


def fold_for_evaluation(network: Network, device: torch.device, precision: str = "auto") -> Network:
    """The network as `fold_batchnorms` makes it, on the device, for evaluation inside `mixed_precision` there.

    network: (B, 3, H, W) pixels -> anything.
    """
    copied = copy.deepcopy(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    probe = torch.zeros(1, 3, PROBE_SIDE_PX, PROBE_SIDE_PX, device=device)
    half = resolve_precision(device.type, precision) == "bfloat16"
    return fold_batchnorms(copied, probe, torch.bfloat16 if half else torch.float32)


@torch.no_grad()
def fold_batchnorms(network: Network, probe: Tensor, dtype: torch.dtype = torch.float32) -> Network:
    """The network itself, changed to evaluation only: its BatchNorms are folded into the convolutions before them.

    probe: a small input, for which the network runs once to see which convolution feeds which BatchNorm. A BatchNorm
    that follows something else stays. dtype: of the weights of all convolutions; below float32, run the network inside
    autocast of that type, which then has nothing left to convert.
    """
    calls, folded = _watch(network.eval(), probe), set[nn.Module | None]()
    for norm, sources in calls.inputs.items():
        source = sources[0]
        if not isinstance(norm, nn.BatchNorm2d) or len(sources) != 1 or not isinstance(source, nn.Conv2d):
            continue
        if len(calls.inputs[source]) != 1 or calls.readers[source] != 1:  # shared, or read by others too
            continue
        _fold(source, norm)
        _replace(network, norm, _rest_of(norm))
        folded.add(norm)
    for activation, sources in calls.inputs.items():
        if isinstance(activation, ACTIVATIONS) and folded.issuperset(sources):
            activation.inplace = True  # what it overwrites is the output of a convolution
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(dtype)
    return network.requires_grad_(False)


def _watch(network: nn.Module, probe: Tensor) -> _Calls:
    calls = _Calls()
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) or not list(module.children())
    ]
    handles = [layer.register_forward_hook(calls.record) for layer in layers]
    try:
        network(probe)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _rest_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What stays of a BatchNorm: nothing, or the activation that some libraries put into the same module."""
    return copy.deepcopy(getattr(norm, "act", None)) or nn.Identity()


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
