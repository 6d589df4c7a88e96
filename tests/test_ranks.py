"""Several ranks: the bytes of one process, whatever is shared; a rank that dies is named, and the run resumes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from photographs import SHAPES, write_photographs
from ranks import run_ranks
from runs import ROOT, arguments_for, artifacts, share_finished
from tasks import RecordedTask, TrainingTask

from pipeline.device import choose_device
from pipeline.distributed import PartDone, Ranks, Share
from pipeline.features.global_descriptors import write_descriptors
from pipeline.features.store import write_sharded
from pipeline.images.inspection import Tolerance
from pipeline.images.split import Split
from pipeline.matching import neighbour_lists
from pipeline.matching.gaps import Gaps
from pipeline.matching.knn import SearchOptions
from pipeline.matching.neighbour_lists import NeighbourSearch, write_neighbours
from pipeline.network.training import train_and_save
from pipeline.network.training_set import TrainingSet
from pipeline.network.training_state import TrainingSetup
from pipeline.processes import available_cores
from pipeline.settings import ExtractSettings, ModelSettings, PhaseSettings
from pipeline.task_context import TaskContext


def share(ranks, folder, work, *arguments):
    """Do a shared task, work(task, *arguments), in `folder` as the runner does on each rank."""
    ranks.announce(None) if ranks.is_first else next(ranks.announcements(), None)
    folder.mkdir(exist_ok=True)
    try:
        work(TaskContext(folder, ranks=ranks), *arguments)
        assert ranks.is_first
    except PartDone:
        assert not ranks.is_first


def make_items(start, stop, made, ragged):
    with open(made, "a") as file:
        file.write(f"{start}\n")
    time.sleep(0.01)
    rows = np.arange(start, stop)
    return {"counts": rows % 3, "items": np.repeat(rows, rows % 3)} if ragged else {"items": rows}


def write_items(task, made, ragged):
    write_sharded(task, 50, 3, partial(make_items, made=made, ragged=ragged), ragged=ragged)


@pytest.mark.parametrize("ragged", [False, True])
def test_ranks_make_every_shard_once_and_the_first_merges_them(tmp_path, ragged):
    assert run_ranks(3, share, tmp_path / "ranks", write_items, tmp_path / "made", ragged) == [0, 0, 0]
    assert sorted(map(int, (tmp_path / "made").read_text().split())) == list(range(0, 50, 3))
    write_items(RecordedTask(tmp_path / "alone"), tmp_path / "others", ragged)
    for path in (tmp_path / "alone").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "ranks" / path.name).read_bytes()


def search_in_small_shards(task, search):
    neighbour_lists.SHARD_ROWS = 5
    write_neighbours(task, search, "rows")


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_that_search_parts_of_the_base_write_the_lists_of_one(tmp_path, count):
    rng = np.random.default_rng(count)
    vectors = rng.integers(-1, 2, (17, 4)).astype(np.float32)
    gaps = Gaps(np.array([3]), np.array([3]))
    cases = [(vectors, vectors, 6, gaps, True), (vectors[:4], vectors, 30, Gaps(), False)]
    cases += [(vectors[:0], vectors, 2, Gaps(), False), (vectors[:3], vectors[:1], 2, Gaps(), False)]
    for number, (queries, base, k, missing, in_itself) in enumerate(cases):
        search = NeighbourSearch(queries, base, k, missing, SearchOptions(), in_itself)
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run_ranks(count, share, folder / "ranks", search_in_small_shards, search) == [0] * count
        write_neighbours(RecordedTask(folder / "alone"), search, "rows")
        for name in ("rows.npy", "similarities.npy"):
            assert (folder / "ranks" / name).read_bytes() == (folder / "alone" / name).read_bytes(), (number, name)


class Tints(torch.nn.Module):
    """The mean colour of an image: a network that is quick."""

    def forward(self, images):
        return images.mean((2, 3)) + 1.0


def extract_all(task, split):
    settings = ExtractSettings(template=[(64, 64)], scales=[1.0], shard_rows=3, precision="float32")
    write_descriptors(task, Tints(), split, settings, torch.device("cpu"))


def train_all(task, split):
    phase = PhaseSettings(epochs=1, batch_size=4, template=[(64, 64)], validation_fraction=0.2, precision="float32")
    model = ModelSettings(backbone="resnet18", weights="none", dims=8)
    train_and_save(task, TrainingSetup(model, phase, 3, torch.device("cpu")), TrainingSet.from_split(split))


def test_what_any_rank_cannot_read_is_in_the_list_of_the_first(tmp_path):
    images = write_photographs(tmp_path / "photographs", 20)
    table = pd.DataFrame({"path": [path.name for path in images.paths], "landmark": images.labels})
    table["id"], table["left"], table["top"] = table["path"], 0.0, 0.0
    sizes = [SHAPES[row // 3 % 3] for row in range(20)]
    table["width"], table["height"] = zip(*sizes, strict=True)
    table["right"], table["bottom"] = table["width"].astype(float), table["height"].astype(float)
    for row in (1, 4, 11, 19):
        images.paths[row].write_bytes(b"no photograph")
    split = Split(table, tmp_path / "photographs", Tolerance("train", 20, 0, 0.3))
    for name, work in {"extracted": extract_all, "trained": train_all}.items():
        assert run_ranks(2, share, tmp_path / f"{name} by 2", work, split) == [0, 0]
        work(TrainingTask(tmp_path / f"{name} by 1"), split)
        lists = [(tmp_path / f"{name} by {count}" / "rejected.csv").read_text() for count in (1, 2)]
        assert lists[0] == lists[1] and lists[0].count("photo") == 8  # each with its id and its path
    alone, shared = ((tmp_path / f"extracted by {count}" / "descriptors.npy").read_bytes() for count in (1, 2))
    assert alone == shared


def wait_for_the_dead(ranks, folder):
    if ranks.number:
        os._exit(9)
    asked = time.monotonic() + 1.0
    task = TaskContext(folder, ranks=ranks, stop_asked=lambda: time.monotonic() > asked)
    with pytest.raises(KeyboardInterrupt):
        write_sharded(task, 4, 2, lambda start, stop: {"items": np.arange(start, stop)})
    os._exit(4)


def test_a_rank_that_waits_for_one_that_died_stops_when_it_is_asked(tmp_path):
    """All its own shards are made; without this only SIGKILL would end it."""
    assert run_ranks(2, wait_for_the_dead, tmp_path) == [4, 9]
    assert len(list((tmp_path / "scratch").glob("*.npz"))) == 2


def test_parts_of_ranks_cover_a_sequence_in_its_order():
    for count in (1, 2, 3, 9):
        parts = [Ranks(number, count).slice(list(range(8))) for number in range(count)]
        assert [value for part in parts for value in part] == list(range(8))
        assert parts == [list(range(8))[slice(*Share(number, count).bounds(8))] for number in range(count)]


def test_a_process_without_torchrun_is_the_first_of_one_rank():
    ranks = Ranks()
    assert ranks.is_first and ranks.count == 1
    ranks.announce({"artifact": "x"})
    counter = ranks.open_counter()
    assert [counter.claim() for _ in range(3)] == [0, 1, 2] and counter.add(4) == 7 and counter.value == 7
    ranks.wait_for_all()
    ranks.leave_to_first()


def test_ranks_of_a_host_divide_its_cores_and_its_gpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert available_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "30")
    assert available_cores() == 1
    chosen = []
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setattr("torch.empty", lambda *_, device: None)
    assert str(choose_device("cuda")) == "cuda:2" and [str(one) for one in chosen] == ["cuda:2"]
    assert str(choose_device("cuda:1")) == "cuda:1" and choose_device("cpu").type == "cpu"


ENDS = {  # how rank 1 ends -> the exit code, and what is told
    "sys.exit(3)": (3, ""),
    "os.kill(os.getpid(), 9)": (2, "rank 1 of 2 was ended by SIGKILL"),
    "os.kill(os.getppid(), 15)": (130, ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_launcher_gives_the_exit_code_of_the_rank_that_failed_and_names_one_that_died(tmp_path, capfd, end):
    script = tmp_path / "rank.py"
    script.write_text(f"import os, sys, time\nif os.environ['RANK'] == '1':\n    {end}\ntime.sleep(60)\n")
    launch = "from pipeline.console import run_guarded; from pipeline.launcher import launch_ranks; import sys\n"
    launch += f"sys.exit(run_guarded(lambda: launch_ranks(2, [{str(script)!r}])))"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", launch], capture_output=True, text=True, cwd=ROOT, timeout=60)
    code, told = ENDS[end]
    assert done.returncode == code and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and time.monotonic() - start < 50


def launch(outputs, world, *extra):
    """./run_all.sh with ranks, from stage 05 on: training is compared elsewhere."""
    command = [sys.executable, "stages/run_all.py", *arguments_for(world, outputs), *extra]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = open(outputs / "console.txt", "w")  # noqa: SIM115
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def find_ranks(launcher):
    """The processes of a launcher by the number of their rank."""
    found = {}
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        lines = Path(f"/proc/{child}/environ").read_text().split("\0")
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        found[int(values.get("RANK", -1))] = int(child)
    return found


def test_a_killed_rank_is_named_and_another_number_of_ranks_ends_with_the_bytes_of_one_process(
    tmp_path, tmp_path_factory
):
    world, finished = share_finished(tmp_path_factory)
    for name in ("01_prepare_data", "02_train_base", "03_clean_train_set", "04_train_final"):
        shutil.copytree(finished / "smoke" / name, tmp_path / "smoke" / name)
    launcher = launch(tmp_path, world, "--to", "8", "--nproc", "2")
    started = tmp_path / "smoke/05_extract_global/cnn"
    while launcher.poll() is None and not list(started.glob("*.partial/scratch/*.npz")):
        time.sleep(0.01)
    os.kill(find_ranks(launcher)[1], signal.SIGKILL)
    assert launcher.wait(60) == 2
    told = (tmp_path / "console.txt").read_text()
    assert "rank 1 of 2 was ended by SIGKILL" in told and "same command resumes" in told
    launcher = launch(tmp_path, world, "--to", "8", "--nproc", "3")
    assert launcher.wait(120) == 0, (tmp_path / "console.txt").read_text()
    expected = {name: digest for name, digest in artifacts(finished).items() if name < "09"}
    assert len(expected) > 40 and artifacts(tmp_path) == expected
