"""Processor time per image of backbones: evaluation as trained and folded, and a training step in both precisions.

    python -m benchmarks.backbones
    python -m benchmarks.backbones --names efficientnet_lite0 resnet50 --side 320
    python -m benchmarks.backbones --families              one small network of each family, with the memory it takes

Random weights: they cost what trained ones cost. Each column is the best of some rounds, all columns in turn, so that a
busy machine slows all of them. The columns explain two choices: networks are folded before they evaluate
(network/folding.py), and on a CPU what is trained is trained in float32 (hardware.resolve_training_precision).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.record import add_json_argument, measure_apart, publish
from benchmarks.rivals import best_seconds, use_one_thread
from pipeline.device import mixed_precision
from pipeline.memory import forget_peak, read_peak
from pipeline.network.backbone import Backbone
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.optimiser import batchnorm_layers

CPU = torch.device("cpu")
NAMES = ["efficientnet_lite0", "efficientnet_lite2", "mobilenet_v3_large", "resnet18", "resnet50"]
FAMILIES = [
    "resnet18", "resnet101", "timm/legacy_seresnext26_32x4d", "timm/legacy_seresnext101_32x4d", "efficientnet_lite0",
    "timm/convnext_atto", "timm/convnext_tiny", "timm/vit_small_patch14_reg4_dinov2", "timm/vit_tiny_patch16_224",
    "timm/vit_base_patch16_224", "timm/vit_xsmall_patch16_clip_224", "timm/vit_small_patch16_dinov3",
]  # fmt: skip
PRECISIONS = ("float32", "bfloat16")
TRAINED_IMAGES = 8  # in a batch of training; evaluation takes one image at a time, as extraction does


def evaluate(network: nn.Module, precision: str, image: Tensor) -> Callable[[], object]:
    """A forward pass of one image."""

    def work() -> object:
        with torch.inference_mode(), mixed_precision(CPU, precision):
            return network(image)

    return work


def train(backbone: Backbone, precision: str, images: Tensor) -> Callable[[], object]:
    """A forward and a backward pass of a batch, BatchNorm frozen."""

    def work() -> object:
        backbone.train()
        for layer in batchnorm_layers(backbone):
            layer.eval()
        with mixed_precision(CPU, precision):
            deep = backbone(images)["deep"]
        return deep.float().mean().backward()

    return work


def measure(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor time of each, in milliseconds."""
    seconds = best_seconds(works, rounds + 1)  # the first one warms up
    return {name: 1000 * value for name, value in seconds.items()}


def compare(name: str, side: int, rounds: int) -> dict[str, float]:
    """Milliseconds per image: evaluation as trained and folded in both precisions, training in both."""
    backbone = Backbone(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(TRAINED_IMAGES, 3, side, side).mul(255).contiguous(memory_format=torch.channels_last)
    works: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        plain, folded = backbone, fold_for_evaluation(backbone, CPU, precision)
        works[f"plain {precision}"] = evaluate(plain.eval(), precision, images[:1])
        works[f"folded {precision}"] = evaluate(folded, precision, images[:1])
    evaluated = measure(works, rounds)
    steps = {f"train {precision}": train(backbone, precision, images) for precision in PRECISIONS}
    trained = measure(steps, max(rounds // 5, 1))
    return evaluated | {name: value / TRAINED_IMAGES for name, value in trained.items()}


def weigh(name: str, side: int, rounds: int) -> dict[str, Any]:
    """Parameters in millions; milliseconds per image of evaluation and of training; MB at the peak of either.

    MB beyond what the process held before, the weights included: of one image evaluated, of a step with a batch.
    """
    use_one_thread()
    held = read_peak()
    backbone = Backbone(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(TRAINED_IMAGES, 3, side, side).mul(255).contiguous(memory_format=torch.channels_last)
    evaluated = measure({"": evaluate(fold_for_evaluation(backbone, CPU, "float32"), "float32", images[:1])}, rounds)
    peak = read_peak()
    forget_peak()
    trained = measure({"": train(backbone, "float32", images)}, max(rounds // 5, 1))
    parameters = sum(value.numel() for value in backbone.parameters()) / 1e6
    return {
        "backbone": f"`{name}`", "parameters, M": parameters, "evaluation, ms": evaluated[""],
        "training, ms": trained[""] / TRAINED_IMAGES, "evaluation, MB": (peak - held) / 1e6,
        f"training {TRAINED_IMAGES}, MB": (read_peak() - held) / 1e6,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--names", nargs="+", default=NAMES, help="default: %(default)s")
    parser.add_argument("--side", type=int, default=224, help="of the square images, in pixels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--families", action="store_true", help="one of each family, with memory, in float32")
    add_json_argument(parser)
    given = parser.parse_args()
    use_one_thread()
    names = FAMILIES if given.families and given.names == NAMES else given.names
    if given.families:
        found = [measure_apart(weigh, name, given.side, given.rounds) for name in names]
    else:
        found = [{"backbone, ms per image": name, **compare(name, given.side, given.rounds)} for name in names]
    publish({f"{given.side} px": found}, given.json)


if __name__ == "__main__":
    main()
