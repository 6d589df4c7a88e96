"""What the machine ran out of (disk, memory, a worker process), as errors that say what to do.

Libraries disguise it: torch.save raises RuntimeError, safetensors its own class, numpy an OSError without a number. So
the errors are recognised by their numbers, their causes and, where nothing else is left, by their words.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

from pipeline.errors import PipelineError

RESUME = "then the same command resumes from the last shard or checkpoint"
LOADERS = "runtime.workers"  # where: the loader processes, which write nothing but shared memory
SHARED_MEMORY = Path("/dev/shm")
FULL = {  # what to do about a disk that takes no more
    errno.ENOSPC: f"make room on that disk, or set runtime.outputs to another one; {RESUME}",
    errno.EDQUOT: f"make room within your quota, or set runtime.outputs to another disk; {RESUME}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f); {RESUME}",
}
REFUSED = {
    errno.EROFS: "set runtime.outputs (and for the demo world data.root) to a folder that can be written",
    errno.EACCES: "allow reading or writing there, or set runtime.outputs to another folder",
    errno.EMFILE: "raise the limit on open files (ulimit -n 65536), or lower runtime.workers",
    errno.ENFILE: "other programs hold too many files open: close some, or lower runtime.workers",
}
FULL_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|file too large"  # safetensors and pyarrow quote the system
    r"|\d+ requested and \d+ written"  # numpy.ndarray.tofile
    r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+",  # torch.save
    re.IGNORECASE,
)
MEMORY_WORDS = re.compile(
    r"can't allocate memory|cannot allocate memory|insufficient memory|bad_alloc|can't start new thread"
    r"|failed to map segment",  # a library that is loaded
    re.IGNORECASE,
)
SHARED_MEMORY_WORDS = re.compile(r"shared memory ?\(shm\)|open shared memory|/torch_\d+_\d+|Bus error")
WORKER_WORDS = re.compile(r"DataLoader worker")
GPU_WORDS = re.compile(r"CUDA out of memory|CUDA error: out of memory")


@contextlib.contextmanager
def explaining_shortages(where: Path | str, needed_bytes: int | None = None) -> Iterator[None]:
    """Raise PipelineError in place of an error that `explain_shortage` recognises."""
    try:
        yield
    except Exception as error:
        explained = explain_shortage(error, where, needed_bytes)
        if explained is None:
            raise
        raise explained from error


def explain_shortage(error: BaseException, where: Path | str, needed_bytes: int | None = None) -> PipelineError | None:
    """What to do about an error that comes from a shortage of the machine; None for any other error.

    where: what was being written, or which work was being done; a file that the error itself names is preferred.
    needed_bytes: the room on the disk that was asked for, where that is known.
    """
    if isinstance(error, PipelineError):
        return None
    chain = list(_causes(error))
    words = "\n".join(f"{type(cause).__name__}: {cause}" for cause in chain)
    reason = (str(chain[-1]) or type(chain[-1]).__name__).splitlines()[0]  # what came first, before its disguises
    if SHARED_MEMORY_WORDS.search(words):
        return _explain_shared_memory(reason)
    # A loader that is killed while it hands over a batch ends the connection, and nothing says its number.
    if is_worker_death(error) or (where == LOADERS and isinstance(chain[-1], EOFError | ConnectionError)):
        return PipelineError(
            f"a worker process died: {reason}", LOADERS,
            f"it probably ran out of memory: lower runtime.workers; {RESUME}",
        )  # fmt: skip
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return _explain_full_disk(cause, where, needed_bytes)
    if FULL_WORDS.search(words):
        return _explain_full_disk(OSError(errno.ENOSPC, f"the file cannot be written ({reason})"), where, needed_bytes)
    return _explain_memory(chain, words, reason, where) or _explain_refusal(error, where)


def is_worker_death(error: BaseException) -> bool:
    """Whether the error, or one that caused it, says that a loader or worker process has ended."""
    return any(isinstance(cause, BrokenExecutor) or WORKER_WORDS.search(str(cause)) for cause in _causes(error))


def _explain_shared_memory(reason: str) -> PipelineError:
    return PipelineError(
        f"the loader processes need more shared memory, of which {_count_free(SHARED_MEMORY)} are free: {reason}",
        SHARED_MEMORY,
        f"set runtime.workers=0, or enlarge it (docker run --shm-size=8g, mount -o remount,size=8g /dev/shm); {RESUME}",
    )


def _explain_full_disk(error: OSError, where: Path | str, needed_bytes: int | None) -> PipelineError:
    if where == LOADERS:
        return _explain_shared_memory(str(error))
    place = Path(error.filename2 or error.filename or where)
    number = error.errno or errno.ENOSPC
    needed = f"{needed_bytes:,} bytes are needed and " if needed_bytes is not None else ""
    what = f"{error.strerror or error}; {needed}{_count_free(place)} are free there"
    return PipelineError(what, place, FULL[number])


def _explain_memory(chain: list[BaseException], words: str, reason: str, where: Path | str) -> PipelineError | None:
    if GPU_WORDS.search(words):
        return PipelineError(
            f"the GPU has not enough memory: {reason}", where,
            f"end other programs on that GPU, lower batch_size or take a smaller template; {RESUME}",
        )  # fmt: skip
    numbers = {cause.errno for cause in chain if isinstance(cause, OSError)}
    if errno.ENOMEM in numbers or MEMORY_WORDS.search(words) or any(isinstance(one, MemoryError) for one in chain):
        return PipelineError(
            f"not enough memory: {reason}", where,
            f"lower runtime.workers, batch_size or shard_rows, or raise the memory limit of this process; {RESUME}",
        )  # fmt: skip
    return None


def _explain_refusal(error: BaseException, where: Path | str) -> PipelineError | None:
    if not isinstance(error, OSError) or error.errno not in REFUSED:
        return None
    place = error.filename2 or error.filename or where
    return PipelineError(error.strerror or str(error), place, REFUSED[error.errno])


def _count_free(path: Path) -> str:
    """How many bytes the file system of `path` has free, in words; the path itself need not exist."""
    path = path.absolute()
    try:
        return f"{shutil.disk_usage(next(one for one in (path, *path.parents) if one.exists())).free:,} bytes"
    except OSError:
        return "unknown bytes"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that caused it, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
