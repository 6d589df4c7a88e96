"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import cv2


def start_workers(count: int) -> ProcessPoolExecutor:
    """A pool of `count` fresh processes, one OpenCV thread each: the processes are the parallelism.

    They are spawned, not forked (a fork would copy the threads of whoever calls), so callers' modules must be safe to
    import. When the parent is killed they end too: left alone they would finish their job, and then wait for ever.
    """
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_prepare_worker)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent alone answers it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
