"""The ranks of a run: processes on one host or several that torchrun has started, and what they tell each other.

The first rank judges what is stale, does the light work and publishes. In a shared task every rank runs the same code:
it claims pieces of the work one by one from a counter in torchrun's store, so that a slow rank holds nobody up and no
file system needs locks; only the folder of the run has to be the same for all. What follows the shared part is the
first rank's: for the others it ends in `PartDone`. A process without torchrun is the first rank of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from pipeline.errors import PipelineError

POLL_SECONDS = 0.05
JOIN_SECONDS = 600  # how long a rank waits for torchrun's store
END_SECONDS = 60  # how long a rank that cannot go on waits to be ended: torchrun does it within seconds
LOST_WORDS = re.compile(r"gloo/transport|NCCL|c10d|TCPStore|Connection (closed|reset) by peer")


class PartDone(BaseException):
    """Raised on every rank but the first when the shared part of a task is done. Not a failure."""


class Store(Protocol):
    """What is used of torch.distributed.Store: values by key, which all ranks see."""

    def set(self, key: str, value: str) -> object: ...
    def get(self, key: str) -> bytes: ...
    def add(self, key: str, amount: int) -> int: ...
    def check(self, keys: list[str]) -> bool: ...


class LocalStore:
    """The counters of a process that is alone."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, which starts at 0; its value."""
        self._values[key] = self._values.get(key, 0) + amount
        return self._values[key]


class Counter:
    """A number that starts at 0 and that all ranks add to."""

    def __init__(self, store: Store | LocalStore, key: str):
        self._store, self._key = store, key

    def add(self, amount: int) -> int:
        """Add `amount`; the new value."""
        return self._store.add(self._key, amount)

    def claim(self) -> int:
        """The next of the numbers 0, 1, 2 … that no rank has claimed."""
        return self.add(1) - 1

    @property
    def value(self) -> int:
        """The sum of all that was added."""
        return self.add(0)


class Share(NamedTuple):
    """One of `total` consecutive parts of a whole, which are equally long up to one; `number` counts from 0."""

    number: int
    total: int

    def bounds(self, length: int) -> tuple[int, int]:
        """The first row of the part and the row after its last, of `length` rows."""
        return length * self.number // self.total, length * (self.number + 1) // self.total


class Ranks:
    """This process among the ranks of its run. number: from 0, the first. count: of all ranks, on all hosts."""

    def __init__(self, number: int = 0, count: int = 1, store: Store | None = None):
        self.number, self.count, self.store = number, count, store
        self._counting: Store | LocalStore = store or LocalStore()
        self._task, self._counters = 0, 0

    @property
    def is_first(self) -> bool:
        """Whether this rank does what only one can do."""
        return self.number == 0

    def slice(self, rows: Any) -> Any:
        """This rank's consecutive part of a sequence; the parts are equally long up to one."""
        start, stop = Share(self.number, self.count).bounds(len(rows))
        return rows[start:stop]

    def announce(self, task: dict[str, Any] | None) -> None:
        """Tell the other ranks of a shared task, by plain JSON values; None: there will be no other."""
        self._begin_task()
        if self.store is not None:
            self.store.set(f"task/{self._task}", json.dumps(task))

    def announcements(self) -> Iterator[dict[str, Any]]:
        """The shared tasks that the first rank announces, as it does so."""
        assert self.store is not None
        while True:
            self._begin_task()
            self._wait_until(lambda: self.store is None or self.store.check([f"task/{self._task}"]))
            task = json.loads(self.store.get(f"task/{self._task}"))
            if task is None:
                return
            yield task

    def open_counter(self) -> Counter:
        """A new counter for this task. Every rank opens the counters of a task in the same order."""
        self._counters += 1
        return Counter(self._counting, f"count/{self._task}/{self._counters}")

    def wait_for_all(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Return when every rank has called this; `meanwhile` is called now and then."""
        arrived = self.open_counter()
        arrived.add(1)
        self._wait_until(lambda: arrived.value >= self.count, meanwhile)

    def leave_to_first(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End the shared part of a task: return on the first rank when all others are done, which get PartDone."""
        done = self.open_counter()
        done.add(1)
        if not self.is_first:
            raise PartDone
        self._wait_until(lambda: done.value >= self.count, meanwhile)

    @contextlib.contextmanager
    def blaming_the_lost(self) -> Iterator[None]:
        """What fails because another rank has died waits for torchrun to end this one too, and to name that one."""
        try:
            yield
        except Exception as error:
            if self.count > 1 and _is_loss_of_rank(error):
                self.wait_to_be_ended(error)
            raise

    def wait_to_be_ended(self, cause: Exception | None = None) -> None:
        """Wait for the signal by which torchrun ends this rank, because another has failed. Raises PipelineError."""
        time.sleep(END_SECONDS)
        hint = "start the run again: it resumes from here, also with another number of ranks"
        raise PipelineError("another rank has ended", f"rank {self.number} of {self.count}", hint) from cause

    def _begin_task(self) -> None:
        self._task, self._counters = self._task + 1, 0

    def _wait_until(self, condition: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Poll, so that signals are met; torchrun ends a rank that waits for one that has died."""
        while not condition():
            meanwhile()
            time.sleep(POLL_SECONDS)


def rank_number() -> int:
    """The number of this process among the ranks of its run; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def ranks_on_host() -> int:
    """How many ranks share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int | None:
    """The number of this process among those of its machine, by which it has a GPU of its own; None without others."""
    return int(os.environ["LOCAL_RANK"]) if is_under_torchrun() else None


def is_under_torchrun() -> bool:
    """Whether this process is one of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield this process's place among the ranks of its run, by what torchrun has put into the environment.

    The process ends when torchrun itself is killed.
    """
    if not is_under_torchrun():
        yield Ranks()
        return
    from datetime import timedelta

    from torch import distributed

    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    store, number, count = next(distributed.rendezvous("env://", timeout=timedelta(seconds=JOIN_SECONDS)))
    ranks = Ranks(number, count, store)
    with ranks.blaming_the_lost():
        yield ranks
        if distributed.is_initialized():
            distributed.destroy_process_group()
        with contextlib.suppress(PartDone):
            ranks.leave_to_first()  # which goes last: the store may be in its process


def _is_loss_of_rank(error: Exception) -> bool:
    """Whether a collective or the store has lost its peer."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and bool(LOST_WORDS.search(str(error)))
    )


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
