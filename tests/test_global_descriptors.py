"""Descriptors: the published average over scales, and the same bytes however they are asked for."""

import cv2
import numpy as np
import pytest
import torch
from photographs import write_photographs
from torch import nn
from torch.nn import functional as F

from pipeline.errors import PipelineError
from pipeline.features.global_descriptors import describe, scaled_size
from pipeline.images.batches import load_batches, plan_evaluation
from pipeline.network.landmark_network import build_embedding
from pipeline.sections import ExtractSettings, ModelSettings

CPU = torch.device("cpu")
SETTINGS = ExtractSettings(
    template=[(192, 128), (160, 160), (128, 192)], scales=[0.75, 1.0, 1.25], batch_size=4, precision="float32"
)


@pytest.fixture(scope="module")
def network():
    model = ModelSettings(backbone="efficientnet_lite0", weights="imagenet", dims=24)
    return build_embedding(model, 1).eval()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), 13)


@pytest.fixture(scope="module")
def expected(network, photographs):
    return describe(network, photographs.paths, photographs.aspect_ratios, SETTINGS, CPU)


def test_descriptors_have_length_1_and_one_row_a_photograph(expected):
    assert expected.shape == (13, 24) and expected.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1.0, atol=1e-6)


def test_raw_outputs_are_averaged_over_the_scales_and_normalised_once(network, photographs, expected):
    row = 4  # of the square group
    batch = next(load_batches([photographs.paths[row]], plan_evaluation(np.ones(1), [(160, 160)], 1)))
    outputs = []
    with torch.no_grad():
        for side in (128, 160, 192):  # 120, 160, 200: down to multiples of 32, not below 128
            images = F.interpolate(batch.images.float(), (side, side), mode="bilinear", align_corners=True)
            outputs.append(network(images)[0])
    naive = F.normalize(torch.stack(outputs).mean(0), dim=0)
    np.testing.assert_allclose(expected[row], naive.numpy(), atol=1e-5)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 1), (16, 2)])
def test_batch_size_and_loading_processes_change_no_byte(network, photographs, expected, batch_size, workers):
    settings = SETTINGS.model_copy(update={"batch_size": batch_size})
    found = describe(network, photographs.paths, photographs.aspect_ratios, settings, CPU, workers)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_neither_shards_nor_threads_change_a_byte(network, photographs, expected, threads):
    torch.set_num_threads(threads)
    try:
        shards = [
            describe(network, photographs.paths[at : at + 5], photographs.aspect_ratios[at : at + 5], SETTINGS, CPU)
            for at in range(0, 13, 5)
        ]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert np.concatenate(shards).tobytes() == expected.tobytes()


def test_bfloat16_descriptors_are_near_those_of_float32_and_repeat(network, photographs, expected):
    settings = SETTINGS.model_copy(update={"precision": "bfloat16"})
    first = describe(network, photographs.paths, photographs.aspect_ratios, settings, CPU)
    again = describe(
        network, photographs.paths, photographs.aspect_ratios, settings.model_copy(update={"batch_size": 3}), CPU
    )
    assert first.tobytes() == again.tobytes()
    assert (first * expected).sum(1).min() > 0.99


def test_no_photographs_have_an_empty_matrix_of_the_right_width(network):
    assert describe(network, [], np.zeros(0), SETTINGS, CPU).shape == (0, 24)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_vectors_without_a_direction_are_refused_with_their_names(photographs, value):
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 4), value)

    with pytest.raises(
        PipelineError, match=r"13 of 13 descriptors are zero or not finite\n  where: photo000, photo001"
    ):
        describe(Broken(), photographs.paths, photographs.aspect_ratios, SETTINGS, CPU)


def test_a_photograph_gone_bad_is_named(network, tmp_path):
    photographs = write_photographs(tmp_path, 3)
    photographs.paths[1].write_bytes(b"\xff\xd8\xff")
    with pytest.raises(PipelineError, match=r"photo001\.jpg"):
        describe(network, photographs.paths, photographs.aspect_ratios, SETTINGS, CPU)


def test_scaled_sizes_are_multiples_of_32_and_not_below_128():
    assert scaled_size((800, 544), 0.75) == (576, 384)  # 600 x 408
    assert scaled_size((800, 544), 1.25) == (992, 672)  # 1000 x 680
    assert scaled_size((160, 128), 0.25) == (128, 128)


def test_a_box_is_described_like_a_photograph_of_its_part_alone(network, tmp_path):
    picture = np.random.default_rng(2).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    for name, part in (("whole.png", picture), ("part.png", picture[20:100, 40:160])):
        cv2.imwrite(str(tmp_path / name), part)
    boxes = [(40.0, 20.0, 160.0, 100.0)]
    ratio = np.array([80 / 120])
    found = describe(network, [tmp_path / "whole.png"], ratio, SETTINGS, CPU, boxes=boxes)
    np.testing.assert_array_equal(found, describe(network, [tmp_path / "part.png"], ratio, SETTINGS, CPU))
