"""Inspection: sizes of the accepted files, a reason for each rejected one, and a limit on how many are rejected."""

import cv2
import numpy as np
import pytest

from pipeline.competition.dataset import SplitListing
from pipeline.errors import PipelineError
from pipeline.images.inspection import Limits, inspect_photographs, inspect_split, list_boxes, refuse_bad_data

LIMITS = Limits(min_side_px=8, max_side_px=400, max_pixels=60_000)


@pytest.fixture
def folder(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    for name, image in {
        "good.jpg": noise[:60, :40],
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


def look(folder, name, strict=False):
    limits = Limits(LIMITS.min_side_px, LIMITS.max_side_px, LIMITS.max_pixels, strict)
    return inspect_photographs([folder / name], limits, workers=1)[0]


def test_a_photograph_has_its_size_and_no_reason(folder):
    found = look(folder, "good.jpg", strict=True)
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


def test_damage_after_an_intact_header_is_found_when_decoding_is_strict(folder):
    assert look(folder, "cut.jpg").reason == ""
    assert "end-of-image marker is missing" in look(folder, "cut.jpg", strict=True).reason


def test_workers_give_the_same_result_as_one_process(folder, monkeypatch):
    monkeypatch.setattr("pipeline.images.inspection.CHUNK", 3)
    monkeypatch.setattr("pipeline.images.inspection.SMALL", 0)
    paths = sorted(folder.iterdir())
    told = []
    assert inspect_photographs(paths, LIMITS, 2, told.append) == inspect_photographs(paths, LIMITS, 1)
    assert sum(told) == len(paths)


def test_a_split_is_divided_into_accepted_photographs_and_rejected_files(folder):
    split = SplitListing(["a", "b", "c"], ["good.jpg", "text.jpg", "cut.jpg"], [7, 8, 9])
    good, bad = inspect_split(folder, split, LIMITS, 1)
    assert good["id"].tolist() == ["a", "c"] and good["landmark"].tolist() == [7, 9]
    assert bad["id"].tolist() == ["b"] and bad["reason"].all()
    refuse_bad_data("train", good, bad, 0.34, folder)
    with pytest.raises(PipelineError, match=r"1 of 3 files of train.*text\.jpg") as caught:
        refuse_bad_data("train", good, bad, 0.33, folder)
    assert caught.value.exit_code == 3


def test_an_empty_split_is_no_error(folder):
    good, bad = inspect_split(folder, SplitListing([], []), LIMITS, 1)
    assert (len(good), len(bad)) == (0, 0)
    assert list(good.columns) == ["id", "path", "width", "height", "bytes", "left", "top", "right", "bottom"]
    refuse_bad_data("test", good, bad, 0.0, folder)


def test_a_box_is_clipped_to_its_photograph_and_the_whole_is_used_where_there_is_none(folder):
    split = SplitListing(
        ["good", "cut", "tiny"], ["good.jpg", "cut.jpg", "tiny.jpg"], boxes={"good": (10.0, 5.5, 99.0, 30.0)}
    )
    good, _ = inspect_split(folder, split, LIMITS, workers=1)
    assert good[["left", "top", "right", "bottom"]].values.tolist() == [
        [10.0, 5.5, 40.0, 30.0],
        [0.0, 0.0, 200.0, 200.0],
    ]
    assert list_boxes(good) == [(10.0, 5.5, 40.0, 30.0), (0.0, 0.0, 200.0, 200.0)]
    assert list_boxes(good.iloc[1:]) is None


def test_a_box_outside_its_photograph_is_refused(folder):
    split = SplitListing(["good"], ["good.jpg"], boxes={"good": (60.0, 0.0, 70.0, 10.0)})
    with pytest.raises(PipelineError, match="the box of good holds less than a pixel of its 40 x 60"):
        inspect_split(folder, split, LIMITS, workers=1)
