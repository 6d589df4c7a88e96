"""The process at the console: its log, its signals and its exit codes.

Exit codes: 0 done or fresh; 1 a defect of the pipeline; 2 a wrong setting, file or command; 3 more bad data than the
settings allow; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from pipeline.errors import PipelineError

log = logging.getLogger("cairn")
RESUME = "then the same command resumes from the last shard or checkpoint"
HINTS = {  # what a user can do about an error of the operating system
    errno.ENOSPC: f"make room on that disk, or set runtime.outputs to another one; {RESUME}",
    errno.EDQUOT: f"make room within your quota, or set runtime.outputs to another disk; {RESUME}",
    errno.EROFS: "set runtime.outputs (and for the demo world data.root) to a folder that can be written",
    errno.EACCES: "allow reading or writing there, or set runtime.outputs to another folder",
}


class _Signals:
    """The first signal asks a task that can save its work to do so; the second, or any other task, stops at once."""

    stop_asked = False
    task_saves = False

    @classmethod
    def handle(cls, number: int, _frame: FrameType | None) -> None:
        if cls.stop_asked or not cls.task_saves:
            raise KeyboardInterrupt
        cls.stop_asked = True
        log.warning("stopping after this batch, to save the work; once more to stop at once")


def stop_asked() -> bool:
    """Whether the user has asked to stop: save what can be saved and raise KeyboardInterrupt."""
    return _Signals.stop_asked


@contextlib.contextmanager
def saving_on_stop(saves: bool) -> Iterator[None]:
    """While the block runs, a first signal only sets `stop_asked`, if the block polls it (`saves`)."""
    _Signals.task_saves = saves
    try:
        yield
    finally:
        _Signals.task_saves = False


def run_guarded(work: Callable[[], None]) -> int:
    """The exit code of `work`; errors that a user can act on are printed without a traceback."""
    _prepare_process()
    signal.signal(signal.SIGINT, _Signals.handle)
    signal.signal(signal.SIGTERM, _Signals.handle)
    try:
        work()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the same command resumes from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in HINTS:
            where = error.filename or "a file of this run"
            print(f"error: {error.strerror}\n  where: {where}\n  fix:   {HINTS[error.errno]}", file=sys.stderr)
            return 2
        return _report_defect()
    except Exception:
        return _report_defect()
    return 0


def _report_defect() -> int:
    traceback.print_exc()
    print("error: this is a defect of the pipeline; the traceback above tells where", file=sys.stderr)
    return 1


def _prepare_process() -> None:
    """Settings of the C libraries, before torch is loaded; no answer depends on them.

    .ci/environment.sh sets those that a process cannot set for itself any more, such as glibc's for freed memory.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow down those of other processes


@contextlib.contextmanager
def logging_to(run_folder: Path) -> Iterator[None]:
    """Send the log to the console and to outputs/<run>/log.txt while the block runs."""
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(run_folder / "log.txt", encoding="utf-8")
    except OSError as error:
        raise PipelineError(
            f"the output folder cannot be written: {error.strerror}",
            run_folder,
            "set runtime.outputs to another folder",
        ) from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    console = _ConsoleHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for handler in (file, console):
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    file.emit(log.makeRecord("cairn", logging.INFO, "", 0, "$ %s", (shlex.join(sys.argv),), None))
    try:
        yield
    except BaseException as error:
        trace = None if isinstance(error, PipelineError) else (type(error), error, error.__traceback__)
        file.emit(log.makeRecord("cairn", logging.ERROR, "", 0, "%s", (error,), trace))
        raise
    finally:
        for handler in (file, console):
            log.removeHandler(handler)
        file.close()


class _ConsoleHandler(logging.StreamHandler):
    """Writes above a progress bar, not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)
