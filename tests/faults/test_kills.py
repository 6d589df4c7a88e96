"""Kills and signals: what a run loses, what it says, and that it ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from runs import ROOT, arguments_for, artifacts, forking, share_finished

from benchmarks.kill_storm import children, is_alive
from pipeline.console import saving_on_stop
from pipeline.shortages import is_worker_death

LONG = ["models.cnn.base.epochs=6", "models.cnn.base.checkpoint_steps=100000"]  # only a stop saves
STATE = "smoke/02_train_base/cnn.partial/scratch/state.pt"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(world, outputs) of a finished run."""
    return share_finished(tmp_path_factory)


@pytest.fixture(scope="module")
def forker(tmp_path_factory):
    with forking(tmp_path_factory.mktemp("logs")) as forker:
        yield forker


@pytest.fixture(scope="module")
def trained(finished, forker, tmp_path_factory):
    """(world, artifacts) of the long training without a stop."""
    outputs = tmp_path_factory.mktemp("trained")
    code, text = forker.run(*arguments_for(finished[0], outputs), *LONG, "--to", 2)
    assert code == 0, text
    return finished[0], artifacts(outputs)


def wait_for_training(run, outputs) -> list[int]:
    """The loading processes of the long training, once it is under way."""
    history = outputs / "smoke/02_train_base/cnn.partial/scratch/history.csv"
    run.wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 1)
    return run.wait_for(lambda: children(run.pid))


def test_a_storm_of_kills_ends_with_the_bytes_of_an_undisturbed_run(finished, tmp_path):
    command = [sys.executable, "-m", "benchmarks.kill_storm", "--world", str(finished[0]), "--kills", "6"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--seed", "3"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kills" in done.stdout and "0 failures" in done.stdout


KILLED_AT = (  # a file of each long stage: what it has after its first shard or step
    "02_train_base/cnn.partial/scratch/state.pt",
    "03_clean_train_set/local.partial/scratch/000000000-*.npz",
    "03_clean_train_set/pairs.partial/scratch/000000000-*.npz",
    "04_train_final/cnn.partial/scratch/state.pt",
    "05_extract_global/cnn/train.partial/scratch/000000000-*.npz",
    "07_extract_local/cnn/index.partial/scratch/000000000-*.npz",
    "08_verify_matches/test_index.partial/scratch/000000000-*.npz",
)
KILL = """
import fnmatch, os, signal
replace = os.replace
def replace_and_die(source, target, **more):
    replace(source, target, **more)
    if fnmatch.fnmatch(str(target), {!r}):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace_and_die
"""


def test_a_run_killed_in_every_long_stage_ends_with_the_same_bytes(finished, forker, tmp_path):
    world, outputs = finished
    arguments = [*arguments_for(world, tmp_path), "--to", 11]
    for appears in KILLED_AT:
        code, text = forker.run(*arguments, before=KILL.format(f"*/{appears}"))
        assert code == -signal.SIGKILL, text
        assert any((tmp_path / "smoke").glob(appears)), appears
    code, text = forker.run(*arguments)
    assert code == 0 and artifacts(tmp_path) == artifacts(outputs), text
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".partial", ".old", ".part"))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_saves_the_training_and_resumes_to_the_same_bytes(
    trained, forker, tmp_path, number
):
    world, expected = trained
    arguments = [*arguments_for(world, tmp_path), *LONG, "runtime.workers=2", "--to", 2]
    run = forker.start(*arguments)
    loaders = wait_for_training(run, tmp_path)
    saved = (tmp_path / STATE).stat().st_mtime_ns
    subprocess.run(["kill", f"-{int(number)}", "--", f"-{run.pid}"], check=True)  # a stranger, as a batch system is
    assert run.wait() == 130, run.text
    assert run.text.count("stopping after this batch") == 1 and "Traceback" not in run.text, run.text
    assert (tmp_path / STATE).stat().st_mtime_ns > saved, "what was trained since the last epoch is lost"
    run.wait_for(lambda: not any(is_alive(pid) for pid in loaders), seconds=20)
    code, text = forker.run(*arguments)
    assert code == 0 and artifacts(tmp_path) == expected, text


def test_a_killed_loading_process_is_named_and_the_run_resumes(trained, forker, tmp_path):
    world, expected = trained
    arguments = [*arguments_for(world, tmp_path), *LONG, "runtime.workers=1", "--to", 2]
    run = forker.start(*arguments)
    loader = wait_for_training(run, tmp_path)[0]
    os.kill(loader, signal.SIGKILL)
    assert run.wait() == 2, run.text
    assert "a worker process died" in run.text and "lower runtime.workers" in run.text
    # Killed while it hands over a batch, only the end of the connection is seen.
    assert any(word in run.text for word in (f"{loader}", "EOFError", "Connection"))
    assert "Traceback" not in run.text
    code, text = forker.run(*arguments)
    assert code == 0 and artifacts(tmp_path) == expected, text


def test_under_nohup_a_closed_terminal_changes_nothing(finished, forker, tmp_path):
    shutil.copytree(finished[1], tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "smoke" / "06_build_knn")
    nohup = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom pipeline.matching import knn\n"
    nohup += "real = knn.search_exact\n"
    nohup += "def search(*given, **more):\n    os.kill(os.getpid(), signal.SIGHUP)\n    return real(*given, **more)\n"
    nohup += "knn.search_exact = search"
    code, text = forker.run(*arguments_for(finished[0], tmp_path / "out"), "--only", 6, before=nohup)
    assert code == 0 and artifacts(tmp_path / "out") == artifacts(finished[1]), text


def test_the_first_signal_asks_and_the_second_stops_at_once():
    with pytest.raises(KeyboardInterrupt), saving_on_stop(True) as stop_asked:
        assert not stop_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_asked()
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was ignored")


def test_a_task_that_saves_nothing_is_stopped_by_the_first_signal():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), saving_on_stop(False):
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the signal was ignored")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_worker_that_dies_while_a_stop_is_asked_is_the_stop_and_otherwise_an_error():
    death = RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")
    assert is_worker_death(death)
    with pytest.raises(KeyboardInterrupt), saving_on_stop(True):
        os.kill(os.getpid(), signal.SIGTERM)
        raise death
    with pytest.raises(RuntimeError, match="pid 7"), saving_on_stop(True):
        raise death
    with pytest.raises(ValueError, match="another"), saving_on_stop(True):
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("another")


def test_a_forked_process_leaves_the_handling_of_signals_to_its_parent():
    with saving_on_stop(True) as stop_asked:
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os._exit(9 if stop_asked() else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
