"""The network that is trained: an embedding network with its head and, optionally, DELG's local branch with its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.arrays import Integers, Labels
from pipeline.network.backbone import build_backbone
from pipeline.network.backbones.body import Maps
from pipeline.network.cosine_softmax import dynamic_margins
from pipeline.network.delg import LocalBranch, LocalMaps, local_loss, pool_attended
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.heads import Head, build_head
from pipeline.network.untrained_branch import UntrainedBranch
from pipeline.seeds import seeded
from pipeline.settings import ModelSettings, PhaseSettings


class Losses(NamedTuple):
    """What one batch is trained by: scalars on the device of the network.

    head: the mean loss of the head, with the margin. local: that of the local branch, 0 if there is none.
    correct: int64, the images whose greatest score is that of their landmark.
    """

    head: Tensor
    local: Tensor
    correct: Tensor


class LandmarkNetwork(nn.Module):
    """An embedding network with its head, and a local branch with its own head, or None.

    landmark_ids: (C,) int64, ascending; class c is the landmark landmark_ids[c].
    """

    def __init__(
        self,
        embedding: EmbeddingNetwork,
        head: Head,
        landmark_ids: Labels,
        local: LocalBranch | UntrainedBranch | None = None,
    ):
        super().__init__()
        if head.classes != len(landmark_ids):
            raise ValueError(f"a head of {head.classes} classes for {len(landmark_ids)} landmarks")
        self.embedding, self.head, self.local = embedding, head, local
        self.local_head = nn.Linear(local.channels, len(landmark_ids)) if isinstance(local, LocalBranch) else None
        self.landmark_ids = np.asarray(landmark_ids, dtype=np.int64)

    def forward(self, images: Tensor | Maps, targets: Tensor) -> Losses:
        """The losses of a batch: all that training computes, in one call, as DistributedDataParallel wraps it.

        images: (B, 3, H, W) pixels, or the maps that the backbone made of them. targets: (B,) int64, their classes.
        Losses are in float32, also inside autocast.
        """
        maps = images if isinstance(images, dict) else self.embedding.backbone(images)
        descriptors = self.embedding.embed(maps["deep"])
        local_maps = self.local(maps["shallow"]) if self.local is not None else None
        with torch.autocast(targets.device.type, enabled=False):
            scores = self.head.scores(descriptors)
            loss = F.cross_entropy(self.head.logits(scores, targets), targets)
            local = torch.zeros_like(loss)
            if local_maps is not None:
                local = local_loss(local_maps, self.classify_attended(local_maps), targets)
            return Losses(loss, local, (scores.argmax(1) == targets).sum())

    def classify_attended(self, maps: LocalMaps) -> Tensor:
        """(B, C) logits of the attention-pooled local features, by a plain softmax layer of their own."""
        assert self.local_head is not None, "this network has no local branch"
        with torch.autocast(maps.codes.device.type, enabled=False):
            return self.local_head(pool_attended(maps))

    @torch.no_grad()
    def warm_start_from(self, other: LandmarkNetwork) -> None:
        """Copy the local branch of another network, and the weights of both heads for the landmarks that both know."""
        _, new, old = np.intersect1d(self.landmark_ids, other.landmark_ids, assume_unique=True, return_indices=True)
        classes, other_classes = torch.from_numpy(new), torch.from_numpy(old)
        self.head.warm_start_from(other.head, classes, other_classes)
        if self.local is None or other.local is None or self.local_head is None or other.local_head is None:
            return
        self.local.load_state_dict(other.local.state_dict())
        self.local_head.weight[classes] = other.local_head.weight[other_classes]
        self.local_head.bias[classes] = other.local_head.bias[other_classes]


def build_embedding(model: ModelSettings, seed: int) -> EmbeddingNetwork:
    """A new embedding network by the settings, its random weights drawn from the seed."""
    with seeded(seed, "embedding"):
        backbone = build_backbone(model.backbone, model.weights, model.class_token)
        return EmbeddingNetwork(backbone, model.dims, model.pooling, model.gem_power)


def build_untrained_network(model: ModelSettings, seed: int) -> LandmarkNetwork:
    """The backbone with its weights as they are: no projection, a head without landmarks, cells as local features."""
    with seeded(seed, "embedding"):  # decides nothing unless the weights are "none"
        backbone = build_backbone(model.backbone, model.weights, model.class_token)
    embedding = EmbeddingNetwork(backbone, 0, model.pooling, model.gem_power)
    with seeded(seed, "local"):
        branch = UntrainedBranch(backbone.channels["shallow"]) if model.local else None
    return LandmarkNetwork(embedding, build_head("softmax", embedding.dims, 0), np.zeros(0, np.int64), branch)


def build_landmark_network(
    embedding: EmbeddingNetwork,
    phase: PhaseSettings,
    landmark_ids: Labels,
    seed: int,
    local: bool = True,
    counts: Integers | None = None,
) -> LandmarkNetwork:
    """The embedding network with new heads for these landmarks and, if `local`, a new local branch, drawn by the seed.

    counts: (C,) the number of training images of each landmark, needed for the margins when the phase has a min_margin.
    """
    margin = _choose_margin(phase, counts)
    with seeded(seed, "head"):
        head = build_head(phase.head, embedding.dims, len(landmark_ids), margin, phase.scale, phase.sub_centres)
    with seeded(seed, "local"):
        branch = (
            LocalBranch(embedding.backbone.channels["shallow"], embedding.backbone.signed["shallow"]) if local else None
        )
        return LandmarkNetwork(embedding, head, landmark_ids, branch)


def _choose_margin(phase: PhaseSettings, counts: Integers | None) -> float | Tensor:
    """The margin of the phase, or (C,) one margin per landmark."""
    if phase.min_margin is None:
        return phase.margin
    if counts is None:
        raise ValueError("margins per landmark need the number of photographs of each")
    return dynamic_margins(torch.from_numpy(counts), phase.min_margin, phase.margin)
