"""Worker processes that end with their parent, and worker threads that share no core."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from pipeline.distributed import ranks_on_host

Job = TypeVar("Job")
Result = TypeVar("Result")


def available_cores() -> int:
    """The number of CPU cores that this process may use (container limits respected): its share, where it is a rank."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks_on_host())


def return_freed_memory() -> None:
    """Give the memory that is free in this process back to the system, where the C library can (glibc).

    During a task it is kept for the next batch (.ci/environment.sh); training leaves gigabytes behind.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def open_thread_pool(threads: int | None = None) -> ThreadPoolExecutor:
    """A thread pool, by default one thread per core, in whose threads torch runs single-threaded."""
    import torch  # imported here: --status does not need it

    # torch's setting is each thread's own: without it a new thread would multiply matrices on all cores.
    one = partial(torch.set_num_threads, 1)
    return ThreadPoolExecutor(threads or available_cores(), initializer=one)


@contextmanager
def one_thread_each(threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """A thread pool, by default one thread per core; inside it torch and OpenCV run single-threaded.

    The result of a job then depends neither on other jobs nor on the number of cores.
    """
    import cv2  # imported here: --status needs neither
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with open_thread_pool(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def map_ahead(pool: ThreadPoolExecutor, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """The results of all jobs, in their order; at most two jobs per core are under way, so jobs may be large."""
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        if len(waiting) > 2 * available_cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def start_workers(count: int) -> ProcessPoolExecutor:
    """A pool of `count` new processes with one OpenCV thread each.

    They are spawned, not forked (a fork would copy the caller's threads), so the caller's modules must be safe to
    import. They end when the parent is killed; otherwise they would finish their job and then wait for ever.
    """
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_prepare_worker)


def leave_signals_to_parent() -> None:
    """Make a worker process deaf to what its whole group receives: Ctrl-C, and SIGTERM from a batch system.

    The parent then finishes its batch with its workers alive. A SIGTERM of the parent itself still ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_asks, daemon=True).start()


def _end_when_parent_asks() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _prepare_worker() -> None:
    import cv2

    cv2.setNumThreads(1)
    leave_signals_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
