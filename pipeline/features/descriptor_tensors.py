"""The storage formats of local descriptors as tensors on a device: half a vector's bytes travel there, or a sixteenth.

The same numbers as `local_store` gives for arrays: float16 is exact in float32; the squares of int8 are whole numbers,
whose sum float32 holds exactly in any order; signs come from the same constants.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

EPS = 1e-12  # norms are not below it


def decode_tensor(stored: Tensor) -> Tensor:
    """Stored descriptors (…, D) float16 or int8, (…, D / 8) uint8, or float32 as they are  ->  (…, D) float32."""
    if stored.dtype == torch.int8:
        vectors = stored.float()
        # In float64, since not every library rounds the root of a float32 correctly.
        norms = vectors.square().sum(-1, keepdim=True).double().sqrt_().float()
        return vectors * (1 / norms.where(norms > 0, 1.0))
    if stored.dtype == torch.uint8:
        size = float(np.float32(1 / np.sqrt(8 * stored.shape[-1])))
        bits = (stored[..., None] >> _shifts(stored)) & 1
        return torch.where(bits.flatten(-2) > 0, size, -size)
    return stored.float()


def encode_tensor(descriptors: Tensor, storage: str) -> Tensor:
    """Descriptors (…, D) float32 in a storage format, as `encode_descriptors` stores them; "float32" as unit vectors.

    float16 may differ by its last bit, since norms are summed in another order.
    """
    if storage == "bits":
        bits = (descriptors >= 0).to(torch.uint8).unflatten(-1, (-1, 8))
        return (bits << _shifts(bits)).sum(-1, dtype=torch.uint8)
    if storage == "int8":
        greatest = descriptors.abs().amax(-1, keepdim=True)
        return (127 * (descriptors / greatest.where(greatest > 0, 1.0))).round().to(torch.int8)
    normalised = descriptors / descriptors.norm(dim=-1, keepdim=True).clamp(min=EPS)
    return normalised.half() if storage == "float16" else normalised


def _shifts(bits: Tensor) -> Tensor:
    """Of the eight bits of a byte, the greatest first."""
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
