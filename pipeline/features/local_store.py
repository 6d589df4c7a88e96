"""Local features of many images: one packed file per array, read by row with a single slice of each.

Only the directions of descriptors are stored, in one of three formats that a reader recognises by the dtype:

    float16  256 bytes for 128 dimensions
    int8     128 bytes; each vector is scaled so that its greatest absolute component is 127
    bits      16 bytes; the signs, packed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.arrays import Floats, Integers
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.features.store import Arrays

DIMENSIONS = 128
TINY = np.finfo(np.float32).tiny  # less than the length of any vector but zero


class LocalFeatures(NamedTuple):
    """The keypoints of one image.

    points (n, 2) x, y in pixels; scales (n,); attention (n,); descriptors (n, D) L2-normalised.
    """

    points: Floats
    scales: Floats
    attention: Floats
    descriptors: Floats


NO_FEATURES = LocalFeatures(*(np.zeros(shape, np.float32) for shape in [(0, 2), (0,), (0,), (0, DIMENSIONS)]))


def encode_descriptors(descriptors: Floats, storage: str) -> NDArray:
    """The directions of descriptors (n, D) in a storage format: (n, D) float16 or int8, or (n, D / 8) uint8.

    A zero vector stays zero in float16 and int8; in bits, where 0 and -0 count as positive, it becomes the diagonal.
    Raises ValueError for an unknown format, for values that are not finite, and for bits if 8 does not divide D.
    """
    if storage not in ENCODE:
        raise ValueError(f"descriptors cannot be stored as {storage}; known: {', '.join(ENCODE)}")
    if not np.isfinite(descriptors).all():
        raise ValueError("descriptors hold values that are not finite")
    return ENCODE[storage](descriptors.astype(np.float32, copy=False))


def decode_descriptors(stored: NDArray) -> Floats:
    """Stored descriptors as L2-normalised float32 vectors (n, D); the dtype tells the format.

    From float16 the norm is 1 within 2**-11, the rounding error of storage: the angles between vectors have the same
    error, and normalising again would double the time. From int8 and bits it is 1 in float32. A vector that was stored
    as zeros comes back as zeros. int8 is decoded on torch.get_num_threads() threads, the others on the caller's.
    """
    if stored.dtype not in DECODE:
        raise ValueError(f"no storage format of descriptors has the dtype {stored.dtype}")
    return DECODE[stored.dtype](stored)


def as_stored(features: LocalFeatures, storage: str) -> LocalFeatures:
    """The features of an image as a store in this format gives them back."""
    return features._replace(descriptors=decode_descriptors(encode_descriptors(features.descriptors, storage)))


def pack(features: Sequence[LocalFeatures], storage: str) -> Arrays:
    """The features of consecutive images as `write_ragged_in_shards` expects them, "counts" included.

    Raises ValueError if the arrays of an image disagree about the number of keypoints.
    """
    for at, image in enumerate(features):
        lengths = [len(array) for array in image]
        if len(set(lengths)) > 1:
            raise ValueError(f"image {at} has {lengths} points, scales, attention values and descriptors")
    whole = [NO_FEATURES, *features]  # gives dtypes and shapes even without any image
    points, scales, attention = (
        np.concatenate(arrays, dtype=np.float32) for arrays in list(zip(*whole, strict=True))[:3]
    )
    return {
        "counts": np.array([len(image.points) for image in features], np.int64),
        "points": points,
        "scales": scales,
        "attention": attention,
        "descriptors": np.concatenate([encode_descriptors(image.descriptors, storage) for image in whole]),
    }


class LocalStore:
    """The features of a split by row: `store[row]`, from any number of threads.

    The files stay on disk, memory-mapped; only the offsets are in memory. A pickled copy opens the files again.
    """

    def __init__(self, folder: Path):
        """Open points, scales, attention, descriptors and offsets .npy; raises PipelineError if they disagree."""
        self.folder = folder
        self._offsets = np.array(_open(folder, "offsets", 1, np.int64))
        if len(self._offsets) == 0 or self._offsets[0] != 0 or (np.diff(self._offsets) < 0).any():
            raise _damage("offsets do not rise from 0", folder / "offsets.npy")
        self._points = _open(folder, "points", 2, np.float32)
        self._scales = _open(folder, "scales", 1, np.float32)
        self._attention = _open(folder, "attention", 1, np.float32)
        self._descriptors = _open(folder, "descriptors", 2, *DECODE)
        keypoints = int(self._offsets[-1])
        for name in LocalFeatures._fields:
            if (length := len(getattr(self, f"_{name}"))) != keypoints:
                raise _damage(f"{length} {name} where offsets end at {keypoints}", folder / f"{name}.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> LocalFeatures:
        """The features of a row, as copies; raises IndexError outside 0 to len - 1."""
        at = self._slice(row)
        return LocalFeatures(
            self._points[at].copy(),
            self._scales[at].copy(),
            self._attention[at].copy(),
            decode_descriptors(self._descriptors[at]),
        )

    def __reduce__(self) -> tuple[type[LocalStore], tuple[Path]]:
        return type(self), (self.folder,)

    @property
    def counts(self) -> Integers:
        """Number of keypoints of every row, (rows,); 0 for an image without features."""
        return np.diff(self._offsets)

    def stored_descriptors(self, row: int) -> NDArray:
        """The descriptors of a row in their storage format, read-only and not copied."""
        return self._descriptors[self._slice(row)]

    def stored_points(self, row: int) -> Floats:
        """The points of a row, read-only and not copied."""
        return self._points[self._slice(row)]

    def _slice(self, row: int) -> slice:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} in {self.folder}")
        return slice(self._offsets.item(row), self._offsets.item(row + 1))


def _open(folder: Path, name: str, dimensions: int, *dtypes: np.typing.DTypeLike) -> NDArray:
    """A memory-mapped array as a plain one: a slice of a numpy.memmap takes nine times as long."""
    path = folder / f"{name}.npy"
    try:
        array = np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError) as error:
        raise _damage(f"{name} cannot be read: {error}", path) from error
    if array.ndim != dimensions or array.dtype not in dtypes:
        raise _damage(
            f"{name} has dtype {array.dtype} and shape {array.shape}, which no store of local features holds", path
        )
    return array


def _damage(what: str, where: Path) -> PipelineError:
    return PipelineError(f"the local features are inconsistent: {what}", where, "delete the folder and extract again")


def _to_halves(descriptors: Floats) -> NDArray[np.float16]:
    return _normalise(descriptors.copy()).astype(np.float16)


def _from_halves(stored: NDArray[np.float16]) -> Floats:
    if len(stored) == 0:  # OpenCV refuses empty arrays
        return stored.astype(np.float32)
    import cv2  # here: verification on a GPU needs only torch and numpy

    # About 15 times as fast as numpy's conversion, and unlike torch's it starts no threads of its own.
    return np.asarray(cv2.convertFp16(np.ascontiguousarray(stored).view(np.int16)), np.float32)


def _to_bytes(descriptors: Floats) -> NDArray[np.int8]:
    greatest = np.abs(descriptors).max(axis=1, keepdims=True, initial=0)
    return np.rint(127 * (descriptors / np.where(greatest > 0, greatest, 1))).astype(np.int8)


def _from_bytes(stored: NDArray[np.int8]) -> Floats:
    return _normalise(stored.astype(np.float32))


def _to_bits(descriptors: Floats) -> NDArray[np.uint8]:
    if descriptors.shape[1] % 8:
        raise ValueError(f"descriptors of {descriptors.shape[1]} dimensions do not fill whole bytes of bits")
    return np.packbits(descriptors >= 0, axis=1)


def _from_bits(stored: NDArray[np.uint8]) -> Floats:
    return np.take(_sign_table(8 * stored.shape[1]), stored, axis=0).reshape(len(stored), 8 * stored.shape[1])


@cache
def _sign_table(dimensions: int) -> Floats:
    """The eight components that each byte encodes, (256, 8)."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return ((2.0 * bits - 1) / np.sqrt(dimensions)).astype(np.float32)


def _normalise(vectors: Floats) -> Floats:
    """L2-normalise the vectors in place; zero vectors stay zero."""
    norms = np.sqrt(np.vecdot(vectors, vectors))
    np.maximum(norms, TINY, out=norms)
    # Products are faster than quotients, and torch's with a column four times as fast as numpy's, with the same bits.
    torch.from_numpy(vectors).mul_(torch.from_numpy((1 / norms)[:, None]))
    return vectors


ENCODE: dict[str, Callable[[Floats], NDArray]] = {"float16": _to_halves, "int8": _to_bytes, "bits": _to_bits}
DECODE: dict[np.dtype, Callable[[NDArray], Floats]] = {
    np.dtype(np.float16): _from_halves,
    np.dtype(np.int8): _from_bytes,
    np.dtype(np.uint8): _from_bits,
}
