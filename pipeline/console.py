"""The process at the console: its log, its signals and its exit codes.

Exit codes: 0 done or fresh; 1 a defect of the pipeline; 2 a wrong setting, file or command; 3 more bad data than the
settings allow; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tqdm import tqdm

from pipeline.distributed import rank_number
from pipeline.errors import PipelineError
from pipeline.shortages import explain_shortage, is_worker_death

log = logging.getLogger("cairn")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and ends of lines


@contextlib.contextmanager
def saving_on_stop(saves: bool) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the user has asked to stop the block.

    The first signal only asks, if the block polls that function and saves its work (`saves`); the second, or any signal
    for another block, stops at once. A worker process that dies once a stop is asked got the signal too: that is the
    stop, no failure.
    """
    asked, owner = False, os.getpid()

    def handle(_number: int, _frame: FrameType | None) -> None:
        """Note the first signal, raise KeyboardInterrupt at the next."""
        nonlocal asked
        if os.getpid() != owner:  # a forked worker that has not set its own handlers yet
            return
        if asked or not saves:
            raise KeyboardInterrupt
        asked = True
        if rank_number():
            return
        with contextlib.suppress(RuntimeError):  # the signal came while the same stream was being written
            log.warning("stopping after this batch, to save the work; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in _stop_signals()}
    try:
        yield lambda: asked
    except Exception as error:
        if asked and is_worker_death(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_guarded(work: Callable[[], int | None]) -> int:
    """The exit code of `work`; errors that a user can act on are printed without a traceback.

    work: returns nothing, or the exit code of the processes that it started.
    """
    _open_streams()
    _prepare_process()
    for number in _stop_signals():
        signal.signal(number, signal.default_int_handler)
    with contextlib.redirect_stderr(_Console(sys.stderr)):
        try:
            code = work()
            sys.stdout.flush()
        except PipelineError as error:
            return _report(error)
        except KeyboardInterrupt:
            if rank_number() == 0:
                print("interrupted: the same command resumes from here", file=sys.stderr)
            return 130
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _is_abandoned(sys.stdout):  # `| head` has read enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            explained = explain_shortage(error, "a file of this run")
            return _report(explained) if explained else _report_defect()
    return code or 0


def _report(error: PipelineError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


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
def logging_to(run_folder: Path, rank: int = 0) -> Iterator[None]:
    """Send the log to the console and to outputs/<run>/log.txt while the block runs; of other ranks only warnings."""
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        file = _LogFile(run_folder / "log.txt", encoding="utf-8")
    except OSError as error:
        what, hint = f"the output folder cannot be written: {error.strerror}", "set runtime.outputs to another folder"
        raise explain_shortage(error, run_folder) or PipelineError(what, run_folder, hint) from error
    by = f"rank {rank}: " if rank else ""
    file.setFormatter(_Printable(f"%(asctime)s %(levelname)s {by}%(message)s"))
    console = _ConsoleHandler(sys.stderr)
    console.setFormatter(_Printable(f"%(asctime)s {by}%(message)s", datefmt="%H:%M:%S"))
    for handler in (file, console):
        log.addHandler(handler)
    log.setLevel(logging.WARNING if rank else logging.INFO)
    log.propagate = False
    if not rank:
        file.emit(log.makeRecord("cairn", logging.INFO, "", 0, "$ %s", (shlex.join(sys.argv),), None))
    try:
        yield
    except BaseException as error:
        file.emit(log.makeRecord("cairn", logging.ERROR, "", 0, "%s", (error,), _describe_cause(error)))
        raise
    finally:
        for handler in (file, console):
            log.removeHandler(handler)
        file.close()


def _describe_cause(error: BaseException) -> Any:
    """The exception whose traceback belongs into the log: that of a defect, or what led to an error told in words."""
    cause = error.__cause__ if isinstance(error, PipelineError) else error
    return cause and (type(cause), cause, cause.__traceback__)


def _stop_signals() -> list[signal.Signals]:
    """The signals that ask to stop. A closed terminal (SIGHUP) is one, but not under nohup, which ignores it."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def _open_streams() -> None:
    """Open the standard streams that the caller has closed: the next file would take their place, and their output."""
    for number, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, open(number, mode))  # noqa: SIM115


def _is_abandoned(stream: TextIO) -> bool:
    """Whether the stream is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class _Console:
    """The console, which a run can lose: after a write that fails, such as to a pipe nobody reads, there is none."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with self._losable():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._losable():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _losable(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class _Printable(logging.Formatter):
    """Escapes control characters, such as those that a file name may hold: a terminal would obey them."""

    def format(self, record: logging.LogRecord) -> str:
        return CONTROL.sub(lambda found: repr(found[0])[1:-1], super().format(record))


class _LogFile(logging.FileHandler):
    """log.txt. A full disk costs it lines, never the run."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _ConsoleHandler(logging.StreamHandler):
    """Writes above a progress bar, not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)
