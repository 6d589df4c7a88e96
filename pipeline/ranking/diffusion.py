"""Diffusion: similarity handed on from image to image along a graph of mutual nearest neighbours.

Two views of a landmark that share nothing may be joined by a chain of views in between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

from pipeline.arrays import DECIMALS
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.ranking import NONE, Ranking


def build_affinity(neighbours: Neighbours, gamma: float = 3.0) -> sparse.csr_array:
    """The normalised affinities of N index images, (N, N) float64, sparse, symmetric, zero on the diagonal.

    S = D^-1/2 A D^-1/2, with A_ij = max(cos(i, j), 0)^gamma if i is a neighbour of j and j of i, else 0, and D the
    diagonal of A's row sums (Yang et al. 2019, "Efficient Image Retrieval via Decoupling Diffusion into Online and
    Offline Processing", after Iscen et al. 2017). Images without a mutual neighbour have an empty row.

    neighbours: of the index in itself, (N, k); an image as its own neighbour is left out. Should the two similarities
    of a pair differ, the smaller counts. O(N k) time and memory.
    """
    images, k = neighbours.rows.shape
    own = np.repeat(np.arange(images, dtype=np.int32), k)
    other = neighbours.rows.reshape(-1)
    weights = _powers(neighbours.similarities.reshape(-1), gamma)
    edge = (other != NONE) & (other != own) & (weights > 0)
    directed = sparse.csr_array((weights[edge], (own[edge], other[edge])), shape=(images, images))
    mutual = directed.minimum(directed.T.tocsr()).tocsr()  # weights are above 0: where one is missing, 0 is the smaller
    degrees = mutual.sum(axis=1)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(images), where=degrees > 0)
    mutual.data *= scale[np.repeat(np.arange(images), np.diff(mutual.indptr))] * scale[mutual.indices]
    return mutual


def diffusion_step(
    ranking: Ranking,
    affinity: sparse.csr_array,
    *,
    truncate: int = 1000,
    first_k: int = 10,
    gamma: float = 3.0,
    alpha: float = 0.99,
    iterations: int = 20,
    tolerance: float = 1e-6,
    top_k: int = 100,
) -> Ranking:
    """The lists ordered by what diffusion from the query's nearest images brings each image, cut to `top_k`.

    For each query, with S the affinities among the first `truncate` images of its list alone:
        solve (I - alpha S) f = y,   y_i = max(cos(q, i), 0)^gamma for the first `first_k` images, else 0
    by conjugate gradients, at most `iterations`, until the residual is below `tolerance` * |y| (Iscen et al. 2017,
    "Efficient Diffusion on Region Manifolds"). Ordered by f, rounded to 6 decimals, ties by smaller row. Images that no
    chain reaches (f <= 0), and those behind `truncate`, follow in the order they had. Scores go with their rows: they
    stay similarities.

    ranking: as searched, its scores are the similarities, its lists as long as `truncate` if that is to say anything.
    affinity: (N, N) from `build_affinity`, with the same gamma.

    This is the online form, not the published offline one. Yang et al. 2019 solve beforehand for every index image i,
    with y = e_i, among its own `truncate` nearest, keep the N solutions, and at search time add up those of the query's
    neighbours with the weights y. That costs N linear systems and N * truncate numbers once, and next to nothing for a
    query; and it reaches images near a neighbour of the query that are not among the query's own nearest. Here nothing
    is kept, a query costs one linear system, and no image comes in that its list lacks. The published code also scales
    each image's solution to length 1 before adding; with one solution for a query there is nothing to balance.

    O(truncate * k * iterations) for a query; memory O(Q top_k).
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha={alpha} is outside [0, 1): the diffusion does not settle")
    if affinity.shape[0] <= ranking.rows.max(initial=NONE) or ranking.count not in (None, affinity.shape[0]):
        raise ValueError(f"affinities of {affinity.shape[0]} index images for lists of {ranking.count or 'more'}")
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    lengths = ranking.lengths
    for query, length in enumerate(lengths.tolist()):
        near = ranking.rows[query, : min(length, truncate)]
        start = np.zeros(len(near))
        start[:first_k] = _powers(ranking.scores[query, : len(near)][:first_k], gamma)
        mass = _diffuse(affinity[near][:, near], start, alpha, iterations, tolerance)
        order = np.append(_by_mass(near, mass), np.arange(len(near), length))[:top_k]
        rows[query, : len(order)] = ranking.rows[query, order]
        scores[query, : len(order)] = ranking.scores[query, order]
    return Ranking(rows, scores, ranking.count)


def _powers(similarities: NDArray[np.float32], gamma: float) -> NDArray[np.float64]:
    """Negative similarities as 0, the others to the power of gamma."""
    return np.maximum(similarities.astype(np.float64), 0.0) ** gamma


def _diffuse(
    affinity: sparse.csr_array, start: NDArray[np.float64], alpha: float, iterations: int, tolerance: float
) -> NDArray[np.float64]:
    """f of (I - alpha S) f = y, (T,) float64, rounded to 6 decimals."""
    if not start.any():
        return np.zeros(len(start))
    system = sparse.eye_array(len(start), format="csr") - alpha * affinity
    mass, _ = cg(system, start, rtol=tolerance, atol=0.0, maxiter=iterations)  # unsettled after all: near enough
    rounded: NDArray[np.float64] = mass.round(DECIMALS)
    return rounded


def _by_mass(rows: NDArray[np.int32], mass: NDArray[np.float64]) -> NDArray[np.int64]:
    """The places of a list (T,) by descending mass, equals by row; those without mass behind, in their order."""
    reached = mass > 0
    ties = np.where(reached, rows, np.arange(len(rows)))
    return np.lexsort((ties, -np.where(reached, mass, 0.0)))
