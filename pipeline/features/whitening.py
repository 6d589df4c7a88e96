"""PCA whitening: project descriptors onto the principal components of a training set and scale each component.

A few directions that all images share (light, sky, the look of a camera) dominate raw cosines. Dividing each component
by a power of its variance removes their advantage (Jegou & Chum 2012, "Negative evidences and co-occurrences in image
retrieval"); dropping the last components reduces the dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Doubles, Floats, Vectors

BLOCK_ROWS = 8_192  # vectors in memory at a time, as float64
RANK_TOLERANCE = 1e-10  # a variance below this share of the greatest is a rounding error


class Whitening(NamedTuple):
    """A fitted projection.

    mean: (D,). projection: (D, dims), one column per component, in descending order of variance. explained: the share
    of the total variance that these components explain, in (0, 1].
    """

    mean: Doubles
    projection: Doubles
    explained: float

    def apply(self, vectors: NDArray[np.floating]) -> Floats:
        """The vectors (n, D), whitened and L2-normalised: (n, dims) float32. A vector equal to the mean becomes zero.

        Computed in float64 and rounded once: the last bits of a matrix product depend on the other rows, but rounding
        removes nearly all such differences. Raises ValueError for a vector that is not finite, naming its row.
        """
        _check_finite(vectors, 0)
        whitened = (np.asarray(vectors, np.float64) - self.mean) @ self.projection
        lengths = np.linalg.norm(whitened, axis=1, keepdims=True)
        return (whitened / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)


def fit_whitening(vectors: Vectors, dims: int, power: float = 0.25, block_rows: int = BLOCK_ROWS) -> Whitening:
    """The first principal components of the vectors (N, D), each multiplied by its variance ** -power.

    dims: the number of components; fewer if the vectors span fewer directions, at most min(N - 1, D).
    power: 0.5 is whitening, where every component has variance 1 over these vectors; 0 is plain PCA.

    The variance is the sample variance, divided by N - 1. The entry of greatest magnitude of each component is
    positive, which makes the fit reproducible. The vectors are read twice, block by block, and all sums are float64
    (faiss fits in float32 and in memory, scikit-learn's incremental PCA is an approximation).
    O(N D^2 + D^3) time; O(D^2 + block D) memory.
    Raises ValueError for fewer than two vectors, for values that are not finite, for vectors that are all equal, for a
    power outside [0, 0.5] and for dims below 1.
    """
    count = len(vectors)
    if count < 2:
        raise ValueError(f"whitening needs at least two vectors to fit on, not {count}")
    if dims < 1:
        raise ValueError(f"dims={dims}; at least 1 is needed")
    if not 0.0 <= power <= 0.5:
        raise ValueError(f"power={power} is outside [0, 0.5]")
    mean = sum(block.sum(axis=0) for block in _blocks(vectors, block_rows)) / count
    variances, components = _principal_components(vectors, mean, block_rows)
    possible = int((variances > RANK_TOLERANCE * variances[0]).sum())
    if not possible:
        raise ValueError(f"{count} vectors that are all equal have no variance")
    kept = slice(min(dims, possible))
    projection = components[:, kept] * variances[kept] ** -power
    return Whitening(mean, projection, float(variances[kept].sum() / variances.sum()))


def _principal_components(vectors: Vectors, mean: Doubles, block_rows: int) -> tuple[Doubles, Doubles]:
    """(variances (D,) descending, components (D, D), one per column)."""
    products = np.zeros((len(mean), len(mean)))
    for block in _blocks(vectors, block_rows):
        centred = block - mean
        products += centred.T @ centred
    ascending, columns = np.linalg.eigh(products / (len(vectors) - 1))
    variances, components = ascending[::-1].clip(min=0.0), columns[:, ::-1]
    greatest = np.abs(components).argmax(axis=0)
    return variances, components * np.sign(components[greatest, np.arange(len(mean))])


def _blocks(vectors: Vectors, block_rows: int) -> Iterator[Doubles]:
    for start in range(0, len(vectors), block_rows):
        block = np.asarray(vectors[start : min(start + block_rows, len(vectors))], np.float64)
        _check_finite(block, start)
        yield block


def _check_finite(vectors: NDArray[np.floating], start: int) -> None:
    """Raise ValueError for a vector that is not finite; the first row is `start`."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"row {start + int(finite.argmin())} of the vectors is not finite")
