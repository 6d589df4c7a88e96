"""A split's values, worked by hand."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.features.global_descriptors import Describer, InputImages
from pipeline.features.pyramid_cells import ImageRegions
from pipeline.images.photograph_paths import PhotographPaths
from pipeline.images.split import Split
from pipeline.network.batch_plan import BatchPlan
from pipeline.network.training_set import TrainingSet
from pipeline.settings import ExtractSettings, PhaseSettings

COLUMNS = ["id", "path", "width", "height", "left", "top", "right", "bottom"]


def split_of(*rows):
    return Split(pd.DataFrame(rows, columns=COLUMNS), Path("data"))


def test_the_values_of_whole_images_and_of_boxes():
    split = split_of(
        ("a", "x/a.jpg", 400, 300, 0.0, 0.0, 400.0, 300.0), ("b", "b.jpg", 100, 200, 10.0, 20.0, 60.0, 45.0)
    )
    assert len(split) == 2 and list(split.paths) == [Path("data/x/a.jpg"), Path("data/b.jpg")]
    assert split.sizes.tolist() == [[400, 300], [100, 200]] and split.longer_sides.tolist() == [400, 200]
    assert split.boxes.tolist() == [[0.0, 0.0, 400.0, 300.0], [10.0, 20.0, 60.0, 45.0]]
    assert split.box_sizes.tolist() == [[400.0, 300.0], [50.0, 25.0]]
    assert split.aspect_ratios.tolist() == [0.75, 0.5]


def test_whole_images_have_no_boxes_and_rows_are_taken_in_order():
    rows = [(name, f"{name}.jpg", 40 + at, 30, 0.0, 0.0, 40.0 + at, 30.0) for at, name in enumerate("abc")]
    taken = split_of(*rows).take(np.array([2, 0]))
    assert taken.boxes is None and taken.table["id"].tolist() == ["c", "a"] and taken.root == Path("data")
    assert taken.sizes.tolist() == [[42, 30], [40, 30]]


def test_a_split_without_images_has_empty_values():
    split = split_of()
    assert len(split) == 0 and list(split.paths) == [] and split.sizes.shape == (0, 2) and split.boxes is None
    assert split.aspect_ratios.shape == (0,) and split.longer_sides.shape == (0,)


def test_paths_are_one_array_that_reads_like_a_list():
    names = ["a/b.jpg", "é ü.jpg", "/elsewhere/c.jpg", ""]
    for given in (names, pd.Series(names, dtype="str"), pd.Series(["x", *names], dtype="str").iloc[1:]):
        paths = PhotographPaths.from_names(Path("data"), given)
        expected = [Path("data") / name for name in names]
        assert list(paths) == expected and paths[-1] == expected[-1] and len(paths) == 4
        assert list(paths[1:3]) == expected[1:3] and list(paths[3:1]) == [] and list(paths[:0]) == []
        assert list(pickle.loads(pickle.dumps(paths))) == expected
    with pytest.raises(IndexError):
        paths[4]
    with pytest.raises(ValueError, match="one run"):
        paths[::2]


def test_no_path_is_an_object_before_it_is_asked_for(monkeypatch):
    """Planning a training and an extraction of many images makes the paths of none, and lists of nothing per image."""
    count, asked = 10_000, []
    sides = np.random.default_rng(0).integers(40, 400, (2, count))
    table = pd.DataFrame({"path": [f"{row:07d}.jpg" for row in range(count)]}, dtype="str")
    table = table.assign(width=sides[0], height=sides[1], left=0.0, top=0.0, right=sides[0] * 0.5, bottom=sides[1])
    split = Split(table.assign(landmark=np.arange(count) % 50), Path("data"))
    assert len(pickle.dumps(split.paths)) < count * (11 + 8) + 1_000  # characters, and where each ends
    real = PhotographPaths.__getitem__
    monkeypatch.setattr(PhotographPaths, "__getitem__", lambda paths, at: asked.append(at) or real(paths, at))
    training = TrainingSet.from_split(split)
    plan = BatchPlan(training, PhaseSettings(epochs=1), 0)
    assert sum(len(part.rows) for step in plan.remaining_steps(0, 0) for part in step) == len(plan.train_rows)
    for settings in (ExtractSettings(), ExtractSettings(max_side_px=96)):
        images = InputImages.from_split(split, settings)
        Describer(nn.Identity(), images, settings, torch.device("cpu"), 2)
    for values in (training, images, ImageRegions.from_split(split)):
        assert not any(isinstance(value, list | tuple) for value in vars(values).values()), values
    assert not asked
