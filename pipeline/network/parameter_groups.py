"""The blocks of a backbone from input to output: which of them are trained, and at which learning rates."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from pipeline.network.backbone import Backbone
from pipeline.network.backbones.timm_networks import number_blocks
from pipeline.network.backbones.torchvision_networks import TORCHVISION

BLOCK = re.compile(  # of torchvision's ResNets, RegNets, and EfficientNets or MobileNets; else the layer before them
    r"layer\d+\.\d+|trunk_output\.block\d+\.block\d+-\d+|features\.\d+(?:\.\d+)?(?=\.)|\w+"
)


def list_blocks(backbone: Backbone) -> list[list[nn.Parameter]]:
    """The parameters of each block, from the input on; what only normalises after a block belongs to it."""
    (root,) = backbone.root
    if backbone.name in TORCHVISION:
        names = {name: _match(name) for name, _ in root.named_parameters()}
        order = {block: at for at, block in enumerate(dict.fromkeys(names.values()))}
        numbers = {name: order[block] for name, block in names.items()}
    else:
        numbers = number_blocks(root)
    blocks: dict[int, list[nn.Parameter]] = {}
    for name, parameter in root.named_parameters():
        blocks.setdefault(numbers[name], []).append(parameter)
    joined: list[list[nn.Parameter]] = []
    for _, parameters in sorted(blocks.items()):
        if joined and all(parameter.ndim < 2 for parameter in parameters):
            joined[-1] += parameters
        else:
            joined.append(parameters)
    return joined


def freeze_first_blocks(backbone: Backbone, trained_blocks: int) -> None:
    """Let only the last blocks be trained; 0 = all."""
    for parameters in list_blocks(backbone)[:-trained_blocks] if trained_blocks else []:
        for parameter in parameters:
            parameter.requires_grad_(False)


def group_by_block(backbone: Backbone, scale: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: the last block at `scale`, each one before it at `decay` times the next.

    Layer-wise learning-rate decay (Clark et al. 2020, ELECTRA; Bao et al. 2022, BEiT).
    """
    groups = []
    for depth, parameters in enumerate(reversed(list_blocks(backbone))):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if trained:
            groups.append({"params": trained, "lr_scale": scale * decay**depth})
    return groups


def set_frozen_to_evaluation(backbone: nn.Module) -> None:
    """Evaluation mode for layers without a trained parameter: their BatchNorm statistics stay, nothing is dropped."""
    for layer in backbone.modules():
        parameters = list(layer.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            layer.eval()


def _match(name: str) -> str:
    found = BLOCK.match(name)
    assert found is not None
    return found[0]
