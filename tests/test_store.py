"""Sharded arrays: the same bytes however the rows are cut, one shard lost to a kill."""

import numpy as np
import pytest

from pipeline.features.store import write_in_shards


def squares(start, stop):
    rows = np.arange(start, stop, dtype=np.float32)
    return {"squares": rows[:, None] ** [1, 2], "rows": rows.astype(np.int32)}


@pytest.mark.parametrize("rows", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("shard_rows", [1, 4, 100])
def test_the_file_is_the_same_however_it_is_cut(tmp_path, rows, shard_rows):
    told = []
    write_in_shards(tmp_path, tmp_path / "scratch", rows, shard_rows, squares, told.append)
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


def test_a_wish_to_stop_is_met_behind_a_finished_shard(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_in_shards(tmp_path, tmp_path / "scratch", 10, 4, squares, should_stop=lambda: True)
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["000000000-000000004.npz"]


def test_a_shard_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="4 to 8"):
        write_in_shards(tmp_path, tmp_path / "s", 8, 4, lambda start, stop: {"a": np.zeros(4 if start == 0 else 3)})
