"""Inspection: sizes of the accepted files, a reason for each rejected one, and a limit on how many are rejected."""

import cv2
import numpy as np
import pytest
from tasks import RecordedTask

from pipeline.competition.dataset import SplitListing
from pipeline.errors import PipelineError
from pipeline.images.inspection import Limits, inspect_photograph
from pipeline.images.split import Split
from pipeline.images.split_table import count_rejected
from pipeline.images.survey import survey_splits
from pipeline.settings import DataSettings

LIMITS = Limits(min_side_px=8, max_side_px=400, max_pixels=60_000)
SETTINGS = DataSettings(**vars(LIMITS), max_bad_fraction=1.0)


@pytest.fixture
def folder(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    for name, image in {
        "good.jpg": noise[:60, :40],
        "wide.jpg": noise[:200],
        "tiny.jpg": noise[:4, :40],
        "long.jpg": np.zeros((9, 500, 3), np.uint8),
        "large.jpg": np.zeros((300, 300, 3), np.uint8),
        "cut.jpg": noise[:200],
    }.items():
        cv2.imwrite(str(tmp_path / name), image)
    cut = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "text.jpg").write_text("not a photograph")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    return tmp_path


def look(folder, name, decode=False):
    return inspect_photograph(folder / name, LIMITS, decode)


def survey(folder, split, name="train", **settings):
    """The accepted and the rejected images of one split."""
    task = RecordedTask(folder / "task")
    return survey_splits(task, folder, {name: split}, SETTINGS.model_copy(update=settings))[name]


def test_a_photograph_has_its_size_and_no_reason(folder):
    found = look(folder, "good.jpg", decode=True)
    assert (found.width, found.height, found.reason) == (40, 60, "")
    assert found.bytes == (folder / "good.jpg").stat().st_size


@pytest.mark.parametrize("name", ["tiny", "long", "large", "text", "empty", "folder", "link", "missing"])
def test_every_other_file_has_a_reason(folder, name):
    found = look(folder, f"{name}.jpg")
    assert found.reason and found.width == 0


def test_the_reasons_tell_what_is_wrong(folder):
    assert "4 px" in look(folder, "tiny.jpg").reason
    assert "500 x 9 px" in look(folder, "long.jpg").reason
    assert "60000 pixels" in look(folder, "large.jpg").reason
    assert "no such file" in look(folder, "missing.jpg").reason


def test_a_file_without_its_end_is_found_without_decoding_it(folder):
    assert "end-of-image marker is missing" in look(folder, "cut.jpg").reason


def test_damage_before_the_end_is_found_by_decoding(folder):
    data = bytearray((folder / "good.jpg").read_bytes())
    data[-700:-300] = bytes(400)
    (folder / "zeros.jpg").write_bytes(data)
    assert look(folder, "zeros.jpg").reason == ""
    assert "zeros in the compressed pixels" in look(folder, "zeros.jpg", decode=True).reason


def test_workers_give_the_same_result_as_one_process(folder, monkeypatch):
    names = sorted(path.name for path in folder.iterdir())
    split = SplitListing(names, names)
    good, bad = survey(folder, split)
    monkeypatch.setattr("pipeline.images.survey.CHUNK", 2)
    monkeypatch.setattr("pipeline.images.survey.SHARD", 5)
    monkeypatch.setattr("pipeline.images.survey.SMALL_FILES", 0)
    task = RecordedTask(folder / "again")
    task.workers = 2
    again = survey_splits(task, folder, {"index": split}, SETTINGS)["index"]
    assert again[0].equals(good) and again[1].equals(bad) and len(bad) > 5
    assert sum(task.told) == 2 * len(names)  # their headers, then their pixels


def test_a_split_is_divided_into_accepted_photographs_and_rejected_files(folder):
    split = SplitListing(["a", "b", "c"], ["good.jpg", "text.jpg", "good.jpg"], [7, 8, 9])
    good, bad = survey(folder, split, max_bad_fraction=0.34)
    assert good["id"].tolist() == ["a", "c"] and good["landmark"].tolist() == [7, 9] and count_rejected(good) == 1
    assert bad["id"].tolist() == ["b"] and bad["reason"].all()
    with pytest.raises(PipelineError, match=r"1 of 3 files of train.*text\.jpg") as caught:
        survey(folder, split, max_bad_fraction=0.33)
    assert caught.value.exit_code == 3


def test_an_empty_split_is_no_error(folder):
    good, bad = survey(folder, SplitListing([], []), max_bad_fraction=0.0)
    assert (len(good), len(bad)) == (0, 0)
    assert list(good.columns) == ["id", "path", "width", "height", "bytes", "left", "top", "right", "bottom"]


def test_a_box_is_clipped_to_its_photograph_and_the_whole_is_used_where_there_is_none(folder):
    split = SplitListing(
        ["good", "wide", "tiny"], ["good.jpg", "wide.jpg", "tiny.jpg"], boxes={"good": (10.0, 5.5, 99.0, 30.0)}
    )
    good, _ = survey(folder, split)
    assert good[["left", "top", "right", "bottom"]].values.tolist() == [
        [10.0, 5.5, 40.0, 30.0],
        [0.0, 0.0, 200.0, 200.0],
    ]
    assert Split(good, folder).boxes.tolist() == good[["left", "top", "right", "bottom"]].values.tolist()
    assert Split(good.iloc[1:], folder).boxes is None


def test_a_box_outside_its_photograph_is_refused(folder):
    split = SplitListing(["good"], ["good.jpg"], boxes={"good": (60.0, 0.0, 70.0, 10.0)})
    with pytest.raises(PipelineError, match="the box of good holds less than a pixel of its 40 x 60"):
        survey(folder, split)
