"""Descriptors: the published average over scales, and the same bytes however they are asked for."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from photographs import write_photographs
from tasks import RecordedTask
from torch import nn
from torch.nn import functional as F

from pipeline.device_memory import MemoryLimit
from pipeline.errors import PipelineError
from pipeline.features.global_descriptors import (
    Describer,
    InputImages,
    extract_descriptors,
    fit_longest_sides,
    write_descriptors,
)
from pipeline.features.multi_scale import embed_batch, nearest_strides, scaled_size
from pipeline.images.batch_loader import load_batches
from pipeline.images.batches import plan_evaluation
from pipeline.images.split import Split
from pipeline.network.landmark_network import build_embedding
from pipeline.settings import ExtractSettings, ModelSettings

CPU = torch.device("cpu")
SETTINGS = ExtractSettings(
    template=[(192, 128), (160, 160), (128, 192)], scales=[0.75, 1.0, 1.25], batch_size=4, precision="float32"
)


def inputs(photographs):
    return InputImages(photographs.paths, photographs.aspect_ratios)


@pytest.fixture(scope="module")
def network():
    model = ModelSettings(backbone="efficientnet_lite0", weights="imagenet", dims=24)
    return build_embedding(model, 1).eval()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return inputs(write_photographs(tmp_path_factory.mktemp("photographs"), 13))


@pytest.fixture(scope="module")
def expected(network, photographs):
    return extract_descriptors(network, photographs, SETTINGS, CPU)


def test_descriptors_are_normalised_and_have_one_row_per_photograph(expected):
    assert expected.shape == (13, 24) and expected.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_raw_outputs_are_averaged_over_the_scales_and_normalised_once(network, photographs, expected, mirror):
    row = 4  # of the square group
    if mirror:
        expected = extract_descriptors(network, photographs, SETTINGS.model_copy(update={"mirror": True}), CPU)
    batch = next(load_batches([photographs.paths[row]], plan_evaluation(np.ones(1), [(160, 160)], 1)))
    outputs = []
    with torch.no_grad():
        for side in (128, 160, 192):  # 120, 160, 200: down to multiples of 32, not below 128
            images = F.interpolate(batch.images.float(), (side, side), mode="bilinear", align_corners=True)
            outputs.append(network(images)[0])
            if mirror:
                outputs.append(network(images.flip(3))[0])
    naive = F.normalize(torch.stack(outputs).mean(0), dim=0)
    np.testing.assert_allclose(expected[row], naive.numpy(), atol=1e-5)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 1), (16, 2)])
def test_batch_size_and_loading_processes_change_no_byte(network, photographs, expected, batch_size, workers):
    settings = SETTINGS.model_copy(update={"batch_size": batch_size})
    found = extract_descriptors(network, photographs, settings, CPU, workers)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_neither_shards_nor_threads_change_a_byte(network, photographs, expected, threads):
    torch.set_num_threads(threads)
    try:
        with Describer(network, photographs, SETTINGS, CPU) as describer:
            shards = [describer.describe(rows) for rows in np.split(np.arange(13), [5, 10])]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert np.concatenate(shards).tobytes() == expected.tobytes()


def test_bfloat16_descriptors_are_near_those_of_float32_and_repeat(network, photographs, expected):
    settings = SETTINGS.model_copy(update={"precision": "bfloat16"})
    first = extract_descriptors(network, photographs, settings, CPU)
    again = extract_descriptors(network, photographs, settings.model_copy(update={"batch_size": 3}), CPU)
    assert first.tobytes() == again.tobytes()
    assert (first * expected).sum(1).min() > 0.99


def test_no_photographs_have_an_empty_matrix_of_the_right_width(network):
    assert extract_descriptors(network, InputImages([], np.zeros(0)), SETTINGS, CPU).shape == (0, 24)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_vectors_without_a_direction_are_refused_with_their_names(photographs, value):
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 4), value)

    with pytest.raises(
        PipelineError, match=r"13 of 13 descriptors are zero or not finite\n  where: photo000, photo001"
    ):
        extract_descriptors(Broken(), photographs, SETTINGS, CPU)


def test_a_photograph_gone_bad_is_named(network, tmp_path):
    photographs = write_photographs(tmp_path, 3)
    photographs.paths[1].write_bytes(b"\xff\xd8\xff")
    with pytest.raises(PipelineError, match=r"photo001\.jpg"):
        extract_descriptors(network, inputs(photographs), SETTINGS, CPU)


def test_scaled_sizes_are_multiples_of_32_and_not_below_128():
    assert scaled_size((800, 544), 0.75) == (576, 384)  # 600 x 408
    assert scaled_size((800, 544), 1.25) == (992, 672)  # 1000 x 680
    assert scaled_size((160, 128), 0.25) == (128, 128)


def test_a_box_is_described_like_a_photograph_of_only_that_part(network, tmp_path):
    whole = np.random.default_rng(2).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    for name, part in (("whole.png", whole), ("part.png", whole[20:100, 40:160])):
        cv2.imwrite(str(tmp_path / name), part)
    boxes = np.array([[40.0, 20.0, 160.0, 100.0]])
    ratio = np.array([80 / 120])
    found = extract_descriptors(network, InputImages([tmp_path / "whole.png"], ratio, boxes), SETTINGS, CPU)
    part = InputImages([tmp_path / "part.png"], ratio)
    np.testing.assert_array_equal(found, extract_descriptors(network, part, SETTINGS, CPU))


def split_of(*images, paths=None, root=None):
    """Images of (width, height) with the box that counts or None, as stage 01 lists them."""
    rows = [(width, height, *(box or (0.0, 0.0, width, height))) for width, height, box in images]
    table = pd.DataFrame(rows, columns=["width", "height", "left", "top", "right", "bottom"])
    return Split(table.assign(id="", path=[path.name for path in paths or []] or ""), root)


def test_a_photograph_goes_to_its_longest_side_and_keeps_its_shape():
    split = split_of((2048, 1536, None), (640, 480, None), (1000, 3000, None), (5000, 20, None))
    assert fit_longest_sides(split, 1024).tolist() == [[1024, 768], [640, 480], [352, 1024], [1024, 32]]


def test_a_crop_has_the_scale_that_it_has_in_its_photograph():
    box = (100.0, 200.0, 740.0, 520.0)  # 640 x 320 of a photograph that is halved
    split = split_of((2048, 1536, box), (1024, 768, box))
    assert fit_longest_sides(split, 1024).tolist() == [[320, 160], [640, 320]]


def test_scaled_sizes_of_a_longest_side_are_the_nearest_multiples_of_32_without_a_floor():
    assert nearest_strides((1024, 768), 0.70710678) == (736, 544)  # 724 x 543
    assert nearest_strides((96, 64), 0.70710678) == (64, 32)


def test_with_a_longest_side_every_photograph_is_described_at_its_own_size(network, tmp_path):
    """Each by itself, in plain steps: cropped, resized, seen at each scale, averaged."""
    rng = np.random.default_rng(4)
    sizes, boxes = [(200, 150), (150, 200), (200, 150), (90, 60)], [None, None, (40.0, 20.0, 160.0, 100.0), None]
    paths = [tmp_path / f"{number}.png" for number in range(len(sizes))]
    for path, (width, height) in zip(paths, sizes, strict=True):
        cv2.imwrite(str(path), rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
    images = [(*size, box) for size, box in zip(sizes, boxes, strict=True)]
    split = split_of(*images, paths=paths, root=tmp_path)
    settings = SETTINGS.model_copy(update={"max_side_px": 128, "scales": [0.7071, 1.0]})
    write_descriptors(RecordedTask(tmp_path / "work"), network, split, settings, CPU)
    found = np.load(tmp_path / "work" / "descriptors.npy")
    for row, (path, target) in enumerate(zip(paths, [(128, 96), (96, 128), (64, 64), (96, 64)], strict=True)):
        pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        if boxes[row]:
            pixels = pixels[20:100, 40:160]
        shrinks = target[0] * target[1] < pixels.shape[0] * pixels.shape[1]
        pixels = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        small = (max(round(target[1] * 0.7071 / 32), 1) * 32, max(round(target[0] * 0.7071 / 32), 1) * 32)
        with torch.no_grad():
            both = [network(F.interpolate(image, small, mode="bilinear", align_corners=True)), network(image)]
        expected = F.normalize(torch.stack(both).mean(0)[0], dim=0).numpy()
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_no_photographs_with_a_longest_side_have_an_empty_matrix_and_sizes_belong_to_it(network, tmp_path):
    settings = SETTINGS.model_copy(update={"max_side_px": 128})
    write_descriptors(RecordedTask(tmp_path / "work"), network, split_of(root=tmp_path), settings, CPU)
    assert np.load(tmp_path / "work" / "descriptors.npy").shape == (0, 24)
    for wrong, sizes in ((settings, None), (SETTINGS, np.array([[32, 32]]))):
        with pytest.raises(ValueError, match="give both or neither"):
            extract_descriptors(network, InputImages([tmp_path / "a.jpg"], np.ones(1), None, sizes), wrong, CPU)


def test_a_batch_that_does_not_fit_is_halved_with_a_warning_and_no_later_one_is_tried_whole(caplog, monkeypatch):
    at_once = "pipeline.features.multi_scale.run_in_even_batches"
    monkeypatch.setattr(at_once, lambda network, images: network(images))  # as on a GPU
    tried = []

    class Small(nn.Module):
        def forward(self, images):
            tried.append(len(images))
            if len(images) > 2:
                raise torch.OutOfMemoryError
            return images.mean(dim=(2, 3))

    images, limit = torch.randint(0, 255, (5, 3, 128, 128), dtype=torch.uint8), MemoryLimit()
    settings = SETTINGS.model_copy(update={"scales": [1.0]})
    with caplog.at_level("WARNING", logger="cairn"):
        for _ in range(2):
            found = embed_batch(Small(), images, settings, CPU, limit)
            torch.testing.assert_close(found, images.float().mean(dim=(2, 3)))
    assert tried == [5, 2, 2, 1, 2, 2, 1]
    assert [(one.name.split(".")[0], one.args) for one in caplog.records] == [("cairn", (5,))]


def test_a_single_image_that_does_not_fit_is_an_error_with_advice():
    class Full(nn.Module):
        def forward(self, images):
            raise torch.OutOfMemoryError

    with pytest.raises(PipelineError, match=r"single image\n.*extract\.max_side_px"):
        embed_batch(Full(), torch.zeros(3, 3, 128, 128, dtype=torch.uint8), SETTINGS, CPU)
