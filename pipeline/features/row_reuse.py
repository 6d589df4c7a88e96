"""Rows of the published artifact that are taken over into the next one, so that adding images costs what is added.

Every artifact that is made of a split's images holds row_keys.npy: a digest per row of all that the row is made from
beside the network, the settings and the code. The runner names the published artifact only when these are unchanged; a
row whose key is in it is copied, and any other is computed. On a CPU the bytes are those of computing all of them,
because each image is computed by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import NONE, Integers, Mask
from pipeline.competition.listing import UNREADABLE
from pipeline.features.store import COUNTS, OFFSETS, Arrays
from pipeline.images.rejection import read_rejected
from pipeline.images.split import BOX_COLUMNS, Split

ROW_KEYS = "row_keys.npy"
KEY_BYTES = 16
ROWS_AT_A_TIME = 65_536  # whose values are Python objects: those of millions would take gigabytes
MakeRows = Callable[[Integers], Arrays]


def key_rows(split: Split, wanted: Mask | None = None) -> NDArray[np.uint8]:
    """Digests (N, 16) uint8 of what each row depends on: id, content, size and box of the image, and wanted (N,)."""
    if split.digests is None:
        raise ValueError("rows have keys only by the digests of their photographs")
    asked = np.ones(len(split), np.bool_) if wanted is None else wanted
    keys = np.empty((len(split), KEY_BYTES), np.uint8)
    for start in range(0, len(split), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        table = split.table.iloc[part]
        columns = [table[name].tolist() for name in ("id", "width", "height", *BOX_COLUMNS)]
        digests = b"".join(
            hashlib.blake2b(repr(values).encode(), digest_size=KEY_BYTES).digest()
            for values in zip(split.digests[part], asked[part].tolist(), *columns, strict=True)
        )
        keys[part] = np.frombuffer(digests, np.uint8).reshape(-1, KEY_BYTES)
    return keys


class PublishedRows:
    """The rows of a published artifact that an artifact with these keys can take over.

    rows: (N,) the row there, NONE for a row that is to be computed: of a new or changed image, and of one that could
    not be read. Memory: the keys; the arrays are mapped.
    """

    def __init__(self, folder: Path, split: Split, keys: NDArray[np.uint8]):
        self.rows = _match(np.load(folder / ROW_KEYS), keys)
        unreadable = np.array([digest == UNREADABLE for digest in split.digests or ()], np.bool_)
        self.rows[unreadable | np.isin(self.rows, read_rejected([folder]))] = NONE
        files = [path for path in sorted(folder.glob("*.npy")) if path.name != ROW_KEYS]
        self._arrays = {path.stem: np.load(path, mmap_mode="r") for path in files}
        self._offsets = self._arrays.pop(OFFSETS, None)

    @property
    def count(self) -> int:
        """The number of rows that are taken over."""
        return int((self.rows != NONE).sum())

    def complete(self, start: int, stop: int, make: MakeRows) -> Arrays:
        """The arrays of the rows start to stop: taken over where they can be, the others by make(rows)."""
        here = self.rows[start:stop]
        missing = np.flatnonzero(here == NONE)
        if len(missing) == len(here):
            return make(start + missing)
        made = make(start + missing) if len(missing) else {}
        merge = self._merge if self._offsets is None else self._merge_ragged
        return merge(here, missing, made)

    def _merge(self, here: Integers, missing: Integers, made: Arrays) -> Arrays:
        merged = {}
        for name, published in self._arrays.items():
            merged[name] = np.array(published[here])  # NONE reads the last row, which is then replaced
            if len(missing):
                merged[name][missing] = made[name]
        return merged

    def _merge_ragged(self, here: Integers, missing: Integers, made: Arrays) -> Arrays:
        assert self._offsets is not None
        counts = np.diff(self._offsets)[here]
        if len(missing):
            counts[missing] = made[COUNTS]
        ends = np.cumsum(made.get(COUNTS, []), dtype=np.int64)
        spans = {row: (end - count, end) for row, end, count in zip(missing, ends, counts[missing], strict=True)}
        merged = {COUNTS: counts}
        for name, published in self._arrays.items():
            merged[name] = np.concatenate(
                [
                    published[self._offsets[row] : self._offsets[row + 1]]
                    if row != NONE
                    else made[name][slice(*spans[at])]
                    for at, row in enumerate(here)
                ]
            )
        return merged


def _match(known: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Integers:
    """The row of `known` that equals each key, NONE where none does."""
    if not len(known) or not len(keys):
        return np.full(len(keys), NONE, np.int64)
    whole = np.dtype((np.void, KEY_BYTES))
    old, new = (np.ascontiguousarray(values).view(whole)[:, 0] for values in (known, keys))
    order = np.argsort(old)
    at = order[np.searchsorted(old, new, sorter=order).clip(max=len(old) - 1)]
    return np.where((known[at] == keys).all(axis=1), at, NONE)
