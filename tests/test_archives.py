"""Archives compared with their MD5 lists: where both are found, and what is named when they disagree."""

import hashlib

import pytest
from tasks import RecordedTask

from pipeline.competition.archives import check_archives, find_archives
from pipeline.errors import PipelineError


@pytest.fixture
def root(tmp_path):
    """Three archives: two with lists beside them, one with its list in md5sum/<split>/ as it is published."""
    root = tmp_path / "data"
    placed = [("train", "000", "train"), ("train", "001", "train"), ("index", "000", "md5sum/index")]
    for split, number, lists in placed:
        archive = root / split / f"images_{number}.tar"
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(f"{split} {number}".encode() * 1000)
        (root / lists).mkdir(parents=True, exist_ok=True)
        line = f"{hashlib.md5(archive.read_bytes()).hexdigest()}  {archive.name}\n"
        (root / lists / f"md5.images_{number}.txt").write_text(line)
    (root / "train" / "a").mkdir()
    (root / "train.csv").write_text("id,landmark_id\n")
    return root


def test_archives_are_found_beside_their_lists_and_where_they_are_published(root):
    found = [str(entry.archive.relative_to(root)) for entry in find_archives(root)]
    assert found == ["index/images_000.tar", "train/images_000.tar", "train/images_001.tar"]


def test_archives_that_agree_are_counted_and_read_once(root, tmp_path, monkeypatch):
    task = RecordedTask(tmp_path / "task", shards=2)
    task.scratch.mkdir()
    with pytest.raises(KeyboardInterrupt):  # killed after two
        check_archives(task, root)
    digest, read = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    assert check_archives(RecordedTask(tmp_path / "task"), root) == 3
    assert read == [str(root / "train" / "images_001.tar")]


def test_a_missing_and_a_differing_archive_are_named_with_their_lists(root, tmp_path):
    (root / "train" / "images_001.tar").unlink()
    archive = root / "index" / "images_000.tar"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    task = RecordedTask(tmp_path / "task")
    task.scratch.mkdir()
    with pytest.raises(PipelineError, match="2 of 3 archives") as caught:
        check_archives(task, root)
    said = str(caught.value)
    assert caught.value.exit_code == 3
    assert f"{archive} differs from its MD5 in {root / 'md5sum' / 'index' / 'md5.images_000.txt'}" in said
    assert f"images_001.tar is missing (listed in {root / 'train' / 'md5.images_001.txt'})" in said


@pytest.mark.parametrize("line", ["no digest at all", "0" * 32 + "  ../../etc/passwd", "0" * 31 + "  images_000.tar"])
def test_what_is_no_md5_list_is_refused_with_its_line(root, line):
    (root / "train" / "md5.images_000.txt").write_text(f"\n{line}\n")
    with pytest.raises(PipelineError, match="is no line of an MD5 list") as caught:
        find_archives(root)
    assert str(caught.value.where).endswith("md5.images_000.txt, line 2")


def test_without_any_list_there_is_nothing_to_compare_with(tmp_path):
    with pytest.raises(PipelineError, match="there is no MD5 list"):
        find_archives(tmp_path)
