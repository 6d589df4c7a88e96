"""The optimiser: parameter groups, the learning-rate schedule, gradient clipping and frozen BatchNorm layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.network.parameter_groups import freeze_first_blocks, group_by_block
from pipeline.settings import PhaseSettings

MAX_LOCAL_NORM = 10.0


def learning_rate(phase: PhaseSettings, step: int, steps: int) -> float:
    """The learning rate at 0 <= step < steps: half a cosine from learning_rate down to min_learning_rate."""
    lowest = min(phase.min_learning_rate, phase.learning_rate)
    return lowest + (phase.learning_rate - lowest) * (1.0 + math.cos(math.pi * step / steps)) / 2.0


def make_optimiser(network: LandmarkNetwork, phase: PhaseSettings) -> torch.optim.SGD:
    """SGD: pooling, projection and heads at the full rate, the backbone at backbone_lr_scale of it.

    The backbone is one group, or one per block where each has a rate of its own.
    """
    backbone = network.embedding.backbone
    backbone.requires_grad_(phase.backbone_lr_scale > 0.0)
    freeze_first_blocks(backbone, phase.trained_blocks)
    if phase.freeze_batchnorm:
        for layer in batchnorm_layers(backbone):
            layer.requires_grad_(False)
    slow = [value for value in backbone.parameters() if value.requires_grad]
    fast = [value for name, value in network.named_parameters() if not name.startswith("embedding.backbone.")]
    groups: list[dict[str, Any]] = [{"params": fast, "lr_scale": 1.0}]
    if slow and phase.layer_decay < 1.0:
        groups += group_by_block(backbone, phase.backbone_lr_scale, phase.layer_decay)
    elif slow:
        groups.append({"params": slow, "lr_scale": phase.backbone_lr_scale})
    return torch.optim.SGD(groups, lr=phase.learning_rate, momentum=phase.momentum, weight_decay=phase.weight_decay)


def clip_local_gradients(network: LandmarkNetwork) -> None:
    """Clip the gradients of the local branch to a norm of 10, as the released training of DELG does.

    The squared error of an untrained decoder is far greater than all other losses. The global gradients are unchanged,
    so that the same descriptors are learnt with and without the branch.
    """
    if network.local is not None and network.local_head is not None:
        torch.nn.utils.clip_grad_norm_([*network.local.parameters(), *network.local_head.parameters()], MAX_LOCAL_NORM)


def batchnorm_layers(module: nn.Module) -> list[nn.Module]:
    """All BatchNorm layers of a backbone, whether or not they see the images of other ranks."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
