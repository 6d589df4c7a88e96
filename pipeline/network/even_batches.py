"""Batches of one size for networks on a CPU: faster than single images, with bytes that depend on the image alone.

For small maps the calls cost more than the arithmetic, for large ones the maps of a batch leave the cache: the best
batch depends on the size of the images (docs/performance.md). Batches of other sizes select other kernels, whose sums
differ in the last bits: so all batches of one size of image have the same number of images, and the last one is filled
up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOST_IMAGES = 8  # at once on a CPU
MOST_PIXELS = 1 << 18  # of all of them


def images_at_once(height: int, width: int) -> int:
    """How many images of this size go through a network together on a CPU: a power of two, at most MOST_IMAGES."""
    count = MOST_IMAGES
    while count > 1 and count * height * width > MOST_PIXELS:
        count //= 2
    return count


def run_in_even_batches(network: nn.Module, images: Tensor) -> Tensor:
    """What the network makes of images (B, C, H, W), B > 0: a tensor of B rows.

    On a CPU in batches of `images_at_once`, the last one filled up with copies of its last image: what is made of an
    image does not depend on B nor on the other images, if the network treats the images of a batch alike. On other
    devices all at once.
    """
    if images.device.type != "cpu":
        return network(images)
    count = images_at_once(images.shape[-2], images.shape[-1])
    parts = list(images.split(count))
    if missing := count - len(parts[-1]):
        parts[-1] = torch.cat([parts[-1], parts[-1][-1:].expand(missing, -1, -1, -1)])
    return torch.cat([network(part) for part in parts])[: len(images)]
