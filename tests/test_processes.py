"""Worker processes do not outlive the process that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.processes import available_cores, one_thread_each, start_workers

PARENT = """
import time
from pipeline.processes import start_workers
if __name__ == "__main__":
    with start_workers(2) as pool:
        for _ in range(2):
            pool.submit(time.sleep, 60)
        time.sleep(0.1)
        print(*pool._processes, flush=True)
        time.sleep(60)
"""

LOADER = """
import multiprocessing, sys, time
import numpy as np
from pipeline.images.batch_loader import BatchLoader
from pipeline.images.batches import PlannedBatch
loader = BatchLoader(sys.argv[1:], workers=2)
list(loader.load([PlannedBatch(np.array([0]), (64, 64))]))
print(*(one.pid for one in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""

KEEPER = """
import re
from pathlib import Path
import numpy as np
from pipeline.processes import return_freed_memory

def held_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

blocks = [np.ones(8192) for _ in range(4096)]
before, last = held_mb(), blocks[-1]
del blocks
kept = held_mb()
return_freed_memory()
print(before - kept, kept - held_mb())
"""


def test_memory_that_a_task_freed_goes_back_to_the_system():
    keep = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}
    environment = {**os.environ, **keep, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", KEEPER], env=environment, capture_output=True, text=True, check=True)
    by_itself, asked = map(int, done.stdout.split())
    assert by_itself < 50 and asked > 200, done.stdout  # of 256 MB


def test_workers_work_in_processes_of_their_own():
    with start_workers(2) as pool:
        assert os.getpid() not in set(pool.map(_pid, range(8)))


def _pid(_item):
    return os.getpid()


@pytest.mark.parametrize("program", [PARENT, LOADER], ids=["working", "loaders that wait for the next plan"])
def test_workers_end_when_their_parent_is_killed(tmp_path, program):
    (tmp_path / "parent.py").write_text(program)
    cv2.imwrite(str(tmp_path / "photograph.png"), np.zeros((64, 64, 3), np.uint8))
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "photograph.png")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(2)  # they start
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_lives(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_leave_the_signals_of_their_group_to_the_parent():
    with start_workers(1) as pool:
        pid = pool.submit(os.getpid).result()
        sent = "import os, sys; [os.kill(int(sys.argv[1]), number) for number in (1, 2, 15)]"  # by a stranger
        subprocess.run([sys.executable, "-c", sent, str(pid)], check=True)
        assert pool.submit(os.getpid).result() == pid


def test_a_worker_ends_when_its_parent_asks():
    pool = start_workers(1)
    pid = pool.submit(os.getpid).result()
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while _lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pool.shutdown()


def test_every_thread_of_a_pool_is_told_to_compute_alone(monkeypatch):
    """In a new thread torch says 1 and multiplies on all cores, until it is told in that thread."""
    told, tell = {}, torch.set_num_threads
    monkeypatch.setattr(
        torch, "set_num_threads", lambda count: (told.update({threading.get_ident(): count}), tell(count))
    )
    before = torch.get_num_threads(), cv2.getNumThreads()
    with one_thread_each(3) as pool:
        together = threading.Barrier(3)
        used = set(pool.map(lambda _: (together.wait(10), threading.get_ident())[1], range(3)))
        assert len(used) == 3 and all(told[ident] == 1 for ident in used) and cv2.getNumThreads() == 1
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
    assert available_cores() >= 1


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
