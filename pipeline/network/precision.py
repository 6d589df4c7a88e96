"""The precision in which pooling and the softmax accumulate."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor as float32, or unchanged where it is float64."""
    return x if x.dtype == torch.float64 else x.float()
