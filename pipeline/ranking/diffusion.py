"""Diffusion: similarity spreads from image to image along a graph of mutual nearest neighbours.

Two views of a landmark that share nothing may be joined by a chain of views in between.

What is computed is the online form, not the published offline one. Yang et al. 2019 solve beforehand for every index
image i, with y = e_i, among its own `truncate` nearest, keep the N solutions, and at search time add up those of the
query's neighbours with the weights y. That costs N linear systems and N * truncate numbers once, and next to nothing
per query; and it reaches images near a neighbour of the query that are not among the query's own nearest. Here nothing
is kept, a query costs one linear system, and no image comes in that its list lacks. The published code also
L2-normalises each image's solution before adding; with one solution per query there is nothing to balance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from pipeline.arrays import DECIMALS, NONE, Doubles, Floats, Positions, Rows
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.evidence import IndexGraph
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.step import Step, always
from pipeline.settings import Positive, Settings

if TYPE_CHECKING:  # loaded where it is used: the settings below are read where nothing is computed
    from scipy import sparse


class DiffusionSettings(Settings):
    """The step diffusion."""

    truncate: Positive = 1000  # images of a list among which similarity spreads
    first_k: Positive = 10  # images of a list where it starts
    gamma: Annotated[float, Field(gt=0.0)] = 3.0  # exponent of the cosines
    alpha: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99  # share that is passed on in each step of the walk
    iterations: Positive = 20  # of the conjugate gradient solver, at most
    tolerance: Annotated[float, Field(gt=0.0)] = 1e-6  # of the residual, relative


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
    from scipy import sparse

    directed = sparse.csr_array((weights[edge], (own[edge], other[edge])), shape=(images, images))
    mutual = directed.minimum(directed.T.tocsr()).tocsr()  # weights are above 0: where one is missing, 0 is the smaller
    degrees = mutual.sum(axis=1)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(images), where=degrees > 0)
    mutual.data *= scale[np.repeat(np.arange(images), np.diff(mutual.indptr))] * scale[mutual.indices]
    return mutual


def diffusion_step(
    ranking: Ranking,
    affinity: sparse.csr_array,
    settings: DiffusionSettings = DiffusionSettings(),
    top_k: int = 100,
) -> Ranking:
    """The lists ordered by what each image receives from the query's nearest images by diffusion, cut to `top_k`.

    For each query, with S the affinities among only the first `truncate` images of its list:
        solve (I - alpha S) f = y,   y_i = max(cos(q, i), 0)^gamma for the first `first_k` images, else 0
    by conjugate gradients, at most `iterations`, until the residual is below `tolerance` * |y| (Iscen et al. 2017,
    "Efficient Diffusion on Region Manifolds"). Ordered by f, rounded to 6 decimals, ties by smaller row. Images that no
    chain reaches (f <= 0), and those after `truncate`, follow in the order they had. Scores follow their rows: they
    stay similarities.

    ranking: as searched, its scores are the similarities; lists shorter than `truncate` are used whole.
    affinity: (N, N) from `build_affinity`, with the same gamma.

    O(truncate * k * iterations) per query; memory O(Q top_k).
    """
    if affinity.shape[0] <= ranking.rows.max(initial=NONE) or ranking.count not in (None, affinity.shape[0]):
        raise ValueError(f"affinities of {affinity.shape[0]} index images for lists of {ranking.count or 'more'}")
    rows = np.full((len(ranking), top_k), NONE, dtype=np.int32)
    scores = np.zeros(rows.shape, dtype=np.float32)
    lengths = ranking.lengths
    for query, length in enumerate(lengths.tolist()):
        near = ranking.rows[query, : min(length, settings.truncate)]
        start = np.zeros(len(near))
        start[: settings.first_k] = _powers(ranking.scores[query, : len(near)][: settings.first_k], settings.gamma)
        mass = _diffuse(affinity[near][:, near], start, settings)
        order = np.append(_by_mass(near, mass), np.arange(len(near), length))[:top_k]
        rows[query, : len(order)] = ranking.rows[query, order]
        scores[query, : len(order)] = ranking.scores[query, order]
    return Ranking(rows, scores, ranking.count)


def _powers(similarities: Floats, gamma: float) -> Doubles:
    """Negative similarities as 0, the others to the power of gamma."""
    return np.maximum(similarities.astype(np.float64), 0.0) ** gamma


def _diffuse(affinity: sparse.csr_array, start: Doubles, settings: DiffusionSettings) -> Doubles:
    """f of (I - alpha S) f = y, (T,) float64, rounded to 6 decimals."""
    from scipy import sparse
    from scipy.sparse.linalg import cg

    if not start.any():
        return np.zeros(len(start))
    system = sparse.eye_array(len(start), format="csr") - settings.alpha * affinity
    # Where the tolerance is not reached after all iterations, the solution is near enough.
    mass, _ = cg(system, start, rtol=settings.tolerance, atol=0.0, maxiter=settings.iterations)
    rounded: Doubles = mass.round(DECIMALS)
    return rounded


def _by_mass(rows: Rows, mass: Doubles) -> Positions:
    """The positions of a list (T,) by descending mass, equals by row; then those without mass, in their order."""
    reached = mass > 0
    ties = np.where(reached, rows, np.arange(len(rows)))
    return np.lexsort((ties, -np.where(reached, mass, 0.0)))


def _apply(ranking: Ranking, settings: DiffusionSettings, top_k: int, graph: IndexGraph) -> Ranking:
    affinity = build_affinity(graph.neighbours, settings.gamma)
    return diffusion_step(ranking, affinity, settings, top_k=ranking.rows.shape[1])


STEP = Step(
    "diffusion",
    "similarity spreads along the graph of mutual neighbours inside each list",
    _apply,
    always(IndexGraph),
    DiffusionSettings,
    reads_similarities=True,
)
