"""What a small image tells of a network: the channels and signs of its maps, and where their cells are centred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from pipeline.network.backbones.body import Maps

SHRINKING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU)
SIGNED_SHARE = 0.2  # of the squares of a map in its negative values; of a linear layer's they are half


class Probe(NamedTuple):
    """What was found. channels, signed: by name of the map. centre_px: of the shallow map's cell 0, counted from 0.

    A shallow map is signed when it has negative values, a deep one when they are as strong as the positive ones: those
    that are left by an activation, such as SiLU, are not.
    """

    channels: dict[str, int]
    signed: dict[str, bool]
    centre_px: int | float


class _Strided(NamedTuple):
    """A layer that shrinks its input. side: of its input, in cells. start: the padding before the first of them."""

    side: int
    kernel: int
    stride: int
    start: int


def probe(network: nn.Module, forward: Callable[[], Maps], side_px: int, stride: int) -> Probe:
    """Run the network once, by `forward`, on a square image of side_px. stride: of its shallow map."""
    found: list[_Strided] = []
    activated: list[Any] = []

    def record(layer: Any, given: tuple[Any, ...], made: Any) -> None:
        if isinstance(layer, SHRINKING):
            found.append(_measure(layer, given[0].shape[-1]))
        else:
            activated.append(made)

    handles = [layer.register_forward_hook(record) for layer in network.modules() if _is_of_interest(layer)]
    try:
        maps = forward()
    finally:
        for handle in handles:
            handle.remove()
    deep = maps["deep"]
    share = deep.clamp(max=0.0).square().sum() / deep.square().sum().clamp(min=1e-12)
    signed = bool(share > SIGNED_SHARE) and not any(made is deep for made in activated)
    return Probe(
        {name: values.shape[1] for name, values in maps.items()},
        {"shallow": bool((maps["shallow"] < 0.0).any()), "deep": signed},
        _find_centre(found, side_px, stride),
    )


def _is_of_interest(layer: nn.Module) -> bool:
    return isinstance(layer, (*SHRINKING, *ACTIVATIONS)) or type(layer).__module__.startswith("timm.layers.activations")


def _find_centre(layers: list[_Strided], side_px: int, stride: int) -> int | float:
    """The centre of the receptive field of cell 0.

    Each layer that shrinks its input moves the centre by (kernel - 1) / 2 - padding of its cells; where branches run in
    parallel, the one with the larger kernel counts. Layers that keep the size are taken to be symmetric. Where these
    layers do not make up the stride (some networks shrink by rearranging cells), it is the middle of the cell's pixels.
    """
    shrinking = sorted((layer for layer in layers if layer.stride > 1), key=lambda layer: layer.kernel)
    centre, reached = 0.0, 1
    for layer in sorted({layer.side: layer for layer in shrinking}.values(), reverse=True):
        if reached * layer.side == side_px and reached * layer.stride <= stride:
            centre += reached * ((layer.kernel - 1) / 2 - layer.start)
            reached *= layer.stride
    centre = centre if reached == stride else (stride - 1) / 2
    return int(centre) if centre.is_integer() else centre


def _measure(layer: Any, side: int) -> _Strided:
    kernel = (_last(layer.kernel_size) - 1) * _last(getattr(layer, "dilation", 1)) + 1
    stride, start = _last(layer.stride), _last(layer.padding)
    if type(layer).__name__.endswith("Same"):  # timm's, padded as TensorFlow does: less at the start
        start = max((-(-side // stride) - 1) * stride + kernel - side, 0) // 2
    return _Strided(side, kernel, stride, start)


def _last(value: Any) -> int:
    """The horizontal one of a layer's two values."""
    return int(value[-1] if isinstance(value, tuple) else value)
