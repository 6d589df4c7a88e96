"""BatchNorm folded into the convolution before it: in networks for evaluation, and in training where it is frozen.

In evaluation a BatchNorm is one factor and one offset per channel, which the convolution's own weights can hold. The
outputs are the same up to rounding. On a CPU a forward pass is faster (docs/performance.md), because part of it went
into reading and writing maps for BatchNorm, and into converting weights for autocast anew for every image.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
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
    for source, norm in _find_pairs(calls):
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


@contextlib.contextmanager
def frozen_batchnorms_folded(network: nn.Module, probe: Tensor) -> Iterator[None]:
    """Inside, each convolution applies the BatchNorm after it whenever that one is in evaluation mode.

    probe: as for `fold_batchnorms`. Gradients reach the convolution's own weights, and the parameters of the BatchNorm
    where they are trained; names and values of all parameters stay. A backward pass saves even more than a forward one.
    """
    modes = {module: module.training for module in network.modules()}
    with torch.no_grad():
        found = _find_pairs(_watch(network.eval(), probe))
        pairs = [(conv, norm) for conv, norm in found if norm.affine and norm.track_running_stats]
    for module, mode in modes.items():
        module.training = mode
    for convolution, norm in pairs:
        convolution.__dict__["forward"], norm.__dict__["forward"] = _Folding(convolution, norm), _Rest(norm)
    try:
        yield
    finally:
        for pair in pairs:
            for module in pair:
                del module.__dict__["forward"]


class _Folding:
    """The forward pass of a convolution together with that of the BatchNorm after it, where this is in evaluation."""

    def __init__(self, convolution: nn.Conv2d, norm: _BatchNorm):
        self._convolution, self._norm = convolution, norm
        self._folded = copy.copy(convolution)
        self._folded._parameters = {}  # weight and bias are set for every call, as plain tensors

    def __call__(self, maps: Tensor) -> Tensor:
        convolution, norm, folded = self._convolution, self._norm, self._folded
        if norm.training:
            return type(convolution).forward(convolution, maps)
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        before = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
        folded.__dict__["weight"] = convolution.weight * factor.view(-1, 1, 1, 1)
        folded.__dict__["bias"] = norm.bias - before * factor
        return type(convolution).forward(folded, maps)


class _Rest:
    """The forward pass of a BatchNorm that the convolution before it applies where it is in evaluation."""

    def __init__(self, norm: _BatchNorm):
        self._norm = norm

    def __call__(self, maps: Tensor) -> Tensor:
        if self._norm.training:
            return type(self._norm).forward(self._norm, maps)
        for child in self._norm.children():  # activation and dropout that some libraries put into the same module
            maps = child(maps)
        return maps


def _find_pairs(calls: _Calls) -> list[tuple[nn.Conv2d, _BatchNorm]]:
    """Each convolution whose output only one BatchNorm reads, with this one, where both are called once."""
    pairs = []
    for norm, sources in calls.inputs.items():
        source = sources[0]
        if not isinstance(norm, _BatchNorm) or len(sources) != 1 or not isinstance(source, nn.Conv2d):
            continue
        if len(calls.inputs[source]) == 1 and calls.readers[source] == 1:
            pairs.append((source, norm))
    return pairs


def _watch(network: nn.Module, probe: Tensor) -> _Calls:
    calls = _Calls()
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d | _BatchNorm) or not list(module.children())
    ]
    handles = [layer.register_forward_hook(calls.record) for layer in layers]
    try:
        network(probe)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _fold(convolution: nn.Conv2d, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _rest_of(norm: _BatchNorm) -> nn.Module:
    """What stays of a BatchNorm: nothing, or the activation that some libraries put into the same module."""
    return copy.deepcopy(getattr(norm, "act", None)) or nn.Identity()


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
