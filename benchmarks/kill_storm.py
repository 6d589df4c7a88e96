"""Kill runs at random instants, start them again, and compare what they end with byte by byte with an undisturbed run.

    python -m benchmarks.kill_storm --world data/smoke --kills 500 --seed 1 --minutes 20
    python -m benchmarks.kill_storm --world data/smoke --worker            only loader processes

--group kills the whole process group at a random time, --worker a single loader or worker process, --rename the group
just before or after a rename of a file or a folder; without any of them the kinds take turns. A run is a fork of this
process, which has imported the libraries: that saves seconds per restart. It is a process of its own group all the
same. Each world of artifacts is completed, compared and deleted before the next begins, until `--kills` have hit work
or the `--minutes` are over. `--results` is a file of counts that a later call with the same file adds to.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST
from pipeline.layout import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1  # linux/prctl.h
KINDS = ("group", "worker", "rename")
HEAVY = (  # what the stages import; none of it starts a thread before it computes, so that a fork is safe
    "cv2", "pandas", "pyarrow.parquet", "torch", "torchvision", "faiss", "safetensors.torch", "scipy.sparse",
    "pipeline.network.training", "pipeline.features.local_features", "pipeline.matching.verification",
)  # fmt: skip
LONGEST_SECONDS = {"group": 2.0, "worker": 2.0}  # until a kill
RENAMES = 16  # a kill comes at one of so many next renames
LAST_RUN_SECONDS = 900  # a run that is not killed takes longer only if it hangs
WORKER_DIED = 2  # the exit code when a worker process is killed
LEFTOVERS = (".partial", ".old", ".part")
SMALL_SHARDS = [
    "extract.shard_rows=8", "local.shard_rows=4", "verify.shard_pairs=64", "runtime.workers=1", "data.source=gldv2"
]  # fmt: skip


@dataclass
class Tally:
    """What the kills have hit, by "kind stage", and what failed."""

    hits: Counter[str] = field(default_factory=Counter)
    worlds: int = 0
    late: int = 0  # kills that came when nothing was at work any more
    failures: list[str] = field(default_factory=list)
    path: Path | None = None

    @classmethod
    def read(cls, path: Path | None) -> Tally:
        """The counts of earlier calls."""
        if path is None or not path.exists():
            return cls(path=path)
        value = json.loads(path.read_text())
        return cls(Counter(value["hits"]), value["worlds"], value["late"], value["failures"], path)

    def write(self) -> None:
        """Write the counts, for later calls to add to."""
        if self.path is not None:
            value = {name: count for name, count in self.__dict__.items() if name != "path"}
            part = self.path.with_name(self.path.name + ".part")
            part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
            part.replace(self.path)

    @property
    def kills(self) -> int:
        return sum(self.hits.values())


@dataclass(frozen=True)
class Storm:
    """One configuration that is run and killed: its arguments for run_all.py, and where outputs and logs go."""

    world: Path
    folder: Path

    @property
    def outputs(self) -> Path:
        return self.folder / "out" / "smoke"

    def arguments(self) -> list[str]:
        """The command line of the run."""
        paths = [f"data.root={self.world}", f"runtime.outputs={self.folder / 'out'}"]
        return ["--config", str(ROOT / "configs" / "smoke.toml"), "--to", "11", *paths, *SMALL_SHARDS]

    def start(self, before: Callable[[], None] = lambda: None) -> int:
        """Fork a run in a process group of its own; its process id. `before` is called in it."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no run goes on without the storm
            log = os.open(self.folder / "console.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            before()
            sys.argv = ["run_all.py", *self.arguments()]
            code = runpy.run_path(str(ROOT / "stages" / "run_all.py"), run_name="killed")["main"]()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def import_libraries() -> None:
    """Import what the runs need, once."""
    for name in HEAVY:
        importlib.import_module(name)


def wait(pid: int, seconds: float) -> int | None:
    """The exit code of a child (negative: the signal that killed it); None if it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


def kill_group(pid: int) -> None:
    """SIGKILL the run and the processes that it has started, and collect it."""
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def children(pid: int) -> list[int]:
    """The living child processes of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in path.read_text().split()]
    return [child for child in found if is_alive(child)]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def die_at_rename(number: int, after: bool) -> None:
    """From now on the process kills its group just before, or just after, its rename of that number."""
    left = iter(range(number, -1, -1))

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            last = next(left) == 0
            if last and not after:
                os.killpg(0, signal.SIGKILL)
            real(*args, **kwargs)
            if last:
                os.killpg(0, signal.SIGKILL)

        return call

    os.rename, os.replace = dying(os.rename), dying(os.replace)


def disturb(storm: Storm, kind: str, draw: random.Random) -> int | None:
    """Start the run and kill at a random instant. The exit code if the run ended by itself, None if it was killed."""
    if kind == "rename":
        number, after = draw.randrange(RENAMES), draw.random() < 0.5
        pid = storm.start(lambda: die_at_rename(number, after))
        code = wait(pid, LAST_RUN_SECONDS)
        if code is None:
            kill_group(pid)
            raise TimeoutError(f"a run neither ended nor came to its next renames within {LAST_RUN_SECONDS} s")
        return None if code == -signal.SIGKILL else code
    pid = storm.start()
    code = wait(pid, draw.uniform(0.05, LONGEST_SECONDS[kind]))
    if kind == "group":
        if code is None:
            kill_group(pid)
        return code
    deadline = time.monotonic() + LAST_RUN_SECONDS
    while code is None:  # a worker that had done its work is no loss: then the next one is killed
        if time.monotonic() > deadline:
            kill_group(pid)
            raise TimeoutError(f"a run whose workers were killed has not ended within {LAST_RUN_SECONDS} s")
        alive = children(pid)
        if alive:
            os.kill(draw.choice(alive), signal.SIGKILL)
        code = wait(pid, 2.0 if alive else 0.002)
    return None if code == WORKER_DIED else code


def working_stage(outputs: Path) -> str:
    """The stage of the artifact that is half made, for the counts."""
    partial = sorted(outputs.glob("**/*.partial"))
    return partial[0].relative_to(outputs).parts[0].removesuffix(".partial") if partial else "between stages"


def digest_artifacts(outputs: Path) -> dict[str, str]:
    """The sha256 of every published file, and what the manifests say except times and sizes on this disk."""
    digests = {}
    for path in sorted(path for path in outputs.rglob("*") if path.is_file()):
        name = path.relative_to(outputs).as_posix()
        if path.name in ("log.txt", SETTINGS) or path.name.endswith(".lock"):  # settings name folders of this machine
            continue
        if path.name == MANIFEST:
            value = json.loads(path.read_text())
            facts = {name: fact for name, fact in value["facts"].items() if name != "step_seconds"}
            content = json.dumps([value["key"], facts, sorted(value["files"])], sort_keys=True).encode()
        else:
            content = path.read_bytes()
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def compare(expected: dict[str, str], outputs: Path) -> list[str]:
    """What differs from the undisturbed run, in words."""
    found = digest_artifacts(outputs)
    differ = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    left = [path.name for path in outputs.rglob("*") if path.name.endswith(LEFTOVERS)]
    return [f"{name} differs or is missing" for name in differ] + [f"{name} was left over" for name in left]


def storm_once(storm: Storm, kinds: list[str], draw: random.Random, tally: Tally, enough: Callable[[], bool]) -> None:
    """Kill runs of one world until it is complete; the last run is never killed once `enough`."""
    while True:
        kind = draw.choice(kinds)
        if enough():
            pid = storm.start()
            code = wait(pid, LAST_RUN_SECONDS)
            if code is None:
                kill_group(pid)
                raise TimeoutError(f"the last run did not end within {LAST_RUN_SECONDS} s")
        else:
            code = disturb(storm, kind, draw)
        if code is None:
            tally.hits[f"{kind} {working_stage(storm.outputs)}"] += 1
            tally.write()
            continue
        tally.late += 1
        if code != 0:
            tail = (storm.folder / "console.txt").read_text(errors="replace").splitlines()[-12:]
            tally.failures.append(f"{kind}: exit code {code}: " + " | ".join(tail))
        return


def reference(world: Path) -> dict[str, str]:
    """The digests of an undisturbed run."""
    with tempfile.TemporaryDirectory(prefix="kill_storm_") as name:
        storm = Storm(world, Path(name))
        code = wait(storm.start(), LAST_RUN_SECONDS)
        if code != 0:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{(storm.folder / 'console.txt').read_text()}")
        return digest_artifacts(storm.outputs)


def run_storm(world: Path, kinds: list[str], given: argparse.Namespace) -> Tally:
    """Worlds of kills until there are enough of them or the time is over."""
    deadline = time.monotonic() + 60 * given.minutes
    tally = Tally.read(given.results)
    draw = random.Random(given.seed * 1_000_003 + tally.kills)

    def enough() -> bool:
        return tally.kills >= given.kills or time.monotonic() > deadline

    import_libraries()
    expected = reference(world)
    while not enough():
        folder = Path(tempfile.mkdtemp(prefix="kill_storm_"))
        storm = Storm(world, folder)
        failed = len(tally.failures)
        try:
            storm_once(storm, kinds, draw, tally, enough)
            tally.failures += [f"world {tally.worlds}: {what}" for what in compare(expected, storm.outputs)]
        except TimeoutError as error:
            tally.failures.append(f"world {tally.worlds}: {error}")
        tally.worlds += 1
        tally.write()
        print(f"{tally.kills} kills over {tally.worlds} worlds, {len(tally.failures)} failures", flush=True)
        if len(tally.failures) > failed:
            print("\n".join(tally.failures[failed:]) + f"\nkept for a look: {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    return tally


def describe(tally: Tally) -> str:
    """The counts as a table: kinds by stages."""
    stages = sorted({hit.partition(" ")[2] for hit in tally.hits})
    lines = [f"{'stage':24}" + "".join(f"{kind:>9}" for kind in KINDS)]
    lines += [f"{stage:24}" + "".join(f"{tally.hits[f'{kind} {stage}']:9}" for kind in KINDS) for stage in stages]
    totals = [sum(count for hit, count in tally.hits.items() if hit.startswith(kind)) for kind in KINDS]
    lines += [f"{'all':24}" + "".join(f"{total:9}" for total in totals)]
    lines += [f"{tally.kills} kills over {tally.worlds} worlds; {len(tally.failures)} failures"]
    return "\n".join(lines)


def main() -> int:
    """The exit code: 1 if anything differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--world", type=Path, required=True, help="a rendered smoke world (data/smoke after a run)")
    parser.add_argument("--kills", type=int, default=500, help="how many have to hit work (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random instants (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=20.0, help="at most so long (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="JSON file of counts that is read, added to and written")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", action="append_const", dest="kinds", const=kind, help=f"kills by {kind}")
    given = parser.parse_args()
    tally = run_storm(given.world.absolute(), given.kinds or list(KINDS), given)
    print(describe(tally))
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
