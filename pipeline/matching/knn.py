"""Nearest neighbours by inner product: exact in bounded memory (faiss on a CPU, torch on a GPU), or approximate.

A search has two steps. *Candidate generation*: float32 kernels find a few more than k rows for each query; the last
bits of their similarities change with the tile, the block and the threads. *Exact re-scoring*: the inner product of
every candidate pair is summed again in float64, only from its own two vectors, and rounded. These numbers order the
lists, so no result depends on how the work was cut. `device_knn` does the same on a GPU and gives the same lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS, NONE, Doubles, Floats, Integers, Vectors, round_similarity
from pipeline.matching.blocks import CPU, check_finite_max_norm, error_bounds, full_float32, parts
from pipeline.matching.device_knn import DevicePlan, search_on_device
from pipeline.matching.neighbours import Neighbours, no_neighbours
from pipeline.matching.products import pair_products

SLACK = 8  # candidates beyond k: few enough to cost little, enough to see that the k-th position is certain
BLOCK_BYTES = 256 << 20  # base vectors held at a time, as float32 …
BLOCK_ROWS = 131_072  # … and no more rows than this: torch holds a block's similarities to a tile of queries
TILE_ROWS = 4_096  # queries at a time, as faiss multiplies them: with fewer its threads wait for each other more often
SCAN_ROWS = 128  # queries at a time in the rare last scan
TRAIN_ROWS = 262_144  # base rows that an approximate index is trained on
TRAIN_SEED = 0


@dataclass(frozen=True)
class SearchOptions:
    """How to search: exactly for the factory "Flat", else by that faiss index. The device is for exact searches.

    index_factory: any faiss.index_factory string. nprobe: inverted lists visited per query.
    """

    index_factory: str = "Flat"
    nprobe: int = 16
    device: torch.device = CPU


@dataclass(frozen=True)
class Tiling:
    """How a search works; no result depends on it. None: by the device and its memory.

    block_rows: of the base at a time. tile_rows: queries at a time. precision: of the candidates on a GPU, float16,
    bfloat16 or float32.
    """

    block_rows: int | None = None
    tile_rows: int | None = None
    precision: str | None = None


def search(
    queries: Vectors,
    base: Vectors,
    k: int,
    options: SearchOptions = SearchOptions(),
    exclude: NDArray[np.integer] | None = None,
) -> Neighbours:
    """The k nearest base rows of each query: `search_exact` or `search_approximate`, as the options say."""
    if options.index_factory == "Flat":
        return search_exact(queries, base, k, exclude=exclude, device=options.device)
    return search_approximate(queries, base, k, options, exclude=exclude)


def search_exact(
    queries: Vectors,
    base: Vectors,
    k: int,
    *,
    exclude: NDArray[np.integer] | None = None,
    device: torch.device = CPU,
    tiling: Tiling = Tiling(),
) -> Neighbours:
    """The k base rows with the greatest inner product with each query; ties by smaller row, across rank k too.

    queries (Q, D), base (N, D): finite floats. exclude: (Q,) the base row that each query leaves out, -1 = none.
    device: a CPU means faiss, any other device `search_on_device`.

    On a CPU the base is read twice, block by block, and once more when equal similarities reach beyond the candidates.
    Time O(Q N D). Memory O(Q (D + k) + block D): give large query sets in parts.
    Raises ValueError for k < 1, for widths that differ, and for a vector that is not finite (naming the first row).
    """
    search = _prepare(queries, base, k, exclude, tiling)
    if not _uses_faiss(device) and search.fetch:
        plan = DevicePlan(tiling.precision, tiling.block_rows, tiling.tile_rows)
        return search_on_device(search.queries, base, k, search.exclude, device, plan)
    check_finite_max_norm(search.queries, 0, "queries")
    if search.fetch == 0 or len(search.queries) == 0:
        return no_neighbours(len(search.queries), k)
    with full_float32():
        candidates = _generate_candidates(search)
        lists = _rescore(search, candidates.rows)
    if search.fetch < len(base):
        error_bound = error_bounds(search.queries, candidates.max_norm)
        unresolved = np.flatnonzero(_round(candidates.floor + error_bound) >= lists.values[:, -1])
        _scan_again(search, unresolved, error_bound, lists)
    return _neighbours(lists, k)


def search_approximate(
    queries: Vectors,
    base: Vectors,
    k: int,
    options: SearchOptions,
    *,
    exclude: NDArray[np.integer] | None = None,
    tiling: Tiling = Tiling(),
) -> Neighbours:
    """The k best of the candidates that a faiss index finds, with the exact similarities and ties of search_exact.

    The index is built on the CPU for inner products and trained on at most TRAIN_ROWS random rows. Lists may be short,
    and the base must fit into memory as the index stores it. Graph indices (HNSW) are built by several threads and may
    differ from run to run; inverted lists do not.
    Raises ValueError as search_exact does, and for a factory that faiss refuses.
    """
    search = _prepare(queries, base, k, exclude, tiling)
    check_finite_max_norm(search.queries, 0, "queries")
    if search.fetch == 0 or len(search.queries) == 0:
        return no_neighbours(len(search.queries), k)
    try:
        index = _build_index(search, options)
        found = [index.search(tile, search.fetch)[1] for _, tile in parts(search.queries, search.tile_rows)]
    except RuntimeError as refusal:
        raise ValueError(
            f"faiss cannot search {len(base)} rows with the factory {options.index_factory!r}: {refusal}"
        ) from refusal
    return _neighbours(_rescore(search, np.concatenate(found)), k)


# ---- Checks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Search:
    """A search whose arguments are checked: queries (Q, D) float32, exclude (Q,) int64, candidates per query."""

    queries: Floats
    base: Vectors
    k: int
    exclude: Integers
    block_rows: int
    tile_rows: int

    @property
    def fetch(self) -> int:
        """Candidates per query: one more than k + SLACK, which `exclude` may take away."""
        return min(self.k + SLACK + 1, len(self.base))


def _uses_faiss(device: torch.device) -> bool:
    return device.type == "cpu"


def _prepare(
    queries: Vectors,
    base: Vectors,
    k: int,
    exclude: NDArray[np.integer] | None,
    tiling: Tiling,
) -> _Search:
    width = base.shape[1]
    if k < 1:
        raise ValueError(f"k={k} neighbours asked; at least 1 is needed")
    if queries.shape[1] != width:
        raise ValueError(f"the queries have {queries.shape[1]} dimensions, the base {width}")
    vectors = np.ascontiguousarray(queries[0 : len(queries)], dtype=np.float32)
    left_out = np.full(len(vectors), NONE) if exclude is None else np.asarray(exclude)
    if left_out.shape != (len(vectors),):
        raise ValueError(f"exclude has shape {left_out.shape}; one row for each of {len(vectors)} queries is needed")
    block_rows = tiling.block_rows or max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * max(1, width))))
    return _Search(vectors, base, k, left_out.astype(np.int64), block_rows, tiling.tile_rows or TILE_ROWS)


# ---- Candidate generation -------------------------------------------------------------------------------------------


class _Candidates(NamedTuple):
    """rows: (Q, F) int64. floor: (Q,) the float32 similarity that no other row exceeds. max_norm: of the base."""

    rows: Integers
    floor: Floats
    max_norm: float


def _generate_candidates(search: _Search) -> _Candidates:
    import faiss  # here: a search on a GPU must not load it, see docs/notes/search.md

    heap = faiss.ResultHeap(len(search.queries), search.fetch, keep_max=True)
    max_norm = 0.0
    for start, vectors in parts(search.base, search.block_rows):
        max_norm = max(max_norm, check_finite_max_norm(vectors, start, "base"))
        count = min(search.fetch, len(vectors))
        for first, tile in parts(search.queries, search.tile_rows):
            values, rows = faiss.knn(tile, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
            heap.add_result_subset(np.arange(first, first + len(tile)), values, rows + start)
    heap.finalize()
    return _Candidates(heap.I, heap.D[:, -1], max_norm)


def _build_index(search: _Search, options: SearchOptions) -> Any:
    import faiss

    sample = _draw_sample(search.base)
    index = faiss.index_factory(search.base.shape[1], options.index_factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(sample)
    for _, vectors in parts(search.base, search.block_rows):
        index.add(vectors)
    inverted_lists = faiss.try_extract_index_ivf(index)  # also below a pre-transform or a refinement; None = no lists
    if inverted_lists is not None:
        inverted_lists.nprobe = options.nprobe
    return index


def _draw_sample(base: Vectors) -> Floats:
    """At most TRAIN_ROWS random rows in ascending order; every row of the base is checked on the way."""
    chosen = np.zeros(len(base), dtype=np.bool_)
    chosen[np.random.default_rng(TRAIN_SEED).permutation(len(base))[:TRAIN_ROWS]] = True
    drawn = []
    for start, vectors in parts(base, BLOCK_ROWS):
        check_finite_max_norm(vectors, start, "base")
        drawn.append(vectors[chosen[start : start + len(vectors)]])
    return np.concatenate(drawn)


# ---- Exact re-scoring -----------------------------------------------------------------------------------------------


class _Lists(NamedTuple):
    """The k best candidates of each query: values (Q, K) float64, -inf where there is none; rows (Q, K) int64."""

    values: Doubles
    rows: Integers


def _rescore(search: _Search, candidates: Integers) -> _Lists:
    """The lists of the best candidates (Q, F), K = min(k, F)."""
    values = np.full(candidates.shape, -np.inf)
    for start, vectors in parts(search.base, search.block_rows):
        for first in range(0, len(candidates), search.tile_rows):
            tile = slice(first, first + search.tile_rows)
            inside = (candidates[tile] >= start) & (candidates[tile] < start + len(vectors))
            asking, rows = np.nonzero(inside)[0], candidates[tile][inside] - start
            products = pair_products(search.queries[tile], vectors, asking, rows)
            values[tile][inside] = _round(products)
    values[candidates == search.exclude[:, None]] = -np.inf
    return _best(values, candidates, search.k)


def _round(values: Doubles) -> Doubles:
    """Rounded to 6 decimals, then to float32: ties here are the ties that a reader of the lists sees."""
    return round_similarity(values).astype(np.float32).astype(np.float64)


def _best(values: Doubles, rows: Integers, k: int) -> _Lists:
    """The first k of each list by descending value, then ascending row."""
    order = np.lexsort((rows, -values), axis=1)[:, :k]
    return _Lists(np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1))


def _scan_again(search: _Search, unresolved: Integers, error_bound: Doubles, lists: _Lists) -> None:
    """Complete, in place, the lists of the queries whose k-th rank may tie with rows that are no candidates.

    Every row whose float32 similarity is within the error bound of the k-th is re-scored. O(k + block) memory per
    query.
    """
    least = lists.values[:, -1] - error_bound - 2 * 10.0**-DECIMALS  # below this, no row rounds to the k-th value
    for start, vectors in parts(search.base, search.block_rows) if len(unresolved) else ():
        for first in range(0, len(unresolved), SCAN_ROWS):
            some = unresolved[first : first + SCAN_ROWS]
            near = search.queries[some] @ vectors.T >= least[some, None]
            for at in np.flatnonzero(near.any(axis=1)):
                query, rows = some[at], np.flatnonzero(near[at])
                rows = rows[~np.isin(rows + start, [*lists.rows[query], search.exclude[query]])]
                products = pair_products(search.queries, vectors, np.full(len(rows), query), rows)
                values = np.append(lists.values[query], _round(products))[None]
                best = _best(values, np.append(lists.rows[query], rows + start)[None], search.k)
                lists.values[query], lists.rows[query] = best.values[0], best.rows[0]


def _neighbours(lists: _Lists, k: int) -> Neighbours:
    found = np.isfinite(lists.values)
    result = no_neighbours(len(found), k)
    result.similarities[:, : found.shape[1]] = np.where(found, lists.values, 0.0)
    result.rows[:, : found.shape[1]] = np.where(found, lists.rows, NONE)
    return result
