"""What training makes: an embedding network and, beside it, DELG's local branch; the heads that they learn by; and the
landmarks that the classes are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.network.backbone import build_backbone
from pipeline.network.cosine_softmax import dynamic_margins
from pipeline.network.delg import LocalBranch, LocalMaps, pool_attended
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.heads import Head, build_head
from pipeline.seeds import seeded
from pipeline.settings import ModelSettings, PhaseSettings


class LandmarkNetwork(nn.Module):
    """An embedding network with its head, and a local branch with its own, or None.

    landmark_ids: (C,) int64, ascending: class c shows landmark_ids[c].
    """

    def __init__(
        self,
        embedding: EmbeddingNetwork,
        head: Head,
        landmark_ids: np.ndarray,
        local: LocalBranch | None = None,
    ):
        super().__init__()
        if head.classes != len(landmark_ids):
            raise ValueError(f"a head of {head.classes} classes for {len(landmark_ids)} landmarks")
        self.embedding, self.head, self.local = embedding, head, local
        self.local_head = nn.Linear(local.channels, len(landmark_ids)) if local is not None else None
        self.landmark_ids = np.asarray(landmark_ids, dtype=np.int64)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) pixels  ->  (B, dims) descriptors of the embedding network, not normalised."""
        return self.embedding(images)

    def classify_attended(self, maps: LocalMaps) -> Tensor:
        """(B, C) logits of the attended local features, by a plain softmax layer of their own."""
        assert self.local_head is not None, "this network has no local branch"
        with torch.autocast(maps.codes.device.type, enabled=False):
            return self.local_head(pool_attended(maps))


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
    local: bool = False,
    counts: np.ndarray | None = None,
) -> LandmarkNetwork:
    """The embedding network with new heads for these landmarks; with a local branch, if `local`.

    start: a trained network, whose local branch goes on, as do its heads' weights of the landmarks that both know;
    cleaning drops landmarks between two phases, and what stays need not be learnt again. The rest is drawn by seed.
    counts: (C,) photographs of each landmark, which give its margin when the phase has a min_margin.
    """
    margin = _choose_margin(phase, counts)
    with seeded(seed, "head"):
        head = build_head(phase.head, embedding.dims, len(landmark_ids), margin, phase.scale, phase.sub_centres)
    with seeded(seed, "local"):
        branch = LocalBranch(embedding.backbone.channels["shallow"], embedding.backbone.signed) if local else None
        network = LandmarkNetwork(embedding, head, landmark_ids, branch)
    if start is not None:
        _take_over(network, start)
    return network


def _choose_margin(phase: PhaseSettings, counts: np.ndarray | None) -> float | Tensor:
    if phase.min_margin is None:
        return phase.margin
    if counts is None:
        raise ValueError("margins by landmark need the number of photographs of each")
    return dynamic_margins(torch.from_numpy(counts), phase.min_margin, phase.margin)


@torch.no_grad()
def _take_over(network: LandmarkNetwork, start: LandmarkNetwork) -> None:
    """Copy the local branch of `start`, and what its heads know of the landmarks that both have."""
    _, new, old = np.intersect1d(network.landmark_ids, start.landmark_ids, assume_unique=True, return_indices=True)
    network.head.take_over(torch.from_numpy(new), start.head, torch.from_numpy(old))
    if network.local is None or start.local is None or network.local_head is None or start.local_head is None:
        return
    network.local.load_state_dict(start.local.state_dict())
    network.local_head.weight[torch.from_numpy(new)] = start.local_head.weight[torch.from_numpy(old)]
    network.local_head.bias[torch.from_numpy(new)] = start.local_head.bias[torch.from_numpy(old)]
