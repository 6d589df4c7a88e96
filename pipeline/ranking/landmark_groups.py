"""The index images of each predicted landmark, by descending confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import NO_LABEL, NONE, Integers, Labels, Rows
from pipeline.ranking.voting import Votes


@dataclass(frozen=True, slots=True, eq=False)
class LandmarkGroups:
    """One long list of index images, grouped by landmark, and where the group of each landmark begins.

    labels: (L,) int64 ascending. offsets: (L + 1,) int64: group g is rows[offsets[g] : offsets[g + 1]].
    rows: (M,) int32, within a group in descending order of confidence, ties by ascending row. Images without a label
    are in no group. positions: (N,) int32, the position of an index image in its own group; NONE = in no group.
    votes: the labels and confidences of the N index images.
    """

    labels: Labels
    offsets: Integers
    rows: Rows
    positions: Rows
    votes: Votes

    def find(self, labels: Labels) -> tuple[Integers, Integers]:
        """The first element in `rows` of the group of each label, and the size of the group, (Q,) each; 0, 0 = none."""
        known = np.isin(labels, self.labels)  # never NO_LABEL: images without a label are in no group
        begins, sizes = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)
        group = np.searchsorted(self.labels, labels[known])
        begins[known] = self.offsets[group]
        sizes[known] = self.offsets[group + 1] - self.offsets[group]
        return begins, sizes


def group_by_landmark(votes: Votes) -> LandmarkGroups:
    """The groups of N index images by their votes. O(N log N), once for all queries."""
    order = np.lexsort((-votes.confidences, votes.labels)).astype(np.int32)  # stable: equals stay in order of row
    order = order[votes.labels[order] != NO_LABEL]
    labels, counts = np.unique(votes.labels[order], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    positions = np.full(len(votes.labels), NONE, dtype=np.int32)
    positions[order] = np.arange(len(order)) - np.repeat(offsets[:-1], counts)
    return LandmarkGroups(labels, offsets, order, positions, votes)
