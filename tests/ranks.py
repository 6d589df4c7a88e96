"""Ranks in tests: processes that a clean process forks, which has loaded the libraries; the first holds the store.

A test process cannot fork them itself: the thread pools that other tests have started in it would be gone in a child,
which would wait for them for ever.
"""

import multiprocessing
import os
import socket
import traceback

from pipeline.distributed import joined_ranks

LIBRARIES = ["pandas", "pipeline.network.training", "pipeline.features.global_descriptors"]
LIBRARIES += ["pipeline.matching.neighbour_lists", "torch.distributed"]


def find_free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def _be_rank(number, count, port, work, arguments):
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(count), "LOCAL_RANK": str(number)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    code = 1
    try:
        with joined_ranks() as ranks:
            work(ranks, *arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_ranks(count, work, *arguments, seconds=90.0) -> list[int | None]:
    """The exit codes of `count` processes that call work(ranks, *arguments), a function of a module.

    None: one that did not end in time.
    """
    clean = multiprocessing.get_context("forkserver")
    clean.set_forkserver_preload(LIBRARIES)
    port = find_free_port()
    given = (port, work, arguments)
    processes = [clean.Process(target=_be_rank, args=(number, count, *given)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
    return [process.exitcode for process in processes]
