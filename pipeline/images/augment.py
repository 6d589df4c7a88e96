"""Augmentation of train images, by albumentations, which only this file imports; evaluation images are not augmented.

The presets are those of Yokoo et al. 2020. None of them mirrors the image: a mirrored building is another building.
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
    """Each side cropped or padded by up to 20 % of the image, then resized to the old size; brightness +-10 %."""
    return [_crop_or_pad(0.2), A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.0, p=1.0)]


def _middle() -> list[A.BasicTransform]:
    """Each side cropped or padded by up to 30 %, shear of up to 4 degrees; brightness and contrast +-10 %."""
    shear = A.Affine(shear=(-4.0, 4.0), border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0)
    light = A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=1.0)
    return [_crop_or_pad(0.3), shear, light]


def _crop_or_pad(limit: float) -> A.BasicTransform:
    """Crop or pad (with black) each side independently by up to `limit` of the image."""
    return A.CropAndPad(percent=(-limit, limit), sample_independently=True, keep_size=True, fill=0, p=1.0)


AUGMENTATIONS: dict[str, Callable[[], list[A.BasicTransform]]] = {"none": _nothing, "soft": _soft, "middle": _middle}


class Augmenter:
    """Augmentation as a pure function of (seed, epoch, row): independent of the order, the batch and the worker."""

    def __init__(self, preset: str, seed: int):
        if preset not in AUGMENTATIONS:
            raise ValueError(f"augmentation {preset!r} is not one of {', '.join(AUGMENTATIONS)}")
        self._seed = seed
        self._transforms = A.Compose(AUGMENTATIONS[preset]())

    def __call__(self, image: np.ndarray, epoch: int, row: int) -> np.ndarray:
        """The augmented image, (H, W, 3) uint8, of the same size.

        All transforms share one generator. (Compose.set_random_seed would give each its own generator with the same
        seed, and the brightness would then correlate with the crop.) Making it costs about 0.02 ms.
        """
        generator = np.random.default_rng((self._seed, epoch, row))
        self._transforms.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        return self._transforms(image=image)["image"]
