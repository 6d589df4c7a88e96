"""Sharded arrays: the same bytes however the rows are cut, a kill loses at most one shard."""

import numpy as np
import pytest
from tasks import RecordedTask

from pipeline.features.store import Turns, write_in_shards, write_ragged_in_shards, write_sharded


def squares(start, stop):
    rows = np.arange(start, stop, dtype=np.float32)
    return {"squares": rows[:, None] ** [1, 2], "rows": rows.astype(np.int32)}


@pytest.mark.parametrize("rows", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("shard_rows", [1, 4, 100])
def test_the_file_is_the_same_however_it_is_cut(tmp_path, rows, shard_rows):
    told = []
    write_in_shards(tmp_path, tmp_path / "scratch", rows, shard_rows, squares, Turns(told.append))
    assert np.load(tmp_path / "squares.npy").tolist() == squares(0, rows)["squares"].tolist()
    assert np.load(tmp_path / "rows.npy").dtype == np.int32
    assert sum(told) == rows


def test_finished_shards_are_not_made_again(tmp_path):
    made = []

    def dying(start, stop):
        made.append(start)
        if start == 8:
            raise KeyboardInterrupt
        return squares(start, stop)

    with pytest.raises(KeyboardInterrupt):
        write_in_shards(tmp_path, tmp_path / "scratch", 10, 4, dying)
    assert not (tmp_path / "squares.npy").exists()
    with pytest.raises(KeyboardInterrupt):
        write_in_shards(tmp_path, tmp_path / "scratch", 10, 4, dying)
    assert made == [0, 4, 8, 8]


@pytest.mark.parametrize("ragged", [False, True])
def test_a_request_to_stop_is_met_after_a_finished_shard(tmp_path, ragged):
    make = make_ragged(10)[0] if ragged else squares
    task = RecordedTask(tmp_path, shards=2)
    with pytest.raises(KeyboardInterrupt):
        write_sharded(task, 10, 4, make, ragged=ragged)
    assert task.told == [4, 4]
    names = ["000000000-000000004.npz", "000000004-000000008.npz"]
    assert sorted(path.name for path in task.scratch.iterdir()) == names and not list(tmp_path.glob("*.npy"))
    write_sharded(RecordedTask(tmp_path), 10, 4, make, ragged=ragged)
    assert len(np.load(tmp_path / ("offsets.npy" if ragged else "squares.npy"))) == 10 + ragged


def test_a_shard_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="4 to 8"):
        write_in_shards(tmp_path, tmp_path / "s", 8, 4, lambda start, stop: {"a": np.zeros(4 if start == 0 else 3)})


def make_ragged(rows, seed=0):
    """A maker of rows with 0 to 4 items, many with none; the same items however the rows are cut."""
    counts = np.random.default_rng(seed).integers(-3, 5, rows).clip(0)
    offsets = np.concatenate([[0], np.cumsum(counts)])

    def make(start, stop):
        items = np.arange(offsets[start], offsets[stop])
        return {
            "counts": counts[start:stop],
            "pairs": np.stack([items, -items], axis=1).astype(np.float16),
            "items": items.astype(np.int32),
        }

    return make, offsets


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.mark.parametrize("rows", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("shard_rows", [1, 4, 100])
def test_packed_files_are_the_same_however_the_rows_are_cut(tmp_path, rows, shard_rows):
    make, offsets = make_ragged(rows, seed=rows)
    told = []
    write_ragged_in_shards(tmp_path, tmp_path / "scratch", rows, shard_rows, make, Turns(told.append))
    assert sorted(read_files(tmp_path)) == ["items.npy", "offsets.npy", "pairs.npy"]
    written = np.load(tmp_path / "offsets.npy")
    assert written.dtype == np.int64 and written.tolist() == offsets.tolist()
    assert np.load(tmp_path / "items.npy").tolist() == list(range(offsets[-1]))
    pairs = np.load(tmp_path / "pairs.npy")
    assert pairs.dtype == np.float16 and pairs.shape == (offsets[-1], 2)
    assert sum(told) == rows


def test_rows_without_any_item_keep_dtype_and_shape(tmp_path):
    def nothing(start, stop):
        return {"counts": np.zeros(stop - start, np.uint16), "bits": np.zeros((0, 16), np.uint8)}

    write_ragged_in_shards(tmp_path, tmp_path / "scratch", 7, 3, nothing)
    bits = np.load(tmp_path / "bits.npy", mmap_mode="r")
    assert bits.shape == (0, 16) and bits.dtype == np.uint8
    assert np.load(tmp_path / "offsets.npy").tolist() == [0] * 8


def test_packed_shards_are_made_once_and_a_resumed_run_gives_the_same_bytes(tmp_path):
    make, _ = make_ragged(10)
    made, deaths = [], [8, 4]

    def dying(start, stop):
        if deaths and start == deaths[-1]:
            deaths.pop()
            raise KeyboardInterrupt
        made.append(start)
        return make(start, stop)

    folder, whole = tmp_path / "killed", tmp_path / "whole"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            write_ragged_in_shards(folder, folder / "scratch", 10, 4, dying)
        assert read_files(folder) == {}
    write_ragged_in_shards(folder, folder / "scratch", 10, 4, dying)
    assert made == [0, 4, 8]
    write_ragged_in_shards(whole, whole / "scratch", 10, 3, make)
    assert read_files(folder) == read_files(whole)


def test_a_kill_while_packed_shards_are_merged_costs_no_shard(tmp_path, monkeypatch):
    make, offsets = make_ragged(10)

    def die(*arguments, **words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "copyto", die)
        write_ragged_in_shards(tmp_path, tmp_path / "scratch", 10, 4, make)
    write_ragged_in_shards(tmp_path, tmp_path / "scratch", 10, 4, lambda start, stop: pytest.fail("made again"))
    assert np.load(tmp_path / "items.npy").tolist() == list(range(offsets[-1]))


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"a": np.zeros(4)}, "need counts"),
        ({"counts": np.ones(4, int), "offsets": np.zeros(4)}, "no offsets"),
        ({"counts": np.ones(3, int), "a": np.zeros(3)}, "0 to 4"),
        ({"counts": np.ones(4), "a": np.zeros(4)}, "float64"),
        ({"counts": np.array([1, 2, -1, 0]), "a": np.zeros(2)}, "0 to 4"),
        ({"counts": np.array([0, 2, 1, 0]), "a": np.zeros(4)}, "a has 4 items .* 3"),
    ],
)
def test_packed_arrays_that_do_not_fit_their_counts_are_refused(tmp_path, arrays, complaint):
    with pytest.raises(ValueError, match=complaint):
        write_ragged_in_shards(tmp_path, tmp_path / "s", 4, 4, lambda start, stop: arrays)
    assert list((tmp_path / "s").iterdir()) == []


def test_an_empty_shard_of_another_dtype_is_refused_instead_of_changing_the_file(tmp_path):
    def forgetful(start, stop):
        dtype = np.float64 if start == 0 else np.float32
        return {"counts": np.full(stop - start, start, int), "a": np.zeros(start * (stop - start), dtype)}

    with pytest.raises(TypeError, match="float32"):
        write_ragged_in_shards(tmp_path, tmp_path / "s", 2, 1, forgetful)
