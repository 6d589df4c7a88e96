"""DELG's local branch: an autoencoder and an attention on the shallow map (Cao, Araujo, Sim 2020, section 3).

Every cell of the shallow map becomes a local feature: its code describes it, its attention says how much it tells of
the landmark. The branch learns beside the global descriptor, from the same photographs, and is cut off from it: the map
comes in detached, so that neither the backbone nor the global descriptor notices.

    shallow map ─► encoder ─► codes ─► decoder ─► reconstruction ─► attention
                                                      │                 │
                                       mean squared error to the map    └─► Σ attention · map ─► softmax over landmarks
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIMS = 128  # of a local descriptor
ATTENTION_CHANNELS = 512
ATTENTION_WEIGHT, RECONSTRUCTION_WEIGHT = 1.0, 10.0  # beside the global loss: the released training's


class LocalMaps(NamedTuple):
    """What the branch sees at each cell. All (B, ·, h, w) float.

    features: (B, C, h, w), the detached map, not negative; reconstruction: the same shape, from the codes alone.
    codes: (B, 128, h, w), signed, not normalised. attention: (B, 1, h, w), above 0.
    """

    features: Tensor
    codes: Tensor
    reconstruction: Tensor
    attention: Tensor


class LocalBranch(nn.Module):
    """Codes and attention for every cell of a shallow map of `channels` channels.

    The decoder ends in a ReLU, made for maps that end in one. Of a signed map (the MobileNet family's) it could only
    give back half: such a map enters as its positive and its negative part, side by side.
    """

    def __init__(self, channels: int, signed: bool = False):
        super().__init__()
        self.signed = signed
        self.channels = 2 * channels if signed else channels
        self.encoder = nn.Conv2d(self.channels, DIMS, 1)
        self.decoder = nn.Conv2d(DIMS, self.channels, 1)
        self.attention = nn.Sequential(
            nn.Conv2d(self.channels, ATTENTION_CHANNELS, 1),
            nn.BatchNorm2d(ATTENTION_CHANNELS),
            nn.ReLU(),
            nn.Conv2d(ATTENTION_CHANNELS, 1, 1),
            nn.Softplus(),
        )

    def forward(self, shallow: Tensor) -> LocalMaps:
        """(B, C16, h, w) shallow map, from which no gradient goes back."""
        features = shallow.detach()
        if self.signed:
            features = torch.cat([F.relu(features), F.relu(-features)], 1)
        codes = self.encoder(features)
        reconstruction = F.relu(self.decoder(codes))
        return LocalMaps(features, codes, reconstruction, self.attention(reconstruction))


def pool_attended(maps: LocalMaps) -> Tensor:
    """(B, C) float32: the mean over the cells of attention times the cell's features of length 1.

    So in the released training. The paper sums the reconstruction itself; with directions alone, attention cannot be
    had by a large activation, and it picks the better keypoints (docs/network.md).
    """
    return (maps.attention.float() * F.normalize(maps.features.float(), dim=1)).mean((-2, -1))


def local_loss(maps: LocalMaps, logits: Tensor, targets: Tensor) -> Tensor:
    """The branch's share of the loss: attention + 10 × reconstruction.

    logits: (B, L) of the attended features; targets (B,). The first is their cross-entropy, the second the mean squared
    error over cells and channels. Computed in float32.
    """
    reconstruction = F.mse_loss(maps.reconstruction.float(), maps.features.float())
    attention = F.cross_entropy(logits.float(), targets)
    return ATTENTION_WEIGHT * attention + RECONSTRUCTION_WEIGHT * reconstruction
