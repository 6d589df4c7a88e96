"""Nothing stale is ever read: changed code, settings, hardware, files and photographs are found, and named."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import hardware, layout
from pipeline.artifacts import Trust, build, explain_staleness, read_manifest
from pipeline.cache_key import CacheKey
from pipeline.code_digest import Library, digest_code
from pipeline.competition import listing
from pipeline.competition.external_files import ExternalFiles
from pipeline.competition.listing import digest_folder, list_newer, write_photograph_digests
from pipeline.config import load_config
from pipeline.device import choose_device
from pipeline.errors import PipelineError
from pipeline.runner import Pipeline, Stage, Task, load_stages
from pipeline.task_context import TaskContext

ROOT = Path(__file__).resolve().parent.parent.parent
TRUSTING = Trust(code=True)
TINY = [
    "demo.landmarks=4",
    "demo.train_images=24",
    "demo.index_images=10",
    "demo.test_images=6",
    "local.max_features=60",
    *(f"models.cnn.{phase}.{value}" for phase in ("base", "final") for value in ("epochs=0", "batch_size=8")),
    "clean.min_inliers=1",
    "clean.min_neighbours=1",
]


# --- The code of a task ---

SMALL_LIBRARY = {
    "matching/geometry.py": '''
        """Geometry."""
        from pipeline.arrays import Floats
        from pipeline.errors import PipelineError

        RADIUS = 3


        def fit(points: Floats) -> float:
            """The fit."""
            return len(points) * RADIUS  # why
        ''',
    "matching/unused.py": "def never(): return 1\n",
    "arrays.py": "Floats = list\nOther = dict\n",
    "errors.py": "class PipelineError(Exception): pass\n",
    "settings.py": """
        class Settings: pass


        class Verify(Settings):
            shards: int = 3

            def first(self, split):
                return 5

            def second(self):
                return 6
        """,
    "tasks/comparison.py": """
        def compare(task, config):
            from pipeline.matching.geometry import fit
            return fit([config.verify.first("index")]) + helper()


        def helper(): return 1


        def other(): return 2
        """,
}
TASK = "tasks/comparison.py"


@pytest.fixture
def digest_small(tmp_path):
    """A function that writes a small library with changes (file, old text, new text), and digests what compare runs."""

    def digest(*changes):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "pipeline"
        for name, text in SMALL_LIBRARY.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text))
        for name, old, new in changes:
            assert old in (folder / name).read_text()
            (folder / name).write_text((folder / name).read_text().replace(old, new))
        return Library(folder).digest([(folder / TASK, "compare")])

    return digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("matching/geometry.py", "# why", "# another reason"),
        ("matching/geometry.py", '"""The fit."""', '"""Another sentence."""'),
        ("matching/geometry.py", '"""The fit."""', ""),
        ("matching/geometry.py", "len(points) * RADIUS", "(len(points)\n        * RADIUS)"),
        ("matching/geometry.py", "points: Floats) -> float", "points)"),
        ("matching/geometry.py", "Floats\nfrom pipeline.errors import PipelineError", "Floats\n# sorted\n"
         "from pipeline.errors import PipelineError"),
        ("matching/unused.py", "return 1", "return 2"),
        ("errors.py", "pass", "exit_code = 2"),
        ("settings.py", "shards: int = 3", "shards: int = 4"),
        ("settings.py", "return 6", "return 7"),
        ("arrays.py", "Other = dict", "Other = set"),
        (TASK, "def other(): return 2", "def other(): return 3"),
    ],
)  # fmt: skip
def test_what_a_task_does_not_run_changes_nothing(digest_small, name, old, new):
    assert digest_small((name, old, new)) == digest_small()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("matching/geometry.py", "RADIUS = 3", "RADIUS = 4"),
        ("matching/geometry.py", "len(points) *", "len(points) +"),
        ("arrays.py", "Floats = list", "Floats = tuple"),
        ("settings.py", "return 5", "return 4"),
        (TASK, "def helper(): return 1", "def helper(): return 2"),
    ],
)
def test_changed_code_is_named_by_its_file(digest_small, name, old, new):
    before, after = digest_small(), digest_small((name, old, new))
    assert {file for file in before | after if before.get(file) != after.get(file)} == {name}


def test_a_field_that_a_class_declares_counts_although_it_is_an_annotation(digest_small):
    declares = ("matching/geometry.py", "RADIUS = 3", "class Pair:\n    left: int\nRADIUS = 3")
    more = ("matching/geometry.py", "left: int", "left: int\n    right: int")
    assert digest_small(declares) != digest_small(declares, more)


def test_functions_that_are_bound_to_a_task_are_followed():
    tasks = {task.artifact: task for stage in load_stages() for task in stage.tasks(smoke_config())}
    selecting = digest_code(tasks[layout.local_features("cnn", "index")].run)
    assert "stages/07_extract_local.py" in selecting and "matching/pair_lists.py" in selecting
    assert "matching/pair_lists.py" not in digest_code(tasks[layout.local_features("cnn", "test")].run)
    descriptors = digest_code(tasks[layout.descriptors("cnn", "test")].run)
    assert {"network/backbone.py", "images/decode.py", "features/global_descriptors.py"} <= descriptors.keys()
    assert not any(name.startswith(("ranking/", "matching/", "report/")) for name in descriptors)
    assert not descriptors.keys() & {"runner.py", "console.py", "layout.py", "task_context.py", "errors.py"}


def test_the_modules_that_render_the_demo_world_belong_to_the_world_and_to_nothing_else():
    rendered, *others = [task for stage in load_stages() for task in stage.tasks(smoke_config())]
    assert any("demo" in name for name in digest_code(rendered.run))
    assert not any("demo" in name for task in others for name in digest_code(task.run))


def smoke_config(*overrides):
    return load_config(ROOT / "configs" / "smoke.toml", [*TINY, *overrides])


# --- A finished run on somebody's own photographs ---


class Recorded(dict):
    """The inputs of a task, and those that it has asked for."""

    def __init__(self, values, read):
        super().__init__(values)
        self.read = read

    def __getitem__(self, reference):
        self.read.append(reference)
        return super().__getitem__(reference)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(overrides of a finished run on a small world as somebody's own data, artifact -> references that were read)."""
    folder, reads, context_of = tmp_path_factory.mktemp("finished"), {}, Pipeline._context

    def recording(self, task, *rest):
        context = context_of(self, task, *rest)
        context.inputs = Recorded(context.inputs, reads.setdefault(task.artifact, []))
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "_context", recording)
        rendering = Pipeline(smoke_config(f"data.root={folder / 'world'}"), load_stages()[:1])
        render = rendering.tasks[layout.PREPARE][0]
        rendering._run_task(rendering.stages[0], render, [], force=False)
        (folder / "world" / "manifest.json").unlink()
        overrides = ["data.source=gldv2", f"data.root={folder / 'world'}", f"runtime.outputs={folder / 'out'}"]
        run_stages(smoke_config(*overrides))
    return overrides, reads


def run_stages(config, last=12, trust=Trust()):
    pipeline = Pipeline(config, load_stages(), trust)
    for stage in pipeline.stages[:last]:
        pipeline.run_stage(stage)


def explain(config, last=12, trust=Trust()):
    """Artifact -> why it is stale."""
    pipeline = Pipeline(config, load_stages(), trust)
    return {name: why for stage in pipeline.stages[:last] for name, why in pipeline.explain(stage).items() if why}


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run and its data: (config, folder of the data, folder of the artifacts)."""
    overrides, _ = finished
    data, outputs = (Path(override.partition("=")[2]) for override in overrides[1:])
    shutil.copytree(data, tmp_path / "world")
    shutil.copytree(outputs, tmp_path / "out")
    places = [f"data.root={tmp_path / 'world'}", f"runtime.outputs={tmp_path / 'out'}"]
    return smoke_config(overrides[0], *places), tmp_path / "world", tmp_path / "out" / "smoke"


STAND_FOR_PIXELS = {layout.photograph_digests(split) for split in ("train", "index", "test")}
READ_BY_NOBODY = {layout.EVALUATE: {layout.SUBMIT}}  # its rules are checked before anything is scored


def test_every_task_declares_what_it_reads_and_nothing_more(finished):
    """But for the digests of photographs, which stand for the photographs that the tasks read."""
    overrides, reads = finished
    pipeline = Pipeline(smoke_config(*overrides), load_stages())
    for stage in pipeline.stages:
        for task in pipeline.tasks[stage.name]:
            declared = set(task.inputs) - READ_BY_NOBODY.get(task.artifact, set())
            assert set(reads[task.artifact]) - STAND_FOR_PIXELS == declared - STAND_FOR_PIXELS, task.artifact
    readers = {task.artifact.split("/")[0] for tasks in pipeline.tasks.values() for task in tasks
               if STAND_FOR_PIXELS & set(task.inputs)}  # fmt: skip
    assert readers >= {layout.TRAIN_BASE, layout.CLEAN, layout.TRAIN_FINAL, layout.EXTRACT_GLOBAL, layout.EXTRACT_LOCAL}


@pytest.mark.parametrize("number", range(2, 13))
def test_an_undeclared_read_is_a_defect_that_names_the_task_and_the_reference(finished, tmp_path, number):
    overrides, reads = finished
    config = smoke_config(*overrides)
    pipeline = Pipeline(config, load_stages())
    stage = pipeline.stages[number - 1]
    for position, task in enumerate(pipeline.tasks[stage.name]):
        if not reads[task.artifact]:
            continue
        hidden = list(dict.fromkeys(reads[task.artifact]))[-1]
        folder = tmp_path / f"{position}" / f"{Path(task.artifact).name}.partial"
        (folder / "scratch").mkdir(parents=True)
        inputs = {reference: pipeline._path(reference) for reference in task.inputs if reference != hidden}
        with pytest.raises(LookupError) as error:
            task.run(TaskContext(folder, inputs), config)
        assert hidden in str(error.value) and Path(task.artifact).name in str(error.value)
        assert "does not declare" in str(error.value)


# --- Changed code, from the command line ---


def test_changed_code_reruns_what_ran_it_unless_it_is_trusted_and_a_comment_reruns_nothing(finished, tmp_path):
    overrides, _ = finished
    for name in ("pipeline", "stages", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    geometry = tmp_path / "pipeline" / "matching" / "geometry.py"
    text = geometry.read_text()
    geometry.write_text(text + "\n# A remark.\n")
    lines = status(tmp_path, *overrides)
    assert len(lines) > 20 and {"fresh"} == {re.split(" {2,}", line)[-1] for line in lines}
    assert run_fresh(tmp_path, *overrides).stderr.count(" is fresh\n") == len(lines)
    geometry.write_text(text + "\nANOTHER = 1\n")
    stale = {line.split()[0]: line for line in status(tmp_path, *overrides) if not line.endswith("fresh")}
    for pairs in (layout.CLEAN_PAIRS, layout.verified_pairs("index"), layout.verified_pairs("train")):
        assert "code of matching/geometry.py changed" in stale[layout.split_reference(pairs)[0]]
    assert not [name for name in stale if name.startswith((layout.PREPARE, layout.TRAIN_BASE, layout.EXTRACT_LOCAL))
                and "is stale" not in stale[name]]  # fmt: skip
    assert {re.split(" {2,}", line)[-1] for line in status(tmp_path, "--trust-code", *overrides)} == {"fresh"}


MAKE_NOTHING = """
import runpy, sys
sys.argv[0] = "stages/run_all.py"
try:
    runpy.run_path("stages/run_all.py", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
heavy = {*"torch torchvision faiss cv2 pandas scipy pyarrow PIL albumentations timm jinja2".split()} & {*sys.modules}
assert not heavy, f"what makes nothing has loaded {heavy}"
"""


def status(project, *arguments):
    """The lines of --status, by the code in the folder `project`."""
    return run_fresh(project, "--status", *arguments).stdout.splitlines()[1:]  # without the titles


def run_fresh(project, *arguments):
    """A run in which everything is fresh, or a status, by the code in the folder `project`."""
    command = [sys.executable, "-c", MAKE_NOTHING, "--config", str(ROOT / "configs" / "smoke.toml")]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    return subprocess.run(
        [*command, *TINY, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=True
    )


def test_trusted_code_leaves_a_finished_artifact_and_resumes_one_that_was_begun(tmp_path):
    folder, other = tmp_path / "a", CacheKey("05", 1, {}, {}, {"a.py": "2"})
    key = CacheKey("05", 1, {}, {}, {"a.py": "1"})
    with build(folder, key) as (partial_folder, _):
        (partial_folder / "data").write_text("1")
    before = (folder / "manifest.json").read_bytes()
    assert explain_staleness(folder, other) == ["code of a.py changed"]
    assert explain_staleness(folder, other, TRUSTING) == []
    assert explain_staleness(folder, CacheKey("05", 2, {}, {}, {}), TRUSTING) == [
        "the stage's code changed (version 1 -> 2)"
    ]
    assert (folder / "manifest.json").read_bytes() == before
    for trust, is_kept in ((TRUSTING, True), (Trust(), False)):
        with pytest.raises(KeyboardInterrupt), build(tmp_path / "b", key) as (begun, _):
            (begun / "scratch" / "shard").write_text("1")
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), build(tmp_path / "b", other, trust) as (begun, _):
            assert (begun / "scratch" / "shard").exists() is is_kept
            raise KeyboardInterrupt
        shutil.rmtree(tmp_path / "b.partial")


def test_a_manifest_without_code_is_read_and_accepted_only_on_trust(tmp_path):
    """As written before code and hardware were recorded: precision "auto", no device, the key named recipe."""
    folder = tmp_path / "a"
    with build(folder, CacheKey("05", 1, {"precision": "auto", "k": 1}, {"a": "1"})) as (partial_folder, _):
        (partial_folder / "data").write_text("1")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["key"]["code"]
    manifest["recipe"] = manifest.pop("key")
    path.write_text(json.dumps(manifest))
    now = CacheKey("05", 1, {"precision": "bfloat16", "device": "cpu", "k": 1}, {"a": "1", "b": "2"}, {"a.py": "1"})
    assert explain_staleness(folder, now) == ["made before its code was recorded (--trust-code accepts it)"]
    assert explain_staleness(folder, now, TRUSTING) == []
    other = CacheKey("05", 1, {"precision": "float32", "k": 2}, {"a": "2"})
    assert explain_staleness(folder, other, TRUSTING) == ["setting k changed (1 -> 2)", "input a changed"]
    manifest["recipe"]["settings"]["precision"] = "float32"
    path.write_text(json.dumps(manifest))
    assert 'setting precision changed ("float32" -> "bfloat16")' in explain_staleness(folder, now, TRUSTING)


# --- What trusted systems promise and test: DVC and Snakemake ---


@pytest.fixture
def two_stages(tmp_path):
    """A function that makes the pipeline of two stages, with another constant in the code of the first if given."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("1")
    (tmp_path / "a.toml").write_text("")

    def write(task, config, calls):
        calls.append(task.published.name)
        (task.folder / "copy.txt").write_text((tmp_path / "data" / "a.txt").read_text())
        (task.folder / "more.txt").write_text("more")

    def read(task, config, calls):
        calls.append(task.published.name)
        (task.folder / "sum.txt").write_text(task.input("01_first:copy.txt").read_text() + "!")

    def make(calls, trust=Trust()):
        config = load_config(tmp_path / "a.toml", [f"runtime.outputs={tmp_path / 'out'}"])
        first = Task("01_first", partial(write, calls=calls), {}, external=lambda: {"data/": tmp_path / "data"})
        second = Task("02_second", partial(read, calls=calls), {}, ("01_first:copy.txt",))
        stages = [Stage(task.artifact, 1, lambda config, task=task: [task]) for task in (first, second)]
        return Pipeline(config, stages, trust)

    return make


def run_two(make, trust=Trust()):
    """The stages that ran."""
    calls = []
    pipeline = make(calls, trust)
    for stage in pipeline.stages:
        pipeline.run_stage(stage)
    return calls


def test_up_to_date_runs_nothing_and_a_touched_file_changes_nothing(two_stages, tmp_path):
    assert run_two(two_stages) == ["01_first", "02_second"]
    assert run_two(two_stages) == []
    os.utime(tmp_path / "data" / "a.txt", (1, 1))
    (tmp_path / "out" / "a" / "01_first" / "copy.txt").touch()
    assert run_two(two_stages) == []


def test_changed_data_reruns_what_reads_it_and_an_equal_result_stops_there(two_stages, tmp_path):
    run_two(two_stages)
    (tmp_path / "data" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "deeper" / "b.txt").write_text("2")
    assert run_two(two_stages) == ["01_first"]
    (tmp_path / "data" / "deep" / "deeper" / "b.txt").write_text("3")
    assert run_two(two_stages) == ["01_first"], "changed data of the same size, deep below"
    (tmp_path / "data" / "a.txt").write_text("4")
    assert run_two(two_stages) == ["01_first", "02_second"]


def test_changed_code_reruns_its_task(two_stages, monkeypatch):
    from pipeline import runner

    run_two(two_stages)
    monkeypatch.setattr(runner, "digest_code", lambda work: {"a.py": "other"})
    assert run_two(two_stages, TRUSTING) == []
    assert run_two(two_stages) == ["01_first", "02_second"]


def test_a_deleted_manifest_and_a_deleted_output_are_made_again(two_stages, tmp_path):
    run_two(two_stages)
    first = tmp_path / "out" / "a" / "01_first"
    (first / "copy.txt").unlink()
    assert run_two(two_stages) == ["01_first"], "the same bytes again: what reads them stays"
    shutil.rmtree(first)
    assert run_two(two_stages) == ["01_first"]
    (first / "manifest.json").unlink()
    with pytest.raises(PipelineError, match="did not write"):  # whose files these are cannot be told any more
        run_two(two_stages)


def test_a_manifest_that_lacks_an_entry_is_never_read_past(two_stages, tmp_path):
    run_two(two_stages)
    path = tmp_path / "out" / "a" / "01_first" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["copy.txt"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(PipelineError, match=r"01_first:copy\.txt, which is not in the manifest.*\n.*\n.*--force 1"):
        run_two(two_stages)


# --- Photographs ---


def make_photographs(folder):
    for name in ("a/1.jpg", "a/2.jpg", "3.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_the_digest_of_a_folder_sees_replaced_files_and_no_new_times(tmp_path):
    make_photographs(tmp_path)
    before = digest_folder(tmp_path)
    os.utime(tmp_path / "3.jpg", (1, 1))
    touched = digest_folder(tmp_path, before)
    assert touched.evidence == before.evidence and touched.times != before.times
    (tmp_path / "3.jpg").write_bytes(b"4.jpg")
    replaced = digest_folder(tmp_path, touched)
    assert replaced.names == before.names and replaced.evidence != before.evidence
    assert list_newer(tmp_path, touched.newest_ns, 3) == ["3.jpg"]
    (tmp_path / "3.jpg").rename(tmp_path / "5.jpg")
    assert digest_folder(tmp_path).names != before.names


def test_known_times_spare_reading_the_bytes_and_verify_reads_them(tmp_path, monkeypatch):
    make_photographs(tmp_path)
    before = digest_folder(tmp_path)
    stat = (tmp_path / "3.jpg").stat()
    (tmp_path / "3.jpg").write_bytes(b"4.jpg")
    os.utime(tmp_path / "3.jpg", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest_folder(tmp_path, before).evidence == before.evidence, "nothing but the bytes tells"
    assert digest_folder(tmp_path).evidence != before.evidence
    monkeypatch.setattr(listing, "hash_file", lambda path: pytest.fail("read"))
    digest_folder(tmp_path, before)


def test_a_folder_too_large_to_hash_goes_by_its_times(tmp_path, monkeypatch):
    make_photographs(tmp_path)
    monkeypatch.setattr(listing, "HASHED_BYTES", 12)
    before = digest_folder(tmp_path)
    assert before.content == "" and digest_folder(tmp_path, before).evidence == before.evidence
    os.utime(tmp_path / "3.jpg", (1, 1))
    assert digest_folder(tmp_path, before).evidence != before.evidence


@pytest.mark.parametrize("hashed_bytes", [100_000, 0])
def test_the_digest_of_a_photograph_is_of_its_bytes_or_of_its_ends(tmp_path, monkeypatch, hashed_bytes):
    monkeypatch.setattr(listing, "HASHED_BYTES", hashed_bytes)

    def digest(content):
        (tmp_path / "a.jpg").write_bytes(content)
        os.utime(tmp_path / "a.jpg", (1, 1))
        table = pd.DataFrame({"path": ["a.jpg", "missing.jpg"], "bytes": [len(content), 0]})
        write_photograph_digests(tmp_path / "digests", tmp_path, table)
        first, second = (tmp_path / "digests").read_text().splitlines()
        assert first.endswith("  a.jpg") and second == "unreadable  missing.jpg"
        return first

    content = bytes(range(256)) * 64
    assert digest(content) == digest(content)
    for at in (0, 4095, len(content) - 1):
        assert digest(content[:at] + b"\x99" + content[at + 1 :]) != digest(content)
    assert digest(content + b"1") != digest(content)
    if hashed_bytes:
        assert digest(content[:8000] + b"\x99" + content[8001:]) != digest(content)
        check = subprocess.run(["sha256sum", "--ignore-missing", "-c", "digests"], cwd=tmp_path, capture_output=True)
        assert b"a.jpg: OK" in check.stdout


def replace_photograph(folder):
    """Replace a photograph by another of the same size; its name."""
    paths = sorted(folder.rglob("*.jpg"), key=lambda path: path.stat().st_size)
    smaller, larger = paths[0].read_bytes(), paths[-1]
    room = larger.stat().st_size - len(smaller) - 4  # for a comment, after the first marker
    comment = b"\xff\xfe" + (room + 2).to_bytes(2, "big") + b" " * room
    larger.write_bytes(smaller[:2] + comment + smaller[2:])
    return larger.name


def test_a_replaced_photograph_of_the_same_size_is_named_and_described_again(copied):
    config, data, outputs = copied
    assert explain(config, 11) == {}
    for path in data.rglob("*.jpg"):
        path.touch()
    assert explain(config, 11) == {}, "touching the files of a small set changes nothing"
    tables = {split: (outputs / layout.PREPARE / f"{split}.parquet").read_bytes() for split in ("train", "test")}
    before = (outputs / layout.descriptors("cnn", "test") / "descriptors.npy").read_bytes()
    name = replace_photograph(data / "test")
    why = explain(config, 1)[layout.PREPARE]
    assert len(why) == 1 and why[0].startswith("photographs in test/ were replaced (changed since: ") and name in why[0]
    run_stages(config, 1)
    stale = explain(config, 5)
    assert {artifact: reasons for artifact, reasons in stale.items() if "is stale" not in reasons[0]} == {
        layout.descriptors("cnn", "test"): [f"input {layout.photograph_digests('test')} changed"]
    }
    run_stages(config, 5)
    assert (outputs / layout.descriptors("cnn", "test") / "descriptors.npy").read_bytes() != before
    for split, content in tables.items():
        assert (outputs / layout.PREPARE / f"{split}.parquet").read_bytes() == content, "only the pixels changed"


def test_touched_photographs_of_a_large_set_rerun_only_the_first_stage(copied, monkeypatch):
    monkeypatch.setattr(listing, "HASHED_BYTES", 0)
    config, data, outputs = copied
    run_stages(config, 1)
    digests = outputs / layout.PREPARE / "index.sha256"
    before = digests.read_bytes()
    touched = sorted((data / "index").rglob("*.jpg"))[2]
    touched.touch()
    why = explain(config, 1)[layout.PREPARE]
    name = touched.relative_to(data / "index")
    assert why == [f"photographs in index/ were touched or replaced (changed since: {name})"]
    run_stages(config, 1)
    assert digests.read_bytes() == before, "what later stages read is as it was"
    removed = sorted((data / "index").rglob("*.jpg"))[0]
    removed.unlink()
    assert explain(config, 1)[layout.PREPARE] == ["photographs in index/ were added, removed, renamed or resized"]


def test_verify_reads_the_photographs(copied):
    config, data, _ = copied
    run_stages(config, 1)
    photograph = max((data / "test").rglob("*.jpg"), key=lambda path: path.stat().st_size)
    stat = photograph.stat()
    replace_photograph(data / "test")
    os.utime(photograph, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh = Pipeline(config, load_stages()[:1], Trust())
    recorded = read_manifest(fresh.locate(layout.PREPARE)).facts["folders"]["test/"]
    if recorded["times"] == digest_folder(data / "test").times:  # a copy keeps times, where the file system does
        assert explain(config, 1) == {}
    assert "photographs in test/ were replaced" in explain(config, 1, Trust(thorough=True))[layout.PREPARE][0]


# --- Hardware ---


def test_what_auto_means_is_found_without_torch_and_as_torch_finds_it():
    has_cuda = torch.cuda.is_available()
    assert hardware.resolve_device() == ("cuda" if has_cuda else "cpu") == choose_device("auto").type
    flags = torch.cpu.get_capabilities()
    on_cpu = bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    assert hardware.resolve_precision("cpu") == ("bfloat16" if on_cpu else "float32")
    if has_cuda:
        on_gpu = torch.cuda.is_bf16_supported(including_emulation=False)
        assert hardware.resolve_precision("cuda") == ("bfloat16" if on_gpu else "float32")
    assert hardware.resolve_device("cuda:1") == "cuda" and hardware.resolve_precision("cpu", "float32") == "float32"


class FakeDriver:
    """The calls of libcuda that are made, for a driver of CUDA 13 with GPUs of one generation."""

    def __init__(self, gpus, generation, version=13_000):
        self.gpus, self.generation, self.version = gpus, generation, version

    def cuDriverGetVersion(self, result):
        result._obj.value = self.version

    def cuInit(self, flags):
        return 0 if self.gpus else 100

    def cuDeviceGetCount(self, result):
        result._obj.value = self.gpus
        return 0

    def cuDeviceGetAttribute(self, result, attribute, device):
        assert (attribute, device) == (75, 0)
        result._obj.value = self.generation
        return 0


@pytest.mark.parametrize(
    ("driver", "build_of_torch", "expected"),
    [
        (FakeDriver(1, 9), (13, False), ("cuda", "bfloat16")),
        (FakeDriver(2, 7), (13, False), ("cuda", "float32")),
        (FakeDriver(0, 9), (13, False), ("cpu", None)),
        (FakeDriver(1, 9, version=12_040), (13, False), ("cpu", None)),
        (FakeDriver(1, 9), (0, False), ("cpu", None)),
        (None, (13, False), ("cpu", None)),
    ],
)
def test_the_driver_tells_whether_there_is_a_gpu_that_multiplies_bfloat16(
    monkeypatch, driver, build_of_torch, expected
):
    def load(name):
        if driver is None:
            raise OSError("no such library")
        return driver

    monkeypatch.setattr(hardware.ctypes, "CDLL", load)
    monkeypatch.setattr(hardware, "_read_torch_build", lambda: build_of_torch)
    hardware.find_cuda_capability.cache_clear()
    try:
        device, precision = expected
        assert hardware.resolve_device() == device
        assert precision is None or hardware.resolve_precision(device) == precision
    finally:
        hardware.find_cuda_capability.cache_clear()


def keys_by_artifact(*overrides):
    config = smoke_config(*overrides)
    return {task.artifact: task.settings for stage in load_stages() for task in stage.tasks(config)}


def test_the_cache_key_says_what_auto_means_and_batches_where_they_decide_bits(monkeypatch):
    monkeypatch.setattr(hardware, "find_cuda_capability", lambda: 0)
    monkeypatch.setattr(hardware, "_cpu_multiplies_bfloat16", lambda: False)
    slow = keys_by_artifact("runtime.device=auto")
    monkeypatch.setattr(hardware, "_cpu_multiplies_bfloat16", lambda: True)
    fast = keys_by_artifact("runtime.device=auto")
    changed = {name.split("/")[0] for name in slow if slow[name] != fast[name]}
    assert changed == {layout.TRAIN_BASE, layout.CLEAN, layout.TRAIN_FINAL, layout.EXTRACT_GLOBAL, layout.EXTRACT_LOCAL}
    cuts = ["extract.batch_size=3", "extract.shard_rows=7", "local.batch_size=3", "local.shard_rows=7"]
    cuts += ["verify.shard_pairs=9"]
    assert keys_by_artifact("runtime.device=cpu", *cuts) == fast, "on a CPU they decide no bit"
    monkeypatch.setattr(hardware, "find_cuda_capability", lambda: 9)
    on_gpu, cut = keys_by_artifact("runtime.device=auto"), keys_by_artifact("runtime.device=auto", *cuts)
    assert on_gpu == keys_by_artifact("runtime.device=cuda:1")
    computed = {layout.BUILD_KNN, layout.VERIFY, layout.RERANK} | changed
    assert {name.split("/")[0] for name in on_gpu if on_gpu[name] != fast[name]} == computed
    assert {name.split("/")[0] for name in on_gpu if on_gpu[name] != cut[name]} == {
        layout.CLEAN, layout.EXTRACT_GLOBAL, layout.EXTRACT_LOCAL, layout.VERIFY,
    }  # fmt: skip


def test_an_external_table_goes_by_its_content(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    values = {"a.csv": tmp_path / "a.csv", "b.csv": tmp_path / "b.csv", "given": "digest"}
    before = ExternalFiles().digest(values, None)
    assert before["b.csv"] == "missing" and before["given"] == "digest"
    (tmp_path / "a.csv").write_text("2")
    assert ExternalFiles().digest(values, None)["a.csv"] != before["a.csv"]
