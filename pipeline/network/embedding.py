"""The embedding network: an image becomes one global descriptor (Yokoo et al. 2020, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.network.backbone import Backbone
from pipeline.network.pooling import build_pooling


class EmbeddingNetwork(nn.Module):
    """Backbone -> pooling -> linear -> BatchNorm: descriptors (B, dims) float32, not L2-normalised.

    With dims = 0 the pooled vectors are the descriptors, for a backbone that is not trained further: a projection with
    random weights would only lose some of what they hold. `dims` is then the length of the pooled vectors.
    In training the cosine head normalises them; at extraction the raw vectors of several scales are averaged first.
    Training with a local branch calls `backbone` itself and passes the deep map to `embed`.
    """

    def __init__(self, backbone: Backbone, dims: int = 512, pooling: str = "gem", gem_power: float = 3.0):
        super().__init__()
        self.backbone, self.pooling = backbone, pooling
        self.pool = build_pooling(pooling, gem_power, backbone.signed["deep"])
        pooled = self.pool.count_outputs(backbone.channels["deep"])
        self.dims = dims or pooled
        self.projects = dims > 0
        if self.projects:
            self.projection = nn.Linear(pooled, dims)
            self.norm = nn.BatchNorm1d(dims)
            nn.init.xavier_normal_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB pixels, 0 to 255  ->  (B, dims) float32."""
        return self.embed(self.backbone(images)["deep"])

    def embed(self, deep: Tensor) -> Tensor:
        """(B, C32, h, w) deep map  ->  (B, dims) float32."""
        return self.project(self.pool(deep))

    def project(self, pooled: Tensor) -> Tensor:
        """Pooled vectors  ->  (B, dims) float32. In float32 also inside autocast: the cost is negligible."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self.norm(self.projection(pooled.float())) if self.projects else pooled.float()
