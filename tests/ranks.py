"""Ranks in tests: processes forked from this one, which has loaded the libraries; the first holds the store."""

import multiprocessing
import os
import socket
import traceback

from pipeline.distributed import joined_ranks


def find_free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def _be_rank(number, count, port, work):
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(count), "LOCAL_RANK": str(number)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    code = 1
    try:
        with joined_ranks() as ranks:
            work(ranks)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_ranks(count, work, seconds=90.0) -> list[int | None]:
    """The exit codes of `count` processes that call work(ranks); None: one that did not end in time."""
    forked = multiprocessing.get_context("fork")
    port = find_free_port()
    processes = [forked.Process(target=_be_rank, args=(number, count, port, work)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
    return [process.exitcode for process in processes]
