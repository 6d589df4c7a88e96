"""The local branch of DELG: an autoencoder and attention on the shallow map (Cao, Araujo, Sim 2020, section 3).

Every cell of the shallow map becomes a local feature: its code is the descriptor, its attention says how informative
the cell is for recognising the landmark. The branch is trained together with the global descriptor, on the same images,
but its input is detached: no gradient of it reaches the backbone or the global branch.

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
ATTENTION_WEIGHT, RECONSTRUCTION_WEIGHT = 1.0, 10.0  # relative to the global loss, as in the released training


class LocalMaps(NamedTuple):
    """The outputs of the branch at each cell. All (B, ·, h, w) float.

    features: (B, C, h, w), the detached map, not negative. reconstruction: the same shape, decoded from the codes.
    codes: (B, 128, h, w), signed, not normalised. attention: (B, 1, h, w), positive.
    """

    features: Tensor
    codes: Tensor
    reconstruction: Tensor
    attention: Tensor


class LocalBranch(nn.Module):
    """Codes and attention for every cell of a shallow map with `channels` channels.

    The decoder ends in a ReLU and so suits maps that end in one. It could not reconstruct the negative values of a
    signed map (MobileNet family): such a map enters as its positive and its negative part, concatenated.
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
        """(B, C16, h, w) shallow map  ->  codes, attention and reconstruction; no gradient flows into the map."""
        features = shallow.detach()
        if self.signed:
            features = torch.cat([F.relu(features), F.relu(-features)], 1)
        codes = self.encoder(features)
        reconstruction = F.relu(self.decoder(codes))
        return LocalMaps(features, codes, reconstruction, self.attention(reconstruction))


def pool_attended(maps: LocalMaps) -> Tensor:
    """(B, C) float32: the mean over the cells of attention times the L2-normalised features.

    This follows the released training; the paper pools the reconstruction. With normalised features a large activation
    cannot replace attention, and the selected keypoints are better (docs/network.md).
    """
    return (maps.attention.float() * F.normalize(maps.features.float(), dim=1)).mean((-2, -1))


def local_loss(maps: LocalMaps, logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of the branch, a scalar: attention + 10 × reconstruction, computed in float32.

    logits: (B, L) of the attention-pooled features; targets (B,). The attention term is their cross-entropy, the
    reconstruction term the mean squared error over cells and channels.
    """
    reconstruction = F.mse_loss(maps.reconstruction.float(), maps.features.float())
    attention = F.cross_entropy(logits.float(), targets)
    return ATTENTION_WEIGHT * attention + RECONSTRUCTION_WEIGHT * reconstruction
