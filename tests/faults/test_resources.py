"""What the machine runs out of, and what it refuses: disk, shared memory, memory, folders, streams; every exit code."""

import errno
import os
import shutil
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from runs import ROOT, arguments_for, artifacts, forking, share_finished

from pipeline.artifacts import MANIFEST, atomic_file
from pipeline.console import log, logging_to
from pipeline.errors import PipelineError
from pipeline.lock import hold_lock
from pipeline.shortages import LOADERS, explain_shortage, explaining_shortages

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[0-9]*.py"))[:11]
RESUME = "the same command resumes"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(world, outputs) of a finished run, from a relative path with a space and a letter that is not ASCII."""
    return share_finished(tmp_path_factory)


@pytest.fixture
def small_disk(disk_forker):
    """(a process that forks runs, the folder where it sees an empty disk of 300 MB, /dev/shm there holds 64 KB)."""
    forker, disk = disk_forker
    for path in forker.seen(disk).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return forker, disk


@pytest.fixture(scope="module")
def disk_forker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    (folder / "disk").mkdir()
    mounts = f"mount -t tmpfs -o size=300m tmpfs {folder}/disk\nmount -t tmpfs -o size=64k tmpfs /dev/shm"
    with forking(folder, mounts) as forker:
        yield forker, folder / "disk"


@pytest.fixture(scope="module")
def forker(tmp_path_factory):
    with forking(tmp_path_factory.mktemp("logs")) as forker:
        yield forker


@pytest.fixture
def copied(finished, tmp_path):
    """(arguments of a finished run that the test may change, its outputs)."""
    world, outputs = finished
    shutil.copytree(outputs, tmp_path / "out")
    return arguments_for(world, tmp_path / "out"), tmp_path / "out"


def fill(disk: Path, leave: int) -> None:
    """Leave only so many bytes of the disk."""
    with open(disk / "filler", "wb") as file:
        room = os.statvfs(disk)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - leave)


def sizes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_in_a_stage_is_named_and_the_run_resumes_to_the_same_bytes(finished, small_disk, stage):
    world, outputs = finished
    forker, disk = small_disk
    seen, expected = forker.seen(disk), artifacts(outputs)
    shutil.copytree(outputs, seen / "out")
    size = sizes_below(seen / "out" / "smoke" / stage)
    shutil.rmtree(seen / "out" / "smoke" / stage)
    fill(seen, leave=max(8192, size // 3))
    arguments = [*arguments_for(world, disk / "out"), "--only", int(stage[:2])]
    code, text = forker.run(*arguments)
    assert code == 2 and " bytes are free there" in text and RESUME in text, text
    assert f"where: {disk}/out/smoke/{stage}" in text and "Traceback" not in text, text
    made = {path.parent.name for path in (seen / "out" / "smoke" / stage).rglob(MANIFEST)}
    assert made < {path.parent.name for path in (outputs / "smoke" / stage).rglob(MANIFEST)}
    (seen / "filler").unlink()
    code, text = forker.run(*arguments)
    assert code == 0, text
    assert artifacts(seen / "out") == expected
    shutil.rmtree(seen / "out")


WRITERS = {  # the libraries that write; each gets ten times what is free
    "state.pt": "from pipeline.network.checkpoint import save_training_state as save; import torch\n"
    "save(folder / 'state.pt', {'weights': torch.zeros(125_000)})",
    "weights.safetensors": "import safetensors.torch, torch\n"
    "with atomic_file(folder / 'weights.safetensors') as part:\n"
    "    safetensors.torch.save_file({'weights': torch.zeros(125_000)}, part)",
    "table.parquet": "import numpy, pandas\n"
    "pandas.DataFrame({'x': numpy.random.rand(60_000)}).to_parquet(folder / 'table.parquet')",
    "array.npy": "import numpy\nnumpy.save(folder / 'array.npy', numpy.zeros(60_000))",
    "mapped.npy": "from pipeline.features.store import write_in_shards as write; import numpy, tempfile, pathlib\n"
    "scratch = pathlib.Path(tempfile.mkdtemp())\n"
    "write(folder, scratch, 60_000, 60_000, lambda start, stop: {'mapped': numpy.zeros(stop - start)})",
    "answer.csv": "with atomic_file(folder / 'answer.csv') as part:\n    part.write_text('x' * 500_000)",
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_library_that_writes_to_a_full_disk_is_understood(small_disk, name):
    forker, disk = small_disk
    fill(forker.seen(disk), leave=50_000)
    before = f"""
from pathlib import Path
from pipeline.artifacts import atomic_file
from pipeline.console import run_guarded
from pipeline.shortages import explaining_shortages
import os
folder = Path({str(disk)!r})
def work():
    with explaining_shortages(folder):
        exec({WRITERS[name]!r}, globals())
os._exit(run_guarded(work))
"""
    code, text = forker.run(before=before)
    assert code == 2 and "bytes are free there" in text and f"where: {disk}" in text, text
    if "atomic_file" in WRITERS[name] or name in ("state.pt", "mapped.npy"):
        assert f"where: {disk / name}\n" in text
    if name == "mapped.npy":  # its size is known before it is written
        assert "480,128 bytes are needed and " in text
    for path in forker.seen(disk).iterdir():
        assert path.name in ("filler", "table.parquet", "array.npy", "mapped.npy"), path
        path.unlink()


def test_a_log_on_a_full_disk_costs_lines_and_not_the_run(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with logging_to(tmp_path):
        for number in range(3):
            log.info("line %d", number)
    told = capsys.readouterr().err
    assert told.count("log.txt cannot be written") == 1 and "line 2" in told and "Traceback" not in told
    with pytest.raises(KeyError), logging_to(tmp_path):
        raise KeyError("the error of the work, not that of the log")


def test_a_log_has_no_control_characters(tmp_path, capsys):
    with logging_to(tmp_path):
        log.info("refused: %s", "a\x1b[2J\rb\x9b.jpg\tand\na line")
    for text in ((tmp_path / "log.txt").read_text(), capsys.readouterr().err):
        assert "refused: a\\x1b[2J\\rb\\x9b.jpg\tand\na line\n" in text
        assert all(character.isprintable() or character in "\t\n" for character in text)


def test_a_small_dev_shm_is_named_instead_of_waiting_for_ever(finished, small_disk):
    world, outputs = finished
    forker, disk = small_disk
    seen = forker.seen(disk)
    shutil.copytree(outputs, seen / "out")
    shutil.rmtree(seen / "out" / "smoke" / "05_extract_global")
    arguments = [*arguments_for(world, disk / "out"), "--only", 5]
    code, text = forker.run(*arguments, "runtime.workers=1", "extract.batch_size=16")
    assert code == 2 and "where: /dev/shm" in text and "set runtime.workers=0" in text, text
    assert forker.run(*arguments)[0] == 0
    assert artifacts(seen / "out") == artifacts(outputs)
    shutil.rmtree(seen / "out")


def test_a_read_only_output_folder_is_named(finished, small_disk):
    forker, disk = small_disk
    world = finished[0]
    (forker.seen(disk) / "sealed").mkdir()
    seal = f"import subprocess; subprocess.run('mount -t tmpfs -o ro tmpfs {disk}/sealed', shell=True, check=True)"
    code, text = forker.run(*arguments_for(world, disk / "sealed" / "out"), before=seal)
    assert code == 2 and "Read-only file system" in text and "set runtime.outputs" in text, text


def test_outputs_that_are_a_file_are_named(forker, finished, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, text = forker.run(*arguments_for(finished[0], tmp_path / "file"))
    assert code == 2 and str(tmp_path / "file") in text and "Traceback" not in text, text


def test_a_second_run_on_the_same_folder_is_refused_with_the_name_of_the_first(copied, forker):
    arguments, outputs = copied
    shutil.rmtree(outputs / "smoke" / "06_build_knn")
    with hold_lock(outputs / "smoke" / "06_build_knn" / "test_index"):
        code, text = forker.run(*arguments, "--only", 6)
    assert code == 2 and f"process {os.getpid()}" in text, text


def test_a_limit_on_memory_is_told_in_words(copied, forker):
    arguments, outputs = copied
    shutil.rmtree(outputs / "smoke" / "05_extract_global")
    limit = "import resource; used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    limit += "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)"
    # What fails is a large allocation of torch's, and no small one in a library that does not look at what it is given.
    limit += "\nimport torch\nfrom pipeline.network.embedding import EmbeddingNetwork as Net\nforward = Net.forward\n"
    limit += "Net.forward = lambda self, images: (torch.empty(1 << 30), forward(self, images))[1]"
    code, text = forker.run(*arguments, "--only", 5, before=limit)
    assert code == 2 and "not enough memory" in text and "memory limit" in text, text


@pytest.mark.parametrize(
    ("error", "where", "said"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/b"), "/a/b", "quota"),
        (OSError(errno.EFBIG, "File too large"), "artifact", "ulimit -f"),
        (OSError(errno.EMFILE, "Too many open files"), "artifact", "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), "artifact", "make room"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "artifact", "make room"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "artifact", "batch_size"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"), "", "memory"),
        (MemoryError(), "artifact", "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "artifact", "runtime.workers"),
        (BrokenProcessPool("a child process terminated abruptly"), LOADERS, "a worker process died"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), LOADERS, "killed by signal: Killed"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "), "/dev/shm", "runtime.workers=0"),
    ],
)
def test_a_shortage_is_recognised_whatever_raised_it(error, where, said):
    with pytest.raises(PipelineError, match=said) as caught, explaining_shortages("artifact"):
        if isinstance(error, OSError):
            raise error
        raise ValueError("a library's own class") from error
    if where:
        assert str(caught.value.where).endswith(where) and caught.value.exit_code == 2


def test_other_errors_stay_what_they_are():
    for error in (ValueError("a defect"), OSError(errno.EIO, "Input/output error"), PipelineError("a", "b", "c")):
        assert explain_shortage(error, "artifact") is None


def test_too_little_memory_to_read_a_checkpoint_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    """The advice for a damaged training state is to delete it."""
    import torch

    from pipeline.network.checkpoint import load_training_state
    from pipeline.network.weights import read_weights

    def short(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    torch.save({"weight": torch.zeros(3)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "load", short)
    for read in (load_training_state, read_weights):
        with pytest.raises(PipelineError, match="not enough memory"):
            read(tmp_path / "a.pth")


def test_too_little_memory_to_build_a_network_is_not_taken_for_a_damaged_description(finished, monkeypatch):
    """The advice for a damaged description is to train again."""
    from pipeline.network import checkpoint

    def short(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(checkpoint, "Backbone", short)
    with pytest.raises(PipelineError, match="not enough memory"):
        checkpoint.load_network(finished[1] / "smoke" / "04_train_final" / "cnn")


def test_an_atomic_file_names_itself_and_not_what_was_copied_to_it(tmp_path):
    with pytest.raises(PipelineError, match="make room") as caught, atomic_file(tmp_path / "copy"):
        error = OSError(errno.ENOSPC, "No space left on device", "/source")
        error.filename2 = str(tmp_path / "copy")
        raise error
    assert caught.value.where == tmp_path / "copy" and not list(tmp_path.iterdir())


def test_files_that_were_only_touched_and_a_clock_that_jumped_change_nothing(copied, forker):
    arguments, outputs = copied
    for number, path in enumerate(sorted(path for path in outputs.rglob("*") if path.is_file())):
        os.utime(path, (0, 0) if number % 2 else (4e9, 4e9))
    code, text = forker.run(*arguments, "--to", 11, "--status")
    assert code == 0 and text.count(" fresh") > 20 and "stale" not in text, text


EXIT_CODES = {
    "fresh": (0, [], ""),
    "a setting that does not exist": (2, ["runtime.nothing=1"], ""),
    "a stage that does not exist": (2, ["--only", 99], ""),
    "photographs that are missing": (3, ["data.source=gldv2", "data.root=WORLD"], ""),
    "a defect": (1, [], "from pipeline import runner\nrunner.Pipeline.run_stage = lambda *_, **__: 1 / 0"),
    "an interrupt": (
        130,
        [],
        "import os, signal\nfrom pipeline import runner\n"
        "runner.Pipeline.run_stage = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)",
    ),
}


@pytest.mark.parametrize("case", EXIT_CODES)
def test_exit_codes_are_as_documented(copied, forker, tmp_path, case):
    (arguments, outputs), (expected, more, before) = copied, EXIT_CODES[case]
    if "data.root=WORLD" in more:
        world = outputs.parent / "world"
        root = next(one for one in arguments if one.startswith("data.root=")).partition("=")[2]
        shutil.copytree(root, world)
        next((world / "test").rglob("*.jpg")).unlink()
        more = ["data.source=gldv2", f"data.root={world}"]
    code, text = forker.run(*arguments, "--to", 11, *more, before=before)
    assert code == expected, text
    assert ("Traceback" in text) == (code == 1)


def test_closed_streams_and_a_console_that_goes_away_stop_no_run(copied, forker):
    arguments, outputs = copied
    for before in (
        "import os; [os.close(number) for number in (0, 1, 2)]",
        "import os; ends = os.pipe(); os.close(ends[0]); os.dup2(ends[1], 1); os.dup2(ends[1], 2)",
        "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
    ):
        shutil.rmtree(outputs / "smoke" / "06_build_knn", ignore_errors=True)
        assert forker.run(*arguments, "--only", 6, before=before)[0] == 0
        assert (outputs / "smoke" / "06_build_knn" / "test_index" / MANIFEST).exists()
    assert "finished without errors" in (outputs / "smoke" / "log.txt").read_text()


def test_a_status_that_nobody_reads_to_its_end_is_no_error(copied, forker):
    arguments, _ = copied
    broken = "import os; ends = os.pipe(); os.close(ends[0]); os.dup2(ends[1], 1)"
    code, text = forker.run(*arguments, "--to", 11, "--status", before=broken)
    assert code == 0 and "Traceback" not in text, text


def test_a_broken_pipe_to_a_worker_is_not_taken_for_the_end_of_the_output(copied, forker):
    arguments, _ = copied
    before = "from pipeline import runner\ndef broken(*_, **__): raise BrokenPipeError(32, 'Broken pipe')\n"
    code, text = forker.run(*arguments, before=before + "runner.Pipeline.run_stage = broken")
    assert code == 1 and "defect" in text, text


def test_the_cause_of_a_shortage_is_in_the_log(tmp_path):
    with pytest.raises(PipelineError), logging_to(tmp_path), explaining_shortages("artifact"):
        raise MemoryError("numpy wanted 4 TB")
    assert "Traceback" in (tmp_path / "log.txt").read_text()
