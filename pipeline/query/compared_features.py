"""Comparing photographs with images of a run: with the local features that it has, and with others made when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pipeline.arrays import NONE, AnyIntegers, Mask, Rows
from pipeline.features.local_store import LocalFeatures, LocalStore
from pipeline.images.split import Split
from pipeline.matching.geometry import Affine
from pipeline.matching.pair_lists import list_neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.matching.verification import MatchOptions, verify_pair, verify_pairs
from pipeline.settings import VerifySettings

KEPT = 4_096  # images whose features are kept in memory: about 2 GB at 1,000 features each


class ComparedFeatures:
    """The local features of a split, by row: from the run's store, or extracted when a photograph first needs them.

    The stages extract only what their own test images are compared with.
    """

    def __init__(
        self,
        split: Split,
        stored: Mask,
        store: LocalStore | None,
        extract: Callable[[Split], list[LocalFeatures]],
        settings: VerifySettings,
    ):
        """stored: (N,) which images the store was made of; some of them may have no features."""
        self._split, self._stored, self._store, self._extract = split, stored, store, extract
        self._settings, self._options = settings, MatchOptions.from_settings(settings)
        self._thresholds_px = settings.inlier_threshold * split.longer_sides
        self._made: dict[int, LocalFeatures] = {}

    def __getitem__(self, row: int, /) -> LocalFeatures:
        """The features of an image that is stored or was prepared."""
        return self._store[row] if self._store is not None and self._stored[row] else self._made[row]

    def prepare(self, rows: AnyIntegers) -> None:
        """Extract what is lacking for these images. Raises PipelineError for a photograph that cannot be read."""
        wanted = np.unique(rows[rows != NONE])
        wanted = wanted[~self._stored[wanted]]
        if len(self._made) + len(wanted) > KEPT:
            self._made.clear()
        lacking = [row for row in wanted.tolist() if row not in self._made]
        if lacking:
            self._made |= dict(zip(lacking, self._extract(self._split.take(np.array(lacking))), strict=True))

    def compare(self, queries: Sequence[LocalFeatures], rows: Rows, device: torch.device) -> PairTable:
        """The inliers of each of Q photographs with its images, rows (Q, k)."""
        self.prepare(rows)
        pairs = list_neighbours(rows)
        verified = verify_pairs(queries, self, pairs, self._thresholds_px[pairs[:, 1]], self._options, device)
        return PairTable(pairs[:, 0], pairs[:, 1], verified.inliers)

    def match(self, query: LocalFeatures, row: int) -> tuple[LocalFeatures, AnyIntegers, Affine]:
        """One pair in detail: the features of the image, and what `verify_pair` gives."""
        self.prepare(np.array([row]))
        image = self[row]
        return image, *verify_pair(query, image, float(self._thresholds_px[row]), self._options)
