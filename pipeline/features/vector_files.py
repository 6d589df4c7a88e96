"""A split's descriptors as files for other programs, which `external` reads back.

    <split>.npy       (n, D) float32, L2-normalised
    <split>.parquet   id, row of the matrix, path below the data folder and, where it is known, landmark
    <split>_ids.txt   one id a line, in the order of the rows; where an id has spaces, <split>_ids.csv

Images without a descriptor, whose row is zero, are in none of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.arrays import Integers, Vectors
from pipeline.errors import PipelineError

BLOCK_ROWS = 8_192  # vectors in memory at a time
COLUMNS = ("id", "row", "path", "landmark")


def write_vectors(folder: Path, split: str, vectors: Vectors, table: pd.DataFrame) -> int:
    """Write the files of a split to `folder`; the number of rows that they have.

    vectors: (N, D), in memory or mapped. table: the split's images, one per vector. Memory: the table and one block.
    Raises PipelineError for another number of images than vectors.
    """
    if len(table) != len(vectors):
        what = f"{len(vectors)} descriptors of {len(table)} images"
        raise PipelineError(what, f"split {split}", "run the stages again")
    rows = find_present(vectors)
    with open(folder / f"{split}.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), vectors.shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), BLOCK_ROWS):
            file.write(np.ascontiguousarray(vectors[rows[start : start + BLOCK_ROWS]], "<f4").data)
    kept = table.iloc[rows].assign(row=np.arange(len(rows)))
    kept[[name for name in COLUMNS if name in kept]].to_parquet(folder / f"{split}.parquet", index=False)
    _write_ids(folder, split, kept["id"])
    return len(rows)


def find_present(vectors: Vectors) -> Integers:
    """The rows (n,) that are not zero, ascending. Memory: one block."""
    starts = range(0, len(vectors), BLOCK_ROWS)
    present = [np.flatnonzero(vectors[start : start + BLOCK_ROWS].any(axis=1)) + start for start in starts]
    return np.concatenate([np.zeros(0, np.int64), *present])


def _write_ids(folder: Path, split: str, ids: pd.Series) -> None:
    if ids.str.contains(r"\s").any():  # a text file is read word by word
        return ids.to_csv(folder / f"{split}_ids.csv", index=False)
    (folder / f"{split}_ids.txt").write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
