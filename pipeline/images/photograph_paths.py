"""The files of many images as one array of characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Integers


class PhotographPaths(Sequence[Path]):
    """The file of each of N images, which lie below one folder or have absolute names. Paths are made as asked for.

    Millions of `Path` objects would take more than a gigabyte, and a loader process that was forked copies every page
    of them, since looking at an object counts a reference to it. Two arrays are shared between processes.
    """

    def __init__(self, root: Path, characters: NDArray[np.uint8], ends: Integers):
        """characters: (C,) the UTF-8 of all names below `root`. ends: (N + 1,) int64, where each begins and ends."""
        self.root, self._characters, self._ends = root, characters, ends

    @classmethod
    def from_names(cls, root: Path, names: Iterable[str]) -> PhotographPaths:
        """The files of these names. A column of a table is not copied where it is an Arrow array."""
        import pyarrow

        strings = pyarrow.array(names, pyarrow.large_string())
        if isinstance(strings, pyarrow.ChunkedArray):
            strings = strings.combine_chunks()
        _, offsets, characters = strings.buffers()
        if not len(strings):
            return cls(root, np.zeros(0, np.uint8), np.zeros(1, np.int64))
        ends = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
        return cls(root, np.frombuffer(characters or b"", np.uint8), ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> Path: ...

    @overload
    def __getitem__(self, at: slice) -> PhotographPaths: ...

    def __getitem__(self, at: int | slice) -> Path | PhotographPaths:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                raise ValueError("a part of the paths is one run of images")
            return PhotographPaths(self.root, self._characters, self._ends[start : max(start, stop) + 1])
        row = range(len(self))[at]
        return self.root / self._characters[self._ends[row] : self._ends[row + 1]].tobytes().decode()
