"""Running stages: what is stale reruns, what is fresh does not, nothing stale is read, exit codes tell."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.console import run_guarded
from pipeline.errors import PipelineError
from pipeline.runner import Pipeline, Stage, Task, load_stages


def make_stages(calls, version=1):
    """Two stages: 01 writes the seed and a constant, 02 copies the constant and adds top_k."""

    def first(context, config):
        calls.append("01")
        (context.folder / "seed.txt").write_text(str(config.seed))
        (context.folder / "constant.txt").write_text("7")

    def second(context, config):
        calls.append("02")
        text = context.input("01_first:constant.txt").read_text()
        (context.folder / "sum.txt").write_text(text + str(config.rerank.top_k))

    return [
        Stage("01_first", 1, lambda config: [Task("01_first", first, {"seed": config.seed})]),
        Stage(
            "02_second",
            version,
            lambda config: [
                Task("02_second", second, {"top_k": config.rerank.top_k}, inputs=("01_first:constant.txt",))
            ],
        ),
    ]


@pytest.fixture
def pipeline(tmp_path):
    def make(calls, *overrides, version=1):
        path = tmp_path / "a.toml"
        path.write_text("")
        config = load_config(path, [f"runtime.outputs={tmp_path / 'out'}", *overrides])
        return Pipeline(config, make_stages(calls, version))

    return make


def run_all(pipeline, force=False):
    for stage in pipeline.stages:
        pipeline.run_stage(stage, force)


def test_a_second_run_does_nothing(pipeline):
    calls = []
    run_all(pipeline(calls))
    run_all(pipeline(calls))
    assert calls == ["01", "02"]


def test_a_changed_setting_reruns_what_reads_it_and_an_equal_result_stops_there(pipeline):
    calls = []
    run_all(pipeline(calls))
    run_all(pipeline(calls, "rerank.top_k=50"))
    assert calls == ["01", "02", "02"]
    run_all(pipeline(calls, "rerank.top_k=50", "seed=3"))
    assert calls == ["01", "02", "02", "01"], "02 reads the constant alone, which the seed does not change"


def test_a_new_version_of_the_code_reruns_the_stage(pipeline):
    calls = []
    run_all(pipeline(calls))
    run_all(pipeline(calls, version=2))
    assert calls == ["01", "02", "02"]


def test_force_reruns_what_is_fresh(pipeline):
    calls = []
    run_all(pipeline(calls))
    run_all(pipeline(calls), force=True)
    assert calls == ["01", "02", "01", "02"]


def test_a_stage_refuses_inputs_that_are_missing_stale_or_damaged(pipeline, tmp_path):
    calls = []
    fresh = pipeline(calls)
    with pytest.raises(PipelineError, match="not built yet"):
        fresh.run_stage(fresh.stages[1])
    run_all(pipeline(calls))
    stale = pipeline(calls, "seed=3", "rerank.top_k=5")
    with pytest.raises(PipelineError, match=r"seed changed \(2019 -> 3\)"):
        stale.run_stage(stale.stages[1])
    (tmp_path / "out" / "a" / "01_first" / "constant.txt").write_text("8")
    damaged = pipeline(calls, "rerank.top_k=5")
    with pytest.raises(PipelineError, match="--force 1"):
        damaged.run_stage(damaged.stages[1])
    assert calls == ["01", "02"]


def test_the_status_names_what_is_stale_and_why(pipeline):
    calls = []
    run_all(pipeline(calls))
    now = pipeline(calls, "seed=3")
    assert now.explain(now.stages[0]) == {"01_first": ["setting seed changed (2019 -> 3)"]}
    assert now.explain(now.stages[1]) == {"02_second": ["01_first is stale"]}


def test_the_result_of_a_rerun_upstream_is_named_as_a_changed_input(pipeline, tmp_path):
    calls = []
    run_all(pipeline(calls))
    only_first = pipeline(calls)
    only_first.tasks["01_first"][0] = Task(
        "01_first", partial(lambda context, config: (context.folder / "constant.txt").write_text("9")), {"seed": 2019}
    )
    only_first.run_stage(only_first.stages[0], force=True)
    now = pipeline(calls)
    assert now.explain(now.stages[1]) == {"02_second": ["input 01_first:constant.txt changed"]}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (PipelineError("a", "b", "c"), 2),
        (PipelineError("a", "b", "c", exit_code=3), 3),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a defect"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (OSError(errno.EIO, "Input/output error"), 1),
    ],
)
def test_how_it_ends_is_the_exit_code(error, code):
    def work():
        if error is not None:
            raise error

    assert run_guarded(work) == code


def test_a_full_disk_is_told_in_words_and_the_shards_made_so_far_are_used(pipeline, monkeypatch, capsys, tmp_path):
    from pipeline.features import store

    made = []

    def make(start, stop):
        made.append(start)
        return {"a": np.arange(start, stop)}

    def task(context, config):
        store.write_in_shards(context.folder, context.scratch, 6, 2, make)

    one = pipeline([])
    one.tasks["01_first"][0] = Task("01_first", task, {})
    savez = np.savez

    def full(file, **arrays):
        if made == [0, 2]:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    assert run_guarded(lambda: one.run_stage(one.stages[0])) == 2
    assert "No space left" in capsys.readouterr().err
    monkeypatch.undo()
    assert run_guarded(lambda: one.run_stage(one.stages[0])) == 0
    assert made == [0, 2, 2, 4]
    assert np.load(tmp_path / "out" / "a" / "01_first" / "a.npy").tolist() == list(range(6))


SAVING = """
    import sys, time
    from pathlib import Path
    from pipeline.config import load_config
    from pipeline.console import run_guarded
    from pipeline.runner import Pipeline, Stage, Task
    def work(context, config):
        print("started", flush=True)
        for _ in range(600):
            time.sleep(0.05)
            if context.should_stop():
                (context.scratch / "saved").write_text("1")
                raise KeyboardInterrupt
    stage = Stage("01_first", 1, lambda config: [Task("01_first", work, {}, saves_on_stop=True)])
    config = load_config(Path(sys.argv[1]), [f"runtime.outputs={sys.argv[2]}"])
    sys.exit(run_guarded(lambda: Pipeline(config, [stage]).run_stage(stage)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_task_save_its_work_and_exits_with_130(tmp_path, number):
    (tmp_path / "a.toml").write_text("")
    command = [sys.executable, "-c", textwrap.dedent(SAVING), str(tmp_path / "a.toml"), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    assert process.wait(timeout=20) == 130
    assert (tmp_path / "out" / "a" / "01_first.partial" / "scratch" / "saved").exists()


HELP = """
import contextlib, runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
heavy = {*"torch torchvision faiss cv2 pandas scipy pyarrow PIL albumentations timm jinja2".split()} & {*sys.modules}
assert not heavy, f"help has loaded {heavy}"
"""


def test_the_help_of_every_command_comes_without_the_heavy_libraries():
    commands = [path for path in Path("pipeline").rglob("*.py") if '"__main__"' in path.read_text()]
    scripts = [str(path) for path in (*sorted(Path("stages").glob("*.py")), *sorted(commands))]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", HELP, *scripts]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(scripts) > 18


def test_stages_are_named_as_their_files_and_numbered_in_order():
    stages = load_stages()
    files = sorted(path.stem for path in Path("stages").glob("[0-9]*.py"))
    assert [stage.name for stage in stages] == files
