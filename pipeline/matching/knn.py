"""Nearest neighbours by inner product: exact in bounded memory (faiss on the CPU, torch on CUDA), or approximate.

A search has two halves. *Propose*: float32 kernels find a few more than k rows for each query; the last bits of their
similarities change with the tile, the block, the threads and the device. *Settle*: the inner product of every proposed
pair is summed again in float64, from its own two vectors alone, and rounded; by these numbers the lists are ordered. So
no answer depends on how the work was cut, and a CPU and a GPU give the same lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import DECIMALS
from pipeline.matching.blocks import (
    Doubles,
    FaissBlock,
    Floats,
    Integers,
    Rows,
    float32_error,
    full_float32,
    greatest_norm,
    load,
    parts,
)
from pipeline.matching.neighbours import Neighbours, no_neighbours

SLACK = 8  # rows proposed beyond k: few enough to cost little, enough to see that the k-th place is settled
BLOCK_BYTES = 256 << 20  # base vectors held at a time, as float32 …
BLOCK_ROWS = 131_072  # … and no more rows than this: torch holds a block's similarities to a tile of queries
TILE_ROWS = 1_024  # queries at a time
SCAN_ROWS = 128  # queries at a time in the rare last scan


def search(
    queries: Rows,
    base: Rows,
    k: int,
    *,
    index_factory: str = "Flat",
    nprobe: int = 16,
    device: str | None = None,
    exclude: NDArray[np.integer] | None = None,
) -> Neighbours:
    """The k nearest base rows of each query: exactly for the factory "Flat", else as near as that faiss index finds."""
    if index_factory == "Flat":
        return search_exact(queries, base, k, exclude=exclude, device=device)
    return search_approximate(queries, base, k, index_factory, nprobe=nprobe, exclude=exclude)


def search_exact(
    queries: Rows,
    base: Rows,
    k: int,
    *,
    exclude: NDArray[np.integer] | None = None,
    device: str | None = None,
    block_rows: int | None = None,
    tile_rows: int = TILE_ROWS,
) -> Neighbours:
    """The k base rows with the greatest inner product with each query; ties by smaller row, across place k too.

    queries (Q, D), base (N, D): finite floats. exclude: (Q,) the base row that a query leaves out, -1 = none.
    device: None = faiss on the CPU; a torch device ("cuda", "cpu", …) = matrix products and top-k in torch.
    block_rows, tile_rows: how the work is cut; no answer depends on them.

    The base is read twice, block by block, and once more when equal similarities reach beyond the rows proposed.
    Time O(Q N D). Memory O(Q (D + k) + block D): give large query sets in parts.
    Raises ValueError for k < 1, for widths that differ, and for a vector that is not finite (naming the first row).
    """
    task = _checked(queries, base, k, exclude, device, block_rows, tile_rows)
    fetch = min(k + SLACK + 1, len(base))  # one more, which `exclude` may take away
    if fetch == 0 or len(task.queries) == 0:
        return no_neighbours(len(task.queries), k)
    with full_float32():
        proposals = _propose(task, fetch)
        values, rows = _settle(task, proposals.rows)
    if fetch < len(base):
        noise = float32_error(task.queries, proposals.longest)
        undecided = np.flatnonzero(_rounded(proposals.floor + noise) >= values[:, -1])
        _scan_again(task, undecided, noise, values, rows)
    return _neighbours(values, rows, k)


def search_approximate(
    queries: Rows,
    base: Rows,
    k: int,
    index_factory: str,
    *,
    nprobe: int = 16,
    train_rows: int = 262_144,
    seed: int = 0,
    exclude: NDArray[np.integer] | None = None,
    block_rows: int | None = None,
    tile_rows: int = TILE_ROWS,
) -> Neighbours:
    """The k best of the rows that a faiss index proposes, with exact similarities and the tie rule of search_exact.

    index_factory: any faiss.index_factory string, built on the CPU for inner products and trained on `train_rows` rows drawn
    by `seed`. nprobe: inverted lists visited. Lists may be short, and the base rows must fit the index in memory.
    Graph indices (HNSW) are built by several threads and may differ from run to run; inverted lists do not.
    Raises ValueError as search_exact does, and for a factory that faiss refuses.
    """
    task = _checked(queries, base, k, exclude, None, block_rows, tile_rows)
    fetch = min(k + SLACK + 1, len(base))
    if fetch == 0 or len(task.queries) == 0:
        return no_neighbours(len(task.queries), k)
    try:
        index = _build_index(task, index_factory, _sample(base, train_rows, seed))
        _set_probes(index, nprobe)
        proposed = [index.search(tile, fetch)[1] for _, tile in parts(task.queries, tile_rows)]
    except RuntimeError as refusal:
        raise ValueError(
            f"faiss cannot search {len(base)} rows with the factory {index_factory!r}: {refusal}"
        ) from refusal
    values, rows = _settle(task, np.concatenate(proposed))
    return _neighbours(values, rows, k)


# ---- Check ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """A search, its arguments checked: queries (Q, D) float32, exclude (Q,) int64, and how to cut the work."""

    queries: Floats
    base: Rows
    k: int
    exclude: Integers
    device: str | None
    block_rows: int
    tile_rows: int


def _checked(
    queries: Rows,
    base: Rows,
    k: int,
    exclude: NDArray[np.integer] | None,
    device: str | None,
    block_rows: int | None,
    tile_rows: int,
) -> _Task:
    width = base.shape[1]
    if k < 1:
        raise ValueError(f"k={k} neighbours asked; at least 1 is needed")
    if queries.shape[1] != width:
        raise ValueError(f"the queries have {queries.shape[1]} dimensions, the base {width}")
    vectors = np.ascontiguousarray(queries[0 : len(queries)], dtype=np.float32)
    greatest_norm(vectors, 0, "queries")
    left_out = np.full(len(vectors), -1) if exclude is None else np.asarray(exclude)
    if left_out.shape != (len(vectors),):
        raise ValueError(f"exclude has shape {left_out.shape}; one row for each of {len(vectors)} queries is needed")
    block_rows = block_rows or max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * max(1, width))))
    return _Task(vectors, base, k, left_out.astype(np.int64), device, block_rows, tile_rows)


# ---- Propose --------------------------------------------------------------------------------------------------------


class _Proposals(NamedTuple):
    """rows: (Q, F) int64. floor: (Q,) the float32 similarity that no other row exceeds. longest: greatest base norm."""

    rows: Integers
    floor: Floats
    longest: float


def _propose(task: _Task, fetch: int) -> _Proposals:
    heap = faiss.ResultHeap(len(task.queries), fetch, keep_max=True)
    longest = 0.0
    for start, vectors in parts(task.base, task.block_rows):
        longest = max(longest, greatest_norm(vectors, start, "base"))
        block = load(vectors, task.device)
        for first, tile in parts(task.queries, task.tile_rows):
            values, rows = block.nearest(tile, min(fetch, len(vectors)))
            heap.add_result_subset(np.arange(first, first + len(tile)), values, rows + start)
    heap.finalize()
    return _Proposals(heap.I, heap.D[:, -1], longest)


def _build_index(task: _Task, index_factory: str, sample: Floats) -> Any:
    index = faiss.index_factory(task.base.shape[1], index_factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(sample)
    for _, vectors in parts(task.base, task.block_rows):
        index.add(vectors)
    return index


def _set_probes(index: Any, nprobe: int) -> None:
    inverted_lists = faiss.try_extract_index_ivf(index)  # also below a pre-transform or a refinement; None = no lists
    if inverted_lists is not None:
        inverted_lists.nprobe = nprobe


def _sample(base: Rows, count: int, seed: int) -> Floats:
    """At most `count` rows drawn by `seed`, in order of row; every row of the base is checked on the way."""
    chosen = np.zeros(len(base), dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(len(base))[:count]] = True
    drawn = []
    for start, vectors in parts(base, BLOCK_ROWS):
        greatest_norm(vectors, start, "base")
        drawn.append(vectors[chosen[start : start + len(vectors)]])
    return np.concatenate(drawn)


# ---- Settle ---------------------------------------------------------------------------------------------------------


def _settle(task: _Task, proposed: Integers) -> tuple[Doubles, Integers]:
    """The similarities and rows of the k best proposals, (Q, min(k, F)) each; similarity -inf where there is none."""
    values = np.full(proposed.shape, -np.inf)
    for start, vectors in parts(task.base, task.block_rows):
        block = load(vectors, task.device)
        for first in range(0, len(proposed), task.tile_rows):
            tile = slice(first, first + task.tile_rows)
            inside = (proposed[tile] >= start) & (proposed[tile] < start + len(vectors))
            products = block.products(task.queries[tile], np.nonzero(inside)[0], proposed[tile][inside] - start)
            values[tile][inside] = _rounded(products)
    values[proposed == task.exclude[:, None]] = -np.inf
    return _best(values, proposed, task.k)


def _rounded(values: NDArray[np.floating]) -> Doubles:
    """Rounded to 6 decimals, then to float32 (ties here are the ties that a reader of the lists sees); never -0."""
    return np.round(values.astype(np.float64), DECIMALS).astype(np.float32).astype(np.float64) + 0.0


def _best(values: Doubles, rows: Integers, k: int) -> tuple[Doubles, Integers]:
    """The first k of each list by descending value, then ascending row."""
    order = np.lexsort((rows, -values), axis=1)[:, :k]
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _scan_again(task: _Task, undecided: Integers, noise: Doubles, values: Doubles, rows: Integers) -> None:
    """Complete, in place, the lists of the queries whose k-th place may tie with rows that were not proposed.

    Every row whose float32 similarity comes within the error of the k-th is settled; O(k + block) memory a query.
    """
    least = values[:, -1] - noise - 2 * 10.0**-DECIMALS  # below this, no row rounds to the k-th value
    for start, vectors in parts(task.base, task.block_rows) if len(undecided) else ():
        for first in range(0, len(undecided), SCAN_ROWS):
            some = undecided[first : first + SCAN_ROWS]
            near = task.queries[some] @ vectors.T >= least[some, None]
            for at in np.flatnonzero(near.any(axis=1)):
                _merge(task, some[at], np.flatnonzero(near[at]), start, vectors, values, rows)


def _merge(task: _Task, query: int, near: Integers, start: int, block: Floats, values: Doubles, rows: Integers) -> None:
    """Let the rows `near` of a block compete for the places of one query's list."""
    new = near[~np.isin(near + start, [*rows[query], task.exclude[query]])]
    products = FaissBlock(block).products(task.queries[query : query + 1], np.zeros_like(new), new)
    all_values = np.append(values[query], _rounded(products))[None]
    all_rows = np.append(rows[query], new + start)[None]
    values[query : query + 1], rows[query : query + 1] = _best(all_values, all_rows, task.k)


def _neighbours(values: Doubles, rows: Integers, k: int) -> Neighbours:
    found = np.isfinite(values)
    result = no_neighbours(len(values), k)
    result.similarities[:, : values.shape[1]] = np.where(found, values, 0.0)
    result.rows[:, : rows.shape[1]] = np.where(found, rows, -1)
    return result
