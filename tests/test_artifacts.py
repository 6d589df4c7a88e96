"""Artifacts: fresh by content, never half, resumable, one writer."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.artifacts import Trust, atomic_file, build, explain_staleness, read_manifest, recover
from pipeline.cache_key import CacheKey
from pipeline.errors import PipelineError
from pipeline.lock import hold_lock


def key(**settings):
    return CacheKey("05_stage", 1, settings, {"04:weights": "abc"})


def publish(folder, text="data", **settings):
    with build(folder, key(**settings)) as (partial, facts):
        (partial / "data.txt").write_text(text)
        facts["rows"] = len(text)


def test_a_killed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "scores.npy"
    np.save(target, np.arange(3))
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert np.load(target).tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npy"]


def test_an_atomic_file_is_readable_by_others(tmp_path):
    with atomic_file(tmp_path / "a") as part:
        part.write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~artifacts._umask()


def test_a_published_artifact_is_fresh_and_says_what_is_in_it(tmp_path):
    publish(tmp_path / "a", k=3)
    manifest = read_manifest(tmp_path / "a")
    assert explain_staleness(tmp_path / "a", key(k=3)) == []
    assert manifest.facts == {"rows": 4}
    assert list(manifest.files) == ["data.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_staleness_names_the_setting_the_input_and_the_version(tmp_path):
    publish(tmp_path / "a", k=3, train={"epochs": 5})
    other = CacheKey("05_stage", 2, {"k": 4, "train": {"epochs": 5, "seed": 1}}, {"04:weights": "xyz"})
    assert explain_staleness(tmp_path / "a", other) == [
        "the stage's code changed (version 1 -> 2)",
        "setting k changed (3 -> 4)",
        "setting train.seed changed (unset -> 1)",
        "input 04:weights changed",
    ]
    assert explain_staleness(tmp_path / "b", other) == ["not built yet"]


def test_touching_a_file_changes_nothing_but_altering_it_does(tmp_path):
    publish(tmp_path / "a")
    os.utime(tmp_path / "a" / "data.txt", (1, 1))
    assert explain_staleness(tmp_path / "a", key()) == []
    (tmp_path / "a" / "data.txt").write_text("dada")
    assert explain_staleness(tmp_path / "a", key()) == ["data.txt has been altered since it was written"]
    (tmp_path / "a" / "data.txt").write_text("da")
    assert explain_staleness(tmp_path / "a", key()) == ["data.txt has 2 bytes where 4 were written"]
    (tmp_path / "a" / "data.txt").unlink()
    assert explain_staleness(tmp_path / "a", key()) == ["data.txt is missing"]


def test_a_thorough_look_finds_a_flipped_byte_behind_an_unchanged_size_and_time(tmp_path):
    publish(tmp_path / "a")
    file = tmp_path / "a" / "data.txt"
    times = file.stat()
    file.write_text("dbta")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert explain_staleness(tmp_path / "a", key()) == []
    assert explain_staleness(tmp_path / "a", key(), Trust(thorough=True)) == [
        "data.txt has been altered since it was written"
    ]


def test_the_digest_depends_on_names_and_contents_alone(tmp_path):
    publish(tmp_path / "a")
    time.sleep(0.01)
    publish(tmp_path / "b", k=9)
    publish(tmp_path / "c", text="other")
    digests = [read_manifest(tmp_path / name).digest() for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    assert read_manifest(tmp_path / "a").digest("nothing") is None


def test_work_for_the_same_recipe_goes_on_and_work_for_another_is_deleted(tmp_path):
    folder = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt), build(folder, key(k=1)) as (partial, _):
        (partial / "scratch" / "shard").write_text("1")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), build(folder, key(k=1)) as (partial, _):
        assert (partial / "scratch" / "shard").exists()
        raise KeyboardInterrupt
    with build(folder, key(k=2)) as (partial, _):
        assert not (partial / "scratch" / "shard").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json"]


def test_a_failed_rebuild_leaves_the_old_artifact(tmp_path):
    publish(tmp_path / "a", k=1)
    with pytest.raises(OSError, match="disk full"), build(tmp_path / "a", key(k=2)) as (partial, _):
        (partial / "data.txt").write_text("new")
        raise OSError("disk full")
    assert (tmp_path / "a" / "data.txt").read_text() == "data"
    assert explain_staleness(tmp_path / "a", key(k=1)) == []


@pytest.mark.parametrize("point", range(11))
def test_a_kill_at_any_point_of_publishing_leaves_the_old_or_the_new(tmp_path, monkeypatch, point):
    """Every system call of the publication in turn is the last one made."""
    folder = tmp_path / "a"
    publish(folder, "old", k=1)
    calls = iter(range(100))

    def dying(real):
        def call(*args, **kwargs):
            if next(calls) == point:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return call

    with (
        contextlib.suppress(KeyboardInterrupt),
        monkeypatch.context() as patch,
        build(folder, key(k=2)) as (partial, _),
    ):
        (partial / "data.txt").write_text("new")
        patch.setattr(artifacts.os, "rename", dying(os.rename))
        patch.setattr(artifacts.os, "replace", dying(os.replace))
        patch.setattr(artifacts.shutil, "rmtree", dying(artifacts.shutil.rmtree))
        patch.setattr(artifacts, "_sync", dying(artifacts._sync))
    recover(folder)
    text = (folder / "data.txt").read_text()
    assert text in ("old", "new")
    assert explain_staleness(folder, key(k=1 if text == "old" else 2), Trust(thorough=True)) == []
    assert not (tmp_path / "a.old").exists()


def test_a_kill_while_the_files_are_hashed_costs_no_work(tmp_path, monkeypatch):
    folder = tmp_path / "a"

    def killed(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, build(folder, key()) as (partial, _):
        (partial / "scratch" / "state").write_text("hours of training")
        (partial / "data.txt").write_text("data")
        (partial / ".data.txt.x.part").write_text("half")
        patch.setattr(artifacts, "hash_file", killed)
    recover(folder)
    with build(folder, key()) as (partial, _):
        assert (partial / "scratch" / "state").read_text() == "hours of training"
        assert not (partial / ".data.txt.x.part").exists()
    assert list(read_manifest(folder).files) == ["data.txt"]
    assert sorted(path.name for path in folder.iterdir()) == ["data.txt", "manifest.json"]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("precious")
    with pytest.raises(PipelineError, match="did not write"):
        publish(tmp_path / "a")
    assert (tmp_path / "a" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "surprise": 2}'])
def test_a_damaged_manifest_is_an_error_that_names_it(tmp_path, text):
    publish(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(PipelineError, match=r"manifest\.json"):
        explain_staleness(tmp_path / "a", key())


HOLDER = """
import sys, time
from pathlib import Path
from pipeline.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_the_first_is_and_a_killed_one_leaves_no_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PipelineError, match=f"process {holder.pid}"), hold_lock(tmp_path / "a"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with hold_lock(tmp_path / "a"):
        pass
