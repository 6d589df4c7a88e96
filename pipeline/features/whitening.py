"""PCA whitening: descriptors turned onto the directions in which a training set varies most, and scaled there.

A few directions that all photographs share (light, sky, the look of a camera) dominate raw cosines. Dividing each
component by its spread to a power takes that advantage away (Jegou & Chum 2012, "Negative evidences and co-occurrences
in image retrieval"); leaving out the last components makes the vectors shorter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BLOCK_ROWS = 8_192  # vectors held at a time, as float64
RANK_TOLERANCE = 1e-10  # a variance below this share of the greatest is rounding, not a direction


class Rows(Protocol):
    """N vectors, by slices of rows: an array, an np.memmap, or vectors joined as they are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


class Whitening(NamedTuple):
    """mean: (D,). projection: (D, dims), a column a component, the greatest variance first. explained: the share of all
    variance that these components hold, in (0, 1]."""

    mean: Doubles
    projection: Doubles
    explained: float

    def apply(self, vectors: NDArray[np.floating]) -> Floats:
        """The vectors (n, D) whitened and of length 1, (n, dims) float32; one that has nothing left stays zero.

        Summed in float64 and rounded once, so that a row hardly ever depends on those that come with it: a matrix
        product's last bits do.
        """
        whitened = (np.asarray(vectors, np.float64) - self.mean) @ self.projection
        lengths = np.linalg.norm(whitened, axis=1, keepdims=True)
        return (whitened / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)


def fit_whitening(vectors: Rows, dims: int, power: float = 0.5, block_rows: int = BLOCK_ROWS) -> Whitening:
    """The first principal components of the vectors (N, D), each scaled by its variance to the -`power`.

    dims: how many components; fewer where the vectors have fewer, at most min(N - 1, D).

    power 1/2 = whitening: every component has variance 1 over these vectors. power 0 = plain PCA. Between them the
    components are evened out in part. The variance is that of a sample: divided by N - 1. The greatest entry of a
    component is positive, so that a fit repeats.

    The vectors are read twice, block by block. O(N D^2 + D^3) time; O(D^2 + block D) memory.
    Raises ValueError for fewer than two vectors, for numbers that are not finite, for vectors that are all the same,
    for a power outside [0, 1/2] and for dims below 1.
    """
    count = len(vectors)
    if count < 2:
        raise ValueError(f"whitening is fitted on two vectors or more, not on {count}")
    if dims < 1:
        raise ValueError(f"dims={dims}; at least 1 is needed")
    if not 0.0 <= power <= 0.5:
        raise ValueError(f"power={power} is outside [0, 1/2]")
    mean = sum(block.sum(axis=0) for block in _blocks(vectors, block_rows)) / count
    variances, components = _principal_components(vectors, mean, block_rows)
    possible = int((variances > RANK_TOLERANCE * variances[0]).sum())
    if not possible:
        raise ValueError(f"{count} vectors that are all the same have no direction in which they vary")
    kept = slice(min(dims, possible))
    projection = components[:, kept] * variances[kept] ** -power
    return Whitening(mean, projection, float(variances[kept].sum() / variances.sum()))


def _principal_components(vectors: Rows, mean: Doubles, block_rows: int) -> tuple[Doubles, Doubles]:
    """(variances (D,) descending, components (D, D), one a column)."""
    products = np.zeros((len(mean), len(mean)))
    for block in _blocks(vectors, block_rows):
        centred = block - mean
        products += centred.T @ centred
    if not np.isfinite(products).all():
        raise ValueError("the vectors hold numbers that are not finite")
    ascending, columns = np.linalg.eigh(products / (len(vectors) - 1))
    variances, components = ascending[::-1].clip(min=0.0), columns[:, ::-1]
    greatest = np.abs(components).argmax(axis=0)
    return variances, components * np.sign(components[greatest, np.arange(len(mean))])


def _blocks(vectors: Rows, block_rows: int) -> Iterator[Doubles]:
    for start in range(0, len(vectors), block_rows):
        yield np.asarray(vectors[start : min(start + block_rows, len(vectors))], np.float64)
