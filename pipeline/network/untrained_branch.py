"""Local features of a backbone that is not trained further: the cells of its shallow map as they are."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.network.delg import DIMS, LocalMaps


class UntrainedBranch(nn.Module):
    """In the place of DELG's branch: a cell's code is the cell itself, its attention the norm of the cell.

    Codes have 128 dimensions, by a random projection with orthonormal columns or rows: cosines are kept exactly for
    maps of at most 128 channels, and nearly for wider ones. The longest cells are a good choice of keypoints without
    attention (docs/network.md).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.encoder = nn.Conv2d(channels, DIMS, 1, bias=False)
        nn.init.orthogonal_(self.encoder.weight)

    def forward(self, shallow: Tensor) -> LocalMaps:
        """(B, C16, h, w) shallow map  ->  its codes and attention; the map stands in place of a reconstruction."""
        features = shallow.detach()
        attention = features.float().norm(dim=1, keepdim=True)
        return LocalMaps(features, self.encoder(features), features, attention)
