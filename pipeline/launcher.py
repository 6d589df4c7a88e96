"""Starts the ranks of a run on this machine, by torchrun's own engine, and tells how they ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from pipeline.errors import PipelineError
from pipeline.processes import available_cores

MONITOR_SECONDS = 0.2
SHUTDOWN_SECONDS = 40  # for a rank that saves its work after a signal; then it is killed
INTERRUPTED = 130
LOCAL_STORE = "localhost:0"  # torchrun's: a free port


def launch_ranks(count: int, command: Sequence[str]) -> int:
    """Run `command`, a Python script with arguments, as `count` ranks; the exit code of the rank that failed first.

    A rank that failed, or was asked to stop, has told so. Raises PipelineError that names a rank which a signal has
    ended. The cores are divided among the ranks.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what it warns of is told here, in words
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint=LOCAL_STORE, max_restarts=0, monitor_interval=MONITOR_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException:
        return INTERRUPTED
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        raise _killed(rank, count, failure.pid, -failure.exitcode) from error
    return 0


def _killed(rank: int, count: int, pid: int, number: int) -> PipelineError:
    names = {one.value: one.name for one in signal.Signals}
    what = f"rank {rank} of {count} was ended by {names.get(number, f'signal {number}')}"
    hint = "where nobody killed it, the system may have been short of memory: fewer ranks, or lower runtime.workers"
    return PipelineError(what, f"process {pid}", f"the same command resumes, also with another --nproc; {hint}")
