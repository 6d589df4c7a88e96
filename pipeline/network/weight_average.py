"""The mean of networks that were trained further from one start: one network, better than each of them.

Wortsman et al. 2022, "Model soups", the uniform one. Trainings that start from the same weights and differ in their
random numbers end in one basin of the loss: the mean of their weights lies nearer to its middle than any of them, at
the cost of no second when it describes images.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.network.landmark_network import LandmarkNetwork


def average_networks(networks: Sequence[LandmarkNetwork]) -> LandmarkNetwork:
    """A new network whose weights, and statistics of BatchNorm, are the means of theirs.

    Means are taken in float64, in the order given; whole numbers are the first network's. Raises ValueError for no
    network, and for networks of other landmarks or other weights than the first.
    """
    if not networks:
        raise ValueError("no network has no mean")
    mean = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    for network, state in zip(networks, states, strict=True):
        if not np.array_equal(network.landmark_ids, mean.landmark_ids):
            raise ValueError("the networks know other landmarks")
        if {name: value.shape for name, value in state.items()} != {n: v.shape for n, v in states[0].items()}:
            raise ValueError("the networks have other weights")
    for name, value in mean.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name].double() for state in states]).mean(0))
    return mean
