"""Augmentation depends only on (seed, epoch, row)."""

import cv2
import numpy as np
import pytest

from pipeline.images.augment import AUGMENTATIONS, Augmenter

IMAGE = cv2.resize(np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8), (96, 64))


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_augmentation_keeps_size_and_type(preset):
    changed = Augmenter(preset, 1)(IMAGE, 0, 0)
    assert changed.shape == IMAGE.shape and changed.dtype == np.uint8


def test_none_changes_nothing():
    assert (Augmenter("none", 1)(IMAGE, 3, 4) == IMAGE).all()


@pytest.mark.parametrize("preset", ["soft", "middle"])
def test_the_same_seed_epoch_and_row_give_the_same_image_in_any_order(preset):
    keys = [(epoch, row) for epoch in range(2) for row in range(5)]
    forwards, backwards = Augmenter(preset, 7), Augmenter(preset, 7)
    first = {key: forwards(IMAGE, *key) for key in keys}
    second = {key: backwards(IMAGE, *key) for key in reversed(keys)}
    assert all((first[key] == second[key]).all() for key in keys)


@pytest.mark.parametrize("preset", ["soft", "middle"])
@pytest.mark.parametrize("other", [(8, 0, 0), (7, 1, 0), (7, 0, 1)])
def test_another_seed_epoch_or_row_gives_another_image(preset, other):
    seed, epoch, row = other
    assert (Augmenter(preset, 7)(IMAGE, 0, 0) != Augmenter(preset, seed)(IMAGE, epoch, row)).any()


def test_brightness_is_independent_of_the_crop():
    grey = np.full((64, 64, 3), 128, np.uint8)
    cropped, brightness = [], []
    augment = Augmenter("soft", 3)
    for row in range(300):
        changed = augment(grey, 0, row)
        cropped.append((changed[:, 32, 0] < 64).mean())  # black where a side moved out
        brightness.append(int(changed[32, 32, 0]))
    assert min(brightness) < 112 and max(brightness) > 144
    assert abs(np.corrcoef(cropped, brightness)[0, 1]) < 0.2


def test_an_unknown_preset_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'hard' is not one of none, soft, middle"):
        Augmenter("hard", 0)
