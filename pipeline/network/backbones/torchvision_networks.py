"""torchvision's convolutional networks, cut into a shallow and a deep map by their graphs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from pipeline.errors import PipelineError
from pipeline.network.backbones.body import Body

STRIDES = {"shallow": 16, "deep": 32}


@dataclass(frozen=True, slots=True)
class Taps:
    """The names of the graph nodes whose outputs are the last at stride 16 and at stride 32."""

    shallow: str
    deep: str


RESNET = Taps("layer3", "layer4")
REGNET = Taps("trunk_output.block3", "trunk_output.block4")
EFFICIENTNET = Taps("features.5", "features.8")
EFFICIENTNET_V2_S = Taps("features.5", "features.7")
MOBILENET_V3_LARGE = Taps("features.12", "features.16")

TORCHVISION: dict[str, Taps] = {
    "resnet18": RESNET,
    "resnet34": RESNET,
    "resnet50": RESNET,
    "resnet101": RESNET,
    "resnet152": RESNET,
    "resnext50_32x4d": RESNET,
    "resnext101_32x8d": RESNET,
    "resnext101_64x4d": RESNET,
    "wide_resnet50_2": RESNET,
    "wide_resnet101_2": RESNET,
    "regnet_y_400mf": REGNET,
    "regnet_y_3_2gf": REGNET,
    "regnet_y_8gf": REGNET,
    "regnet_y_16gf": REGNET,
    "efficientnet_b0": EFFICIENTNET,
    "efficientnet_b3": EFFICIENTNET,
    "efficientnet_b5": EFFICIENTNET,
    "efficientnet_b7": EFFICIENTNET,
    "efficientnet_v2_s": EFFICIENTNET_V2_S,
    "efficientnet_v2_m": EFFICIENTNET,
    "efficientnet_v2_l": EFFICIENTNET,
    "mobilenet_v3_large": MOBILENET_V3_LARGE,
}


def build_torchvision(name: str) -> Body:
    """The network of this name with random weights; its weights are those of torchvision's files."""
    model, taps = torchvision.models.get_model(name, weights=None), TORCHVISION[name]
    layers = create_feature_extractor(model, {taps.shallow: "shallow", taps.deep: "deep"}, suppress_diff_warning=True)
    preprocess = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    mean, std = ([255.0 * value for value in values] for values in (preprocess.mean, preprocess.std))
    return Body(layers, layers, STRIDES, tuple(mean), tuple(std))


def cut_after_shallow(layers: Any) -> nn.Module:
    """torchvision's traced evaluation graph, reduced to what the shallow map needs; the weights are shared."""
    part = torch.fx.GraphModule(layers, copy.deepcopy(layers.eval_graph))
    (output,) = (node for node in part.graph.nodes if node.op == "output")
    output.args = (output.args[0]["shallow"],)
    part.graph.eliminate_dead_code()
    part.recompile()
    return part.eval()


def download_torchvision(name: str) -> Mapping[str, Tensor]:
    """torchvision's ImageNet weights. Raises PipelineError where they cannot be downloaded."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the ImageNet weights of {name} could not be downloaded: {error}", weights.url,
            f"fetch that address elsewhere and put the file at {file}; or take backbone = 'efficientnet_lite0', "
            "whose weights are installed with the requirements",
        ) from error  # fmt: skip
