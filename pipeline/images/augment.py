"""Random changes to training photographs. The one file that knows albumentations; evaluation pixels never come here.

The presets are those of Yokoo et al. 2020. None of them mirrors the picture: a mirrored building is another building.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read at import: no version check over the network

import albumentations as A
import cv2
import numpy as np


def _nothing() -> list[A.BasicTransform]:
    return []


def _soft() -> list[A.BasicTransform]:
    """Each side cropped or padded by up to a fifth, then back to the old size; brightness +-10 %."""
    return [_move_sides(0.2), A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.0, p=1.0)]


def _middle() -> list[A.BasicTransform]:
    """Sides moved by up to 0.3, sheared by up to 4 degrees; brightness and contrast +-10 %."""
    shear = A.Affine(shear=(-4.0, 4.0), border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0)
    light = A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=1.0)
    return [_move_sides(0.3), shear, light]


def _move_sides(limit: float) -> A.BasicTransform:
    """Every side on its own moves in or out by up to `limit` of the picture; black fills what opens."""
    return A.CropAndPad(percent=(-limit, limit), sample_independently=True, keep_size=True, fill=0, p=1.0)


AUGMENTATIONS: dict[str, Callable[[], list[A.BasicTransform]]] = {"none": _nothing, "soft": _soft, "middle": _middle}


class Augmenter:
    """Changes a photograph as (seed, epoch, row) say: neither order, nor batch, nor worker process has a part in it."""

    def __init__(self, preset: str, seed: int):
        if preset not in AUGMENTATIONS:
            raise ValueError(f"augmentation {preset!r} is none of {', '.join(AUGMENTATIONS)}")
        self._seed = seed
        self._pipeline = A.Compose(AUGMENTATIONS[preset]())

    def __call__(self, image: np.ndarray, epoch: int, row: int) -> np.ndarray:
        """The changed image, (H, W, 3) uint8 like the given one.

        One generator goes through all transforms. (Compose.set_random_seed would give each a generator of its own with
        the same seed, and the brightness would then follow the crop.) Making it costs about 0.02 ms.
        """
        generator = np.random.default_rng((self._seed, epoch, row))
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        return self._pipeline(image=image)["image"]
