"""Descriptors that other code made: a folder with a matrix per split and the ids of its rows, in place of a network.

    <split>.npy       (N, D) float16 or float32, of any length per row but zero
    <split>_ids.txt   one id a line; or <split>_ids.csv or <split>_ids.parquet, with a column id

The rows may be in any order, and of more images than the data has. All matrices have the same D.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.arrays import Floats, Integers, Vectors
from pipeline.competition.records import read_records
from pipeline.errors import PipelineError
from pipeline.features.store import Arrays, write_sharded
from pipeline.images.rejection import REJECTED, combine_rejected
from pipeline.task_context import TaskContext

NAMED = 5  # ids that a message names; the others are counted
SHARD_ROWS = 8_192  # rows in memory at a time, and the most that a kill can cost
UNIT_TOLERANCE = 1e-6  # float32 rows this near to unit length are kept bit for bit
ID_HINT = "write <split>_ids.txt, one id a line in the order of the rows, or .csv or .parquet with a column id"
log = logging.getLogger("cairn.features")


class ExternalMatrix(NamedTuple):
    """The descriptors (N, D) of one split, mapped, and the ids of their rows."""

    path: Path
    vectors: Vectors
    ids: list[str]


def write_external_descriptors(
    task: TaskContext, folder: Path, split: str, splits: Sequence[str], ids: Sequence[str], rejected: Collection[str]
) -> None:
    """Write descriptors.npy, (N, D) float32, L2-normalised, in the order of `ids`, and rejected.csv, without a row.

    splits: all that the run reads, whose matrices must have the same D. ids: of the split's images. rejected: ids of
    files that stage 01 left out; what the folder has for them is ignored. A split without images needs no matrix.
    Memory: the ids and one shard. Raises PipelineError for a folder that is not as this module describes, for ids that
    are missing or repeated, and for rows that are zero or not finite.
    """
    dims = _require_one_width(folder, splits)
    combine_rejected([]).to_csv(task.folder / REJECTED, index=False, lineterminator="\n")
    task.facts |= {"rows": len(ids), "rejected": {"count": 0, "first": []}}
    if not len(ids):
        return np.save(task.folder / "descriptors.npy", np.zeros((0, dims), np.float32))
    matrix = open_matrix(folder, split)
    rows = locate_ids(ids, matrix, rejected)

    def make(start: int, stop: int) -> Arrays:
        return {"descriptors": normalise_rows(matrix.vectors[rows[start:stop]], ids[start:stop], matrix.path)}

    return write_sharded(task, len(ids), SHARD_ROWS, make, "photographs")


def open_matrix(folder: Path, split: str) -> ExternalMatrix:
    """The descriptors of a split. Raises PipelineError unless each row of the matrix has an id."""
    path = folder / f"{split}.npy"
    vectors = _map_vectors(path)
    listed, ids = _read_ids(folder, split)
    if len(ids) != len(vectors):
        raise PipelineError(
            f"{len(ids)} ids for the {len(vectors)} rows of {path.name}", listed, "write one id per row, in their order"
        )
    return ExternalMatrix(path, vectors, ids)


def locate_ids(ids: Sequence[str], matrix: ExternalMatrix, rejected: Collection[str] = ()) -> Integers:
    """The row of the matrix (N,) that belongs to each id.

    Raises PipelineError for ids that are missing in the matrix, or twice in it. Ids that are neither asked for nor
    rejected are named in a warning.
    """
    known = pd.Index(matrix.ids, dtype=object)
    twice = known[known.duplicated()].unique()
    if len(twice):
        raise PipelineError(f"{_name(twice)} have more than one row", matrix.path, "write one row per photograph")
    asked = pd.Index(list(ids), dtype=object)
    rows = known.get_indexer(asked)
    missing = asked[rows < 0]
    if len(missing):
        raise PipelineError(
            f"no descriptor of {_name(missing)}, of {len(ids)} photographs; the first id there is {matrix.ids[:1]}",
            matrix.path,
            "describe these photographs too; the ids are those of the data set's tables",
        )
    extra = known.difference(asked, sort=False).difference(pd.Index(list(rejected), dtype=object), sort=False)
    if len(extra):
        log.warning("%s: no photograph of the data has %s; their rows are not used", matrix.path, _name(extra))
    return rows.astype(np.int64)


def normalise_rows(vectors: Vectors, ids: Sequence[str], where: Path) -> Floats:
    """The vectors (n, D) with unit length, float32; rows that have it already are returned bit for bit.

    Each row is computed by itself, in float64. Raises PipelineError with the ids of rows that are zero or not finite.
    """
    exact = np.asarray(vectors, np.float64)
    lengths = np.sqrt(np.square(exact).sum(axis=1))
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0)).tolist()
    if len(bad):
        raise PipelineError(
            f"the descriptors of {_name([ids[row] for row in bad])} are zero or not finite", where,
            "compute them again; float16 overflows above 65504",
        )  # fmt: skip
    lengths[np.abs(lengths - 1.0) <= UNIT_TOLERANCE] = 1.0
    return (exact / lengths[:, None]).astype(np.float32)


def _require_one_width(folder: Path, splits: Sequence[str]) -> int:
    """D of the matrices of the splits; one without a matrix is passed over. Raises PipelineError where they differ."""
    widths = {split: _map_vectors(path).shape[1] for split in splits if (path := folder / f"{split}.npy").is_file()}
    if not widths:
        wanted = ", ".join(f"{split}.npy" for split in splits)
        raise PipelineError(f"a folder of descriptors without {wanted}", folder, "give models.<name>.descriptors")
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{split}.npy has {width}" for split, width in widths.items())
        raise PipelineError(
            f"descriptors of different dimensions: {found}", folder, "describe all splits by one network"
        )
    return next(iter(widths.values()))


def _map_vectors(path: Path) -> Vectors:
    """The matrix in a file, mapped. Raises PipelineError for anything but (N, D) float16 or float32 with D > 0."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise PipelineError("no descriptors of this split", path, "write them as (N, D) float16 or float32") from None
    except (OSError, ValueError, EOFError) as error:
        raise PipelineError(
            f"this is no array: {error}", path, "write it by numpy.save, as float16 or float32"
        ) from error
    is_matrix = isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.shape[1] > 0
    if not is_matrix or vectors.dtype not in (np.dtype(np.float16), np.dtype(np.float32)):
        found = f"{vectors.dtype}{vectors.shape}" if isinstance(vectors, np.ndarray) else "an archive of arrays"
        raise PipelineError(f"{found} are no descriptors", path, "write (N, D) float16 or float32, one row an image")
    return vectors


def _read_ids(folder: Path, split: str) -> tuple[Path, list[str]]:
    """The file of ids of a split, and what it lists."""
    found = [path for ending in ("txt", "csv", "parquet") if (path := folder / f"{split}_ids.{ending}").is_file()]
    if len(found) != 1:
        what = f"{len(found)} files of ids of {split}" if found else f"no ids of {split}"
        raise PipelineError(what, folder, ID_HINT if not found else "keep one of them")
    path = found[0]
    try:
        if path.suffix == ".parquet":
            return path, pd.read_parquet(path, columns=["id"])["id"].astype(str).tolist()
        if path.suffix == ".csv":
            return path, [cell for _, (cell,) in read_records(path, ("id",))]
        return path, path.read_text(encoding="utf-8-sig").split()
    except (OSError, ValueError, KeyError) as error:
        raise PipelineError(f"the ids cannot be read: {error}", path, ID_HINT) from error


def _name(ids: Sequence[str] | pd.Index) -> str:
    """The number of ids and the first of them."""
    return f"{len(ids)} ids ({', '.join(map(repr, ids[:NAMED]))}{', …' * (len(ids) > NAMED)})"
