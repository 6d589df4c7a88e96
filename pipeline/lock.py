"""One writer at a time: a lock beside the folder of an artifact."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError


@contextlib.contextmanager
def hold_lock(folder: Path, patience_seconds: float = 10.0) -> Iterator[None]:
    """Be the only writer of `folder`; a second process gets an error that names the first.

    The kernel drops the lock with the process, so none is ever left over. A POSIX record lock, and not the flock of the
    filelock package: forked loader processes would inherit that one, and hold it after their parent was killed.
    """
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        _wait_for_lock(file, path, folder, patience_seconds)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {socket.gethostname()}")
        file.flush()
        yield


def _wait_for_lock(file: Any, path: Path, folder: Path, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid, _, host = path.read_text(encoding="utf-8").partition(" ")
            dead = host == socket.gethostname() and pid.isdigit() and not Path(f"/proc/{pid}").exists()
            if not dead or time.monotonic() > deadline:  # a process being killed keeps its locks for an instant
                raise PipelineError(
                    f"another process is writing here (process {pid or '?'} on {host or '?'})",
                    folder,
                    "wait for it to end, or stop it",
                ) from error
            time.sleep(0.1)
