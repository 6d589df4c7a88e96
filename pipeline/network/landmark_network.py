"""What training makes: an embedding network, the head that it learns by, and the landmarks that its classes are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import ModelSettings, PhaseSettings
from pipeline.network.backbone import build_backbone
from pipeline.network.cosine_softmax import CosineSoftmax
from pipeline.network.embedding import EmbeddingNetwork


class LandmarkNetwork(nn.Module):
    """An embedding network with its head. landmark_ids: (C,) int64, ascending: class c shows landmark_ids[c]."""

    def __init__(self, embedding: EmbeddingNetwork, head: CosineSoftmax, landmark_ids: np.ndarray):
        super().__init__()
        if len(head.weight) != len(landmark_ids):
            raise ValueError(f"a head of {len(head.weight)} classes for {len(landmark_ids)} landmarks")
        self.embedding, self.head = embedding, head
        self.landmark_ids = np.asarray(landmark_ids, dtype=np.int64)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels  ->  (B, dims) descriptors of the embedding network, not normalised."""
        return self.embedding(images)


def build_embedding(model: ModelSettings, seed: int) -> EmbeddingNetwork:
    """A new embedding network as the settings say, its random parts drawn from the seed."""
    with seeded(seed, "embedding"):
        backbone = build_backbone(model.backbone, model.weights)
        return EmbeddingNetwork(backbone, model.dims, model.pooling, model.gem_power)


def build_landmark_network(
    embedding: EmbeddingNetwork,
    phase: PhaseSettings,
    landmark_ids: np.ndarray,
    seed: int,
    start: LandmarkNetwork | None = None,
) -> LandmarkNetwork:
    """The embedding network with a new head for these landmarks.

    start: a trained network, whose directions of the landmarks that it knows go into the new head; cleaning drops
    landmarks between two phases, and what stays need not be learnt again. Other directions are drawn from the seed.
    """
    with seeded(seed, "head"):
        head = CosineSoftmax(embedding.dims, len(landmark_ids), phase.head, phase.margin, phase.scale)
    if start is not None:
        _, new, old = np.intersect1d(landmark_ids, start.landmark_ids, assume_unique=True, return_indices=True)
        with torch.no_grad():
            head.weight[torch.from_numpy(new)] = start.head.weight[torch.from_numpy(old)]
    return LandmarkNetwork(embedding, head, landmark_ids)


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed of its own for each (seed, purpose): what one part draws has no influence on another."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int, *purpose: object) -> Iterator[None]:
    """Torch's global CPU generator starts from (seed, purpose) inside, and goes on outside as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *purpose))
        yield
