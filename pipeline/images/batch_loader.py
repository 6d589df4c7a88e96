"""The processes that load planned batches, in the order of the plan, one plan after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pipeline.arrays import Doubles, Integers
from pipeline.errors import PipelineError
from pipeline.images.augment import Augmenter
from pipeline.images.batches import PlannedBatch
from pipeline.images.decode import UndecodableImage, crop_photograph, decode_photograph, resize_photograph
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.processes import leave_signals_to_parent
from pipeline.shortages import LOADERS, explaining_shortages

OnBad = Callable[[int, str], None]  # row, reason


def by_position(rows: Integers, on_bad: OnBad) -> OnBad:
    """`on_bad` told of the position in `rows`, ascending, in place of the row."""
    return lambda row, reason: on_bad(int(np.searchsorted(rows, row)), reason)


def load_batches(
    paths: Sequence[Path],
    plan: Iterable[PlannedBatch],
    augmenter: Augmenter | None = None,
    workers: int = 0,
    boxes: Doubles | None = None,
    on_bad: OnBad | None = None,
) -> Iterator[LoadedBatch]:
    """The batches of one plan, as a `BatchLoader` loads them whose processes end with the plan."""
    with BatchLoader(paths, augmenter, workers, boxes) as loader:
        yield from loader.load(plan, on_bad)


class BatchLoader:
    """Processes that load batches of a set of images, one plan after another, until the loader is closed.

    They start with the first plan and wait between plans. workers: how many; 0 = the calling thread loads. boxes:
    (N, 4), the region of each image to load, in its pixels; None = whole images.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        augmenter: Augmenter | None = None,
        workers: int = 0,
        boxes: Doubles | None = None,
    ):
        self._paths, self._requests = paths, _Requests()
        self._loader: DataLoader | None = DataLoader(
            _Photographs(paths, augmenter, boxes),
            sampler=self._requests,  # any iterable; torch reads it a few batches ahead
            batch_size=None,
            num_workers=workers,
            collate_fn=_unchanged,
            worker_init_fn=_one_thread,
            pin_memory=torch.cuda.is_available(),  # without it a copy to a GPU waits for the GPU
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # otherwise making a loader would advance the global generator
        )
        self._batches: Iterator[LoadedBatch | PipelineError] | None = None

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. A batch that was loaded stays valid."""
        self._loader = self._batches = None  # the last references: no frame of an error may hold another

    def load(
        self,
        plan: Iterable[PlannedBatch],
        on_bad: OnBad | None = None,
        following: Sequence[PlannedBatch] | None = None,
    ) -> Iterator[LoadedBatch]:
        """The planned batches, loaded, in the order of the plan, whatever the number of processes.

        Each batch is loaded by one process, without collation, and the plan travels with the request. A plan that is
        not read to its end is dropped by the next one.
        following: the plan that is likely the next. The processes begin it when they have nothing else to do; it is
        dropped unless the next call gives the same object.
        on_bad: called with the row and the reason of each image that cannot be decoded; its batch lacks the image and
        may be empty. Without it such an image raises PipelineError (exit code 3) that names the file. Raises
        PipelineError that says why a process ended.
        """
        if self._loader is None:
            raise ValueError("this loader is closed")
        with explaining_shortages(LOADERS):
            if self._batches is None or not self._requests.go_on(plan, following):
                self._requests.begin(plan, following)
                self._batches = iter(self._loader)
            while self._batches is not None and not self._requests.is_read():
                if (batch := next(self._batches, None)) is None:
                    break
                self._requests.read += 1
                if isinstance(batch, PipelineError):  # a shortage in a loading process
                    raise batch
                for row, reason in batch.bad:
                    if on_bad is None:
                        what = f"a photograph cannot be read: {reason}"
                        raise PipelineError(what, self._paths[row], "restore the file", 3)
                    on_bad(row, reason)
                yield batch


class _Requests:
    """What the processes are asked for: the batches of a plan, and then, if it is known, those of the one after it.

    A loader reads it once for every `begin`. It ends where nothing is left to ask for, and may have more later.
    """

    def __init__(self) -> None:
        self.begin((), None)

    def begin(self, plan: Iterable[PlannedBatch], following: Sequence[PlannedBatch] | None) -> None:
        """Start a new plan; nothing is under way."""
        self._asking, self.read, self._ahead = iter(plan), 0, 0
        self._expect(plan, following)

    def go_on(self, plan: Iterable[PlannedBatch], following: Sequence[PlannedBatch] | None) -> bool:
        """Whether the plan is the one that was begun ahead, after all of the one before was read; then it goes on."""
        if plan is not self._following or not self._ahead or not self.is_read():
            return False
        self._asking, self.read, self._ahead = self._asking_ahead, 0, 0
        self._expect(plan, following)
        return True

    def _expect(self, plan: Iterable[PlannedBatch], following: Sequence[PlannedBatch] | None) -> None:
        self._length = len(plan) if following is not None and isinstance(plan, Sequence) else None
        self._following = following if self._length is not None else None
        self._asking_ahead = iter(self._following or ())

    def is_read(self) -> bool:
        """Whether all batches of a plan were read that another one follows; any other ends by itself."""
        return self._length is not None and self.read == self._length

    def __iter__(self) -> Iterator[PlannedBatch]:
        return self

    def __next__(self) -> PlannedBatch:
        if (planned := next(self._asking, None)) is None:
            planned = next(self._asking_ahead)
            self._ahead += 1
        return planned


@dataclass(frozen=True)
class _Photographs(Dataset):
    """Indexed by a PlannedBatch. Unreadable images are returned as values: an error would end the loading process."""

    paths: Sequence[Path]
    augmenter: Augmenter | None
    boxes: Doubles | None = None

    def __getitem__(self, planned: PlannedBatch) -> LoadedBatch | PipelineError:
        width, height = planned.size
        images = np.empty((len(planned.rows), height, width, 3), np.uint8)
        rows: list[int] = []
        bad: list[tuple[int, str]] = []
        for row in planned.rows.tolist():
            try:
                self._load(row, planned, images[len(rows)])
                rows.append(row)
            except UndecodableImage as error:
                bad.append((row, str(error)))
        channels_first = torch.from_numpy(images[: len(rows)]).permute(0, 3, 1, 2)
        return _share(LoadedBatch(channels_first, torch.tensor(rows, dtype=torch.int64), tuple(bad)))

    def _load(self, row: int, planned: PlannedBatch, into: np.ndarray) -> None:
        path = Path(self.paths[row])
        if self.boxes is None:
            image = decode_photograph(path, wanted=planned.size)
        else:
            image = crop_photograph(decode_photograph(path), tuple(self.boxes[row].tolist()))
        resize_photograph(image, planned.size, into)
        if self.augmenter is not None and planned.epoch is not None:
            into[:] = self.augmenter(into, planned.epoch, row)


def _unchanged(batch: object) -> object:
    return batch


def _share(batch: LoadedBatch) -> LoadedBatch | PipelineError:
    """The batch in shared memory, if this is a loading process.

    Without this the thread that sends it would put it there: what fails in that thread is printed, and the parent waits
    for ever.
    """
    if get_worker_info() is None:
        return batch
    try:
        with explaining_shortages(LOADERS):
            for tensor in (batch.images, batch.rows):
                tensor.share_memory_()
    except PipelineError as error:
        return error
    return batch


def _one_thread(_worker: int) -> None:
    leave_signals_to_parent()
    cv2.setNumThreads(0)  # the processes are the parallelism; threads in each of them would only compete
