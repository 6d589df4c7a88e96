"""Exact search on a torch device: products in half precision propose rows, products in float64 decide.

The F > k rows of greatest product in the proposals' precision are a query's candidates (see `proposals`). Their inner
products are summed again in float64 and rounded, and these numbers order the list. Every other row is below a ceiling
that the precision determines. Where the k-th value of a list is not above it, the query is searched again in float32,
and every row that can reach the k-th value is re-scored. So the lists are those of the search on a CPU, whatever the
precision.

The base stays on the device where it fits; otherwise it is read once, in blocks as large as fit. Only lists travel
back. The same code runs on CPU tensors, where half precision is emulated by rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.arrays import DECIMALS, NONE, Floats, Integers, Vectors
from pipeline.device_memory import count_free_bytes
from pipeline.matching.blocks import ROUNDOFF, tensor_products
from pipeline.matching.neighbours import Neighbours, no_neighbours
from pipeline.matching.proposals import Rounded, exact_accumulation, propose, round_vectors
from pipeline.matching.uploads import fill_rows, upload

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
TILE_ROWS = 4_096  # queries at a time
WORK_SHARE = 8  # the products, and the candidates' vectors, take at most this part of the free memory each …
WORK_BYTES = 2 << 30  # … and at most so much
BASE_SHARE = 0.8  # of what is left then; the base takes it
NORM_ROWS = 1 << 16  # whose norms are computed at a time
SCANNED_VALUES = 1 << 24  # products at a time in the rare second search


@dataclass(frozen=True)
class DevicePlan:
    """How a search on a device works; no result depends on it. None: by the device and its memory.

    precision: of the proposals, a key of PRECISIONS. block_rows: of the base at a time. tile_rows: queries at a time.
    """

    precision: str | None = None
    block_rows: int | None = None
    tile_rows: int | None = None


def search_on_device(
    queries: Floats, base: Vectors, k: int, exclude: Integers, device: torch.device, plan: DevicePlan = DevicePlan()
) -> Neighbours:
    """The lists of `search_exact`, found on the device.

    queries (Q, D) float32; base (N, D), not empty; exclude (Q,) int64, -1 = none. The base is read once; blocks that do
    not stay on the device are read again where equal similarities reach beyond the candidates.
    Raises ValueError for a row that is not finite.
    """
    with torch.inference_mode(), exact_accumulation():
        values, rows = _DeviceSearch(queries, base, k, exclude, device, plan).find()
    found = values.isfinite()
    result = no_neighbours(len(queries), k)
    result.similarities[:] = torch.where(found, values, 0.0).cpu().numpy()
    result.rows[:] = torch.where(found, rows, NONE).int().cpu().numpy()
    return result


def choose_precision(device: torch.device) -> str:
    """The fastest precision of proposals on a device: float16 where there are tensor cores, else float32.

    bfloat16 is as fast and has three bits less: more lists would be uncertain. Scaling keeps float16 from overflowing.
    """
    has_tensor_cores = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
    return "float16" if has_tensor_cores else "float32"


class _Lists(NamedTuple):
    """Lists on the device: values (Q, k) float32, descending, -inf where there is none; rows (Q, k) int64."""

    values: Tensor
    rows: Tensor


class _Block(NamedTuple):
    """Base vectors on the device, (B, D) float32; the row of the first; their proposals; their greatest norm."""

    vectors: Tensor
    start: int
    rounded: Rounded
    max_norm: float


class _DeviceSearch:
    """The arguments of a search on its device, and the lists as they grow."""

    def __init__(
        self, queries: Floats, base: Vectors, k: int, exclude: Integers, device: torch.device, plan: DevicePlan
    ):
        self.base, self.k, self.device = base, k, device
        self.dtype = PRECISIONS[plan.precision or choose_precision(device)]
        self.queries, self.exclude = upload(queries, device), upload(exclude, device)
        self.tile_rows = plan.tile_rows or TILE_ROWS
        self.work_bytes = min(WORK_BYTES, count_free_bytes(device) // WORK_SHARE)
        self.block_rows = plan.block_rows or self._fit_rows()
        self.norms = _measure_norms(self.queries, 0, "queries")
        self.lists = _Lists(
            self.queries.new_full((len(queries), k), -torch.inf), self.exclude.new_full((len(queries), k), NONE)
        )
        self.ceilings = torch.full_like(self.norms, -torch.inf, dtype=torch.float64)
        self.max_norm = 0.0

    def find(self) -> _Lists:
        """The exact lists of all queries."""
        block = None
        for block in self._read_blocks():
            for first in range(0, len(self.queries), self.tile_rows):
                self._search_tile(block, slice(first, first + self.tile_rows))
        unresolved = (_round(self.ceilings) >= self.lists.values[:, -1]) & (self.ceilings > -torch.inf)
        queries = unresolved.nonzero()[:, 0]
        if len(queries):
            kept = [block] if block is not None and len(block.vectors) == len(self.base) else None
            del block  # before another is made
            self._search_again(queries, kept or self._read_blocks())
        return self.lists

    def _fit_rows(self) -> int:
        """How many rows of the base fit on the device at once: in float32, rounded, and rounded of the block before."""
        room = BASE_SHARE * (count_free_bytes(self.device) - 2 * self.work_bytes)
        row_bytes = self.base.shape[1] * (4 + 2 * self.dtype.itemsize) + 8
        return max(1, min(len(self.base), int(room / row_bytes)))

    def _read_blocks(self) -> Iterator[_Block]:
        """The base, block by block: each overwrites the one before."""
        whole = self.queries.new_empty(min(self.block_rows, len(self.base)), self.base.shape[1])
        for start in range(0, len(self.base), self.block_rows):
            vectors = whole[: len(self.base) - start]
            fill_rows(vectors, self.base, start)
            max_norm = _measure_norms(vectors, start, "base").amax()
            block = _Block(vectors, start, round_vectors(vectors, max_norm, self.dtype), float(max_norm))
            self.max_norm = max(self.max_norm, block.max_norm)
            yield block

    def _search_tile(self, block: _Block, tile: slice) -> None:
        """Candidates of a tile of queries in a block, re-scored and merged into their lists."""
        queries, count = self.queries[tile], min(self._count_candidates(), len(block.vectors))
        columns = max(4 * count, self.work_bytes // (len(queries) * self.dtype.itemsize))
        rounded = round_vectors(queries, self.norms[tile], self.dtype)
        found = propose(rounded, block.rounded, count, columns)
        values, rows = _round(self._settle(queries, block.vectors, found.rows)), found.rows + block.start
        values.masked_fill_(rows == self.exclude[tile, None], -torch.inf)
        best = _best(torch.cat([self.lists.values[tile], values], 1), torch.cat([self.lists.rows[tile], rows], 1))
        for kept, whole in zip(best, self.lists, strict=True):
            whole[tile] = kept[:, : self.k]
        self.ceilings[tile] = torch.maximum(self.ceilings[tile], found.ceilings)

    def _count_candidates(self) -> int:
        """More than k: few enough to cost little, enough that the k-th rank is nearly always certain."""
        return self.k + 9 if self.dtype == torch.float32 else self.k + self.k // 4 + 33

    def _settle(self, queries: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
        """The inner products of each query (T, D) with its candidates (T, F), summed in float64, (T, F)."""
        products = torch.empty_like(rows, dtype=torch.float64)
        step = max(1, self.work_bytes // (16 * rows.shape[1] * max(1, vectors.shape[1])))
        for start in range(0, len(queries), step):
            at = slice(start, start + step)
            chosen = vectors[rows[at]].double()
            products[at] = torch.bmm(chosen, queries[at].double()[:, :, None])[..., 0]
        return products

    def _search_again(self, queries: Tensor, blocks: Iterable[_Block]) -> None:
        """The lists of these queries from every row that can reach their k-th value, by products in float32."""
        width = self.base.shape[1]
        kth = self.lists.values[queries, -1].double()
        error = 4 * (width + 1) * ROUNDOFF * self.norms[queries].double() * self.max_norm
        least = (kth - error - 2 * 10.0**-DECIMALS).float()
        for whole, empty in zip(self.lists, (-torch.inf, NONE), strict=True):
            whole[queries] = empty
        for block in blocks:
            columns = min(len(block.vectors), SCANNED_VALUES)
            rows = max(1, SCANNED_VALUES // columns)
            for column in range(0, len(block.vectors), columns):
                vectors = block.vectors[column : column + columns]
                for first in range(0, len(queries), rows):
                    at = slice(first, first + rows)
                    near = (self.queries[queries[at]] @ vectors.T >= least[at, None]).nonzero()
                    self._add_pairs(queries[at], near[:, 0], near[:, 1], vectors, block.start + column)

    def _add_pairs(self, queries: Tensor, which: Tensor, at: Tensor, vectors: Tensor, start: int) -> None:
        """Merge P rows into the lists of some queries (n,). which (P,): positions of the queries; at (P,): vectors."""
        size = max(1, self.work_bytes // (32 * max(1, vectors.shape[1])))
        parts = [
            tensor_products(self.queries, vectors, queries[some], rows)
            for some, rows in zip(which.split(size), at.split(size), strict=True)
        ]
        values, rows = _round(torch.cat(parts)), at + start
        values.masked_fill_(rows == self.exclude[queries[which]], -torch.inf)
        own = torch.arange(len(queries), device=self.device).repeat_interleave(self.k)
        which, values, rows = (
            torch.cat([one, other.flatten()])
            for one, other in zip((which, values, rows), (own, *(whole[queries] for whole in self.lists)), strict=True)
        )
        order = rows.argsort(stable=True)
        order = order[values[order].argsort(stable=True, descending=True)]
        order = order[which[order].argsort(stable=True)]
        starts = torch.searchsorted(which[order], torch.arange(len(queries), device=self.device))
        kept = order[(starts[:, None] + torch.arange(self.k, device=self.device)).flatten()]  # each query has k or more
        self.lists.values[queries] = values[kept].view(-1, self.k)
        self.lists.rows[queries] = rows[kept].view(-1, self.k)


def _measure_norms(vectors: Tensor, start: int, name: str) -> Tensor:
    """The norms (n,) of the vectors from row `start` on, float32. ValueError names the first that is not finite."""
    norms = torch.empty_like(vectors[:, 0])
    for first in range(0, len(vectors), NORM_ROWS):
        norms[first : first + NORM_ROWS] = vectors[first : first + NORM_ROWS].square().sum(1).sqrt_()
    finite = norms.isfinite()
    if not finite.all():
        row = start + int((~finite).int().argmax())
        raise ValueError(f"row {row} of the {name} is not finite (NaN, infinite, or too long for float32)")
    return norms


def _round(values: Tensor) -> Tensor:
    """float64 rounded to 6 decimals, then to float32, as the search on a CPU rounds."""
    return (values.round(decimals=DECIMALS) + 0.0).float()


def _best(values: Tensor, rows: Tensor) -> _Lists:
    """Each list (T, F) by descending value, then ascending row."""
    rows, order = rows.sort(1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return _Lists(values, rows.gather(1, order))
