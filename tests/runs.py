"""Runs of a tiny world in processes of their own, forked from one that has imported the libraries, to save seconds.

`Forker` is that process; with mounts it is in a mount namespace of its own, where small disks can be mounted.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.kill_storm import digest_artifacts

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"landmarks": 4, "train_images": 24, "index_images": 10, "test_images": 6}
TINY = [
    *(f"demo.{name}={count}" for name, count in SIZES.items()),
    "local.max_features=60", "models.cnn.base.batch_size=8", "models.cnn.final.batch_size=8",
    "clean.min_inliers=1", "clean.min_neighbours=1", "verify.shard_pairs=32", "extract.shard_rows=16",
]  # fmt: skip
SERVER = """
import json, os, subprocess, sys, traceback
from benchmarks.kill_storm import import_libraries
import_libraries()
import runpy
print("ready", flush=True)
for line in sys.stdin:
    given = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            log = os.open(given["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(log, 1), os.dup2(log, 2)
            exec(given["before"], {"__name__": "before"})
            sys.argv = ["run_all.py", *given["arguments"]]
            if given["arguments"]:
                code = runpy.run_path("ROOT/stages/run_all.py", run_name="forked")["main"]()
            else:
                code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
""".replace("ROOT", str(ROOT))


class Run:
    """A run that was started: its process id, and its console output."""

    def __init__(self, server: subprocess.Popen, log: Path):
        self.server, self.log = server, log
        self.pid = int(server.stdout.readline())

    def wait(self, seconds=120.0) -> int:
        """Its exit code; negative: the signal that ended it, SIGKILL if it takes longer than that."""
        alarm = threading.Timer(seconds, os.killpg, (self.pid, signal.SIGKILL))
        alarm.start()
        try:
            return int(self.server.stdout.readline())
        finally:
            alarm.cancel()

    @property
    def text(self) -> str:
        """What it has written to the console."""
        return self.log.read_text()

    def wait_for(self, condition, seconds=60.0):
        """Wait until the condition holds; what it returned."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.005)
        return value


class Forker:
    """A process that forks runs; with mounts, in a mount namespace of its own. One run at a time."""

    def __init__(self, folder: Path, mounts: str = ""):
        self.logs = folder
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
        command = [sys.executable, "-c", SERVER]
        if mounts:
            command = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{mounts}\nexec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, *arguments: object, before: str = "") -> Run:
        """Start run_all.py with these arguments, and `before`, a piece of Python, before it in its process."""
        log = self.logs / "console.txt"
        request = {"arguments": [str(one) for one in arguments], "before": before, "log": str(log)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Run(self.process, log)

    def run(self, *arguments: object, before: str = "") -> tuple[int, str]:
        """The exit code and the console output of run_all.py with these arguments."""
        run = self.start(*arguments, before=before)
        return run.wait(), run.text

    def seen(self, path: Path) -> Path:
        """The path by which this process sees what lies on a disk of the namespace."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


@contextlib.contextmanager
def forking(folder: Path, mounts: str = ""):
    """Yield a Forker; the test is skipped where it may not mount."""
    if mounts:
        trial = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(trial, capture_output=True).returncode == 0:
                mounts = f"set -e\n{mounts}"
                trial = []
        if trial:
            pytest.skip("mounting is not allowed here")
    forker = Forker(folder, mounts)
    try:
        yield forker
    finally:
        forker.close()


def arguments_for(world: Path, outputs: Path) -> list[str]:
    """The command line for the tiny world."""
    config = ["--config", str(ROOT / "configs" / "smoke.toml"), *TINY]
    return [*config, f"data.root={world}", f"runtime.outputs={outputs}", "runtime.workers=0"]


def artifacts(outputs: Path) -> dict[str, str]:
    """The digests of all published files of a run."""
    return digest_artifacts(outputs / "smoke")


def share_finished(factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(world, outputs) of a finished run that all test processes share: nothing of it may be changed.

    Its path has spaces and a letter that is not ASCII, and was given to the run as a relative one.
    """
    base = factory.getbasetemp()  # of pytest-xdist's processes each has its own, below one for all
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "with a space é"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            with forking(folder) as forker:
                arguments = arguments_for(folder / "world", Path("out puts é"))
                code, text = forker.run(*arguments, "--to", 11, before=f"import os; os.chdir({str(folder)!r})")
                assert code == 0, text
            (folder / "finished").touch()
    return folder / "world", folder / "out puts é"
