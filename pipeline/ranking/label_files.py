"""Propagated labels on disk: of each split the labels of every image and their strength, packed, as .npy files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.arrays import Doubles, Labels

if TYPE_CHECKING:
    from scipy import sparse

LANDMARKS, DEGREES = "landmarks.npy", "degrees.npy"


def write_labels(folder: Path, split: str, labels: sparse.csr_array) -> None:
    """Write <split>.offsets.npy (N + 1,), <split>.columns.npy and <split>.strengths.npy, the packed labels (N, L)."""
    np.save(folder / f"{split}.offsets.npy", labels.indptr.astype(np.int64))
    np.save(folder / f"{split}.columns.npy", labels.indices.astype(np.int32))
    np.save(folder / f"{split}.strengths.npy", labels.data)


def read_labels(folder: Path, split: str, landmarks: int) -> sparse.csr_array:
    """The labels (N, L) float64, sparse, that `write_labels` wrote."""
    from scipy import sparse

    offsets, columns, strengths = (
        np.load(folder / f"{split}.{name}.npy") for name in ("offsets", "columns", "strengths")
    )
    return sparse.csr_array((strengths, columns, offsets), shape=(len(offsets) - 1, landmarks))


def write_graph(folder: Path, landmarks: Labels, degrees: Doubles) -> None:
    """Write landmarks.npy (L,), which the columns stand for, and degrees.npy (N,) of the images of the graph."""
    np.save(folder / LANDMARKS, landmarks)
    np.save(folder / DEGREES, degrees)
