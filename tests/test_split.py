"""A split's values, worked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.images.split import Split

COLUMNS = ["id", "path", "width", "height", "left", "top", "right", "bottom"]


def split_of(*rows):
    return Split(pd.DataFrame(rows, columns=COLUMNS), Path("data"))


def test_the_values_of_whole_images_and_of_boxes():
    split = split_of(
        ("a", "x/a.jpg", 400, 300, 0.0, 0.0, 400.0, 300.0), ("b", "b.jpg", 100, 200, 10.0, 20.0, 60.0, 45.0)
    )
    assert len(split) == 2 and split.paths == [Path("data/x/a.jpg"), Path("data/b.jpg")]
    assert split.sizes == [(400, 300), (100, 200)] and split.longer_sides.tolist() == [400, 200]
    assert split.boxes == [(0.0, 0.0, 400.0, 300.0), (10.0, 20.0, 60.0, 45.0)]
    assert split.box_sizes == [(400.0, 300.0), (50.0, 25.0)]
    assert split.aspect_ratios.tolist() == [0.75, 0.5]


def test_whole_images_have_no_boxes_and_rows_are_taken_in_order():
    rows = [(name, f"{name}.jpg", 40 + at, 30, 0.0, 0.0, 40.0 + at, 30.0) for at, name in enumerate("abc")]
    taken = split_of(*rows).take(np.array([2, 0]))
    assert taken.boxes is None and taken.table["id"].tolist() == ["c", "a"] and taken.root == Path("data")
    assert taken.sizes == [(42, 30), (40, 30)]


def test_a_split_without_images_has_empty_values():
    split = split_of()
    assert len(split) == 0 and split.paths == [] and split.sizes == [] and split.boxes is None
    assert split.aspect_ratios.shape == (0,) and split.longer_sides.shape == (0,)
