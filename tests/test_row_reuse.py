"""Adding photographs costs what is added, and gives the bytes that computing everything gives."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run
from tasks import RecordedTask

from pipeline.competition.listing import UNREADABLE, read_photograph_digests, write_photograph_digests
from pipeline.features.image_shards import write_image_shards
from pipeline.features.row_reuse import PublishedRows, key_rows
from pipeline.images.inspection import Tolerance
from pipeline.images.split import Split

ROOT = Path(__file__).resolve().parent.parent
FILES = ("descriptors.npy", "row_keys.npy", "rejected.csv")
LOCAL = ("points", "scales", "attention", "descriptors", "offsets", "row_keys")


def split_of(digests, widths=None):
    """Images by id -> digest."""
    table = pd.DataFrame({"id": list(digests), "path": [f"{one}.jpg" for one in digests]}, dtype=str)
    table = table.assign(width=widths or 9, height=9, left=0.0, top=0.0, right=9.0, bottom=9.0)
    return Split(table, Path("nowhere"), Tolerance("index", len(table), 0, 1.0), list(digests.values()))


def write(folder, split, previous=None, wanted=None, ragged=False, bad=(), shard_rows=4, stop_after=1000):
    """Arrays made from the digests; returns the ids of the images that were computed."""
    computed = []

    def make(rows, on_bad):
        computed.extend(split.table["id"].iloc[rows])
        for position, row in enumerate(rows):
            if split.table["id"].iloc[row] in bad:
                on_bad(position, "damaged")
        numbers = np.array([sum(map(ord, split.digests[row])) for row in rows], np.float32)
        if not ragged:
            return {"descriptors": np.stack([numbers, numbers + 1], axis=1)}
        is_wanted = np.ones(len(rows), np.bool_) if wanted is None else wanted[rows]
        counts = np.where(is_wanted, numbers % 4, 0).astype(np.int64)
        return {"counts": counts, "points": np.repeat(numbers, counts), "codes": np.repeat(numbers, counts)[:, None]}

    task = RecordedTask(folder, stop_after)
    task.previous = previous
    write_image_shards(task, split, shard_rows, make, ragged, wanted)
    return computed


def same(one, other):
    files = sorted(path.name for path in one.iterdir() if path.is_file())
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files) and len(files) > 1


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_rows_taken_over_and_rows_computed_are_those_of_computing_all(tmp_path, seed, ragged):
    rng = np.random.default_rng(seed)
    names = [f"i{number:02d}" for number in range(30)]
    old = {one: f"d{rng.integers(100)}" for one in rng.permutation(names)[: (0, 1, 12, 20, 25, 30)[seed]]}
    new = {one: old[one] if one in old and rng.random() < 0.7 else "fresh" for one in rng.permutation(names)[:21]}
    write(tmp_path / "old", split_of(old), ragged=ragged)
    computed = write(tmp_path / "new", split_of(new), tmp_path / "old", ragged=ragged)
    write(tmp_path / "whole", split_of(new), ragged=ragged)
    assert same(tmp_path / "whole", tmp_path / "new")
    assert sorted(computed) == sorted(one for one in new if new[one] != old.get(one))


def test_a_row_is_computed_again_for_each_change_of_its_image(tmp_path):
    old = {"a": "1", "b": "2", "c": "3", "d": UNREADABLE, "e": "5"}
    write(tmp_path / "old", split_of(old), bad=("e",))
    now = split_of(old | {"b": "9"}, widths=[9, 9, 8, 9, 9])
    assert write(tmp_path / "new", now, tmp_path / "old") == ["b", "c", "d", "e"]
    moved = split_of({"z": "1"} | old)
    moved.table.loc[2, "left"] = 1.0
    rows = PublishedRows(tmp_path / "old", moved, key_rows(moved)).rows
    assert rows.tolist() == [-1, 0, -1, 2, -1, -1]  # another id, the same, another box, the same, never, rejected


def test_an_image_that_was_not_wanted_is_computed_when_it_is(tmp_path):
    split, before, now = (
        split_of(dict.fromkeys("abcd", "x1")),
        np.array([1, 1, 0, 0], bool),
        np.array([1, 0, 1, 0], bool),
    )
    write(tmp_path / "old", split, wanted=before, ragged=True)
    assert write(tmp_path / "new", split, tmp_path / "old", now, ragged=True) == ["b", "c"]
    write(tmp_path / "whole", split, wanted=now, ragged=True)
    assert same(tmp_path / "whole", tmp_path / "new")


def test_after_a_kill_only_what_was_not_finished_is_computed(tmp_path):
    old = {f"o{number}": "d" for number in range(10)}
    new = split_of({one: text for number in range(10) for one, text in ((f"n{number}", "e"), (f"o{number}", "d"))})
    write(tmp_path / "old", split_of(old))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "new", new, tmp_path / "old", stop_after=2)
    assert write(tmp_path / "new", new, tmp_path / "old") == [f"n{number}" for number in range(4, 10)]
    write(tmp_path / "whole", new)
    shutil.rmtree(tmp_path / "new/scratch"), shutil.rmtree(tmp_path / "whole/scratch")
    assert same(tmp_path / "whole", tmp_path / "new")


def test_an_artifact_without_keys_gives_nothing_and_a_split_without_digests_takes_nothing(tmp_path):
    split = split_of({"a": "1", "b": "2"})
    write(tmp_path / "old", split)
    (tmp_path / "old/row_keys.npy").unlink()
    assert write(tmp_path / "new", split, tmp_path / "old") == ["a", "b"]
    with pytest.raises(ValueError, match="digests"):
        key_rows(Split(split.table, Path()))


def test_digests_are_read_as_they_were_written(tmp_path):
    (tmp_path / "a b.jpg").write_bytes(b"x")
    table = pd.DataFrame({"path": ["a b.jpg", "gone.jpg"], "bytes": [1, 1]})
    write_photograph_digests(tmp_path / "list", tmp_path, table)
    first, second = read_photograph_digests(tmp_path / "list")
    assert len(first) == 64 and second == UNREADABLE


def add_photographs(folder, count, seed):
    """Smooth random pictures, so that networks find something."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        small = rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"s{seed}_{number}.jpg"), cv2.resize(small, (96, 64), interpolation=cv2.INTER_CUBIC))


@pytest.fixture
def counted(monkeypatch):
    """The numbers of images that the networks were asked for, by function."""
    from pipeline.features import global_descriptors, local_features

    asked = {"global": 0, "local": 0}

    def count(owner, name, kind):
        work = getattr(owner, name)

        def counting(*given):
            asked[kind] += len(next(one for one in given if isinstance(one, np.ndarray)))
            return work(*given)

        monkeypatch.setattr(owner, name, counting)

    count(global_descriptors.Describer, "describe", "global")
    count(local_features, "_extract_rows", "local")
    return asked


def test_ten_photographs_added_to_index_cost_the_extraction_of_ten_and_give_the_bytes_of_a_new_run(tmp_path, counted):
    data = tmp_path / "data"
    for landmark in range(3):
        add_photographs(data / f"train/{landmark}", 4, landmark)
    add_photographs(data / "index", 12, 10)
    add_photographs(data / "test", 5, 11)
    arguments = ["--config", ROOT / "configs/smoke.toml", "data.source=folders", f"data.root={data}", "--to", 7]
    arguments += [
        "clean.source=none",
        "local.scales=[1.0]",
        *(f"models.cnn.{phase}.epochs=0" for phase in ("base", "final")),
    ]
    assert run(*arguments, f"runtime.outputs={tmp_path / 'grown'}") == 0
    assert counted == {"global": 29, "local": 12 + 12 + 5}
    add_photographs(data / "index", 10, 12)
    counted |= {"global": 0, "local": 0}
    assert run(*arguments, f"runtime.outputs={tmp_path / 'grown'}") == 0
    assert counted == {"global": 10, "local": 10}
    assert run(*arguments, f"runtime.outputs={tmp_path / 'new'}") == 0
    for name in (*(f"05_extract_global/cnn/index/{name}" for name in FILES),
                 *(f"07_extract_local/cnn/index/{name}.npy" for name in LOCAL)):  # fmt: skip
        assert (tmp_path / "grown/smoke" / name).read_bytes() == (tmp_path / "new/smoke" / name).read_bytes(), name
    counted |= {"global": 0, "local": 0}
    assert run(*arguments, f"runtime.outputs={tmp_path / 'grown'}", "--force", 5) == 0
    assert counted["global"] == 39, "forced work takes nothing over"
    (data / "index/s12_0.jpg").unlink()
    add_photographs(data / "index", 1, 13)
    (data / "index/s13_0.jpg").replace(data / "index/s10_3.jpg")
    counted |= {"global": 0, "local": 0}
    assert run(*arguments, f"runtime.outputs={tmp_path / 'grown'}") == 0
    assert counted == {"global": 1, "local": 1}
