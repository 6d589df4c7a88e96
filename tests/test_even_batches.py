"""Batches of one size on a CPU: which size, and that an image's outputs are its own."""

import numpy as np
import pytest
import torch

from pipeline.device import mixed_precision
from pipeline.network.backbone import Backbone
from pipeline.network.even_batches import MOST_IMAGES, MOST_PIXELS, images_at_once, run_in_even_batches
from pipeline.network.folding import fold_for_evaluation

CPU = torch.device("cpu")
ANY = np.random.default_rng(0)


def make_images(count, height=64, width=96):
    return torch.from_numpy(ANY.integers(0, 256, (count, 3, height, width), np.uint8))


@pytest.mark.parametrize(("height", "width", "count"), [(32, 48, 8), (256, 256, 4), (384, 320, 2), (2000, 3000, 1)])
def test_as_many_images_go_together_as_keep_their_maps_in_the_cache(height, width, count):
    assert images_at_once(height, width) == count <= MOST_IMAGES
    assert count == 1 or count * height * width <= MOST_PIXELS


@pytest.mark.parametrize("count", [1, 7, 8, 11])
def test_every_batch_has_the_same_number_of_images(count):
    sizes = []

    def network(images):
        sizes.append(len(images))
        return images.amax((1, 2, 3))

    images = torch.rand(count, 3, 32, 48)
    found = run_in_even_batches(network, images)
    assert set(sizes) == {8} and len(sizes) == -(-count // 8)
    assert torch.equal(found, images.amax((1, 2, 3)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
@torch.inference_mode()
def test_the_bytes_of_an_image_do_not_depend_on_its_place_or_on_the_others(name, precision):
    backbone, images = fold_for_evaluation(Backbone(name), CPU, precision), make_images(11)

    def network(images):
        return torch.cat([maps.flatten(1) for maps in backbone(images).values()], 1)

    with mixed_precision(CPU, precision):
        alone = torch.cat([run_in_even_batches(network, image[None]) for image in images])
        for order in (np.arange(11), ANY.permutation(11)):
            assert torch.equal(run_in_even_batches(network, images[order]), alone[order])
