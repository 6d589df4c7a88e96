"""Chance in the demo world: named random generators, tileable noise and colour arithmetic."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float64]
Option = TypeVar("Option")
Colour = tuple[float, float, float]  # red, green, blue in [0, 255]

NOISE_SIDE = 512
WHITE: Colour = (255.0, 255.0, 255.0)
BLACK: Colour = (0.0, 0.0, 0.0)


def make_generator(seed: int, purpose: str, *items: int) -> np.random.Generator:
    """A generator that depends on its arguments alone, so that the order of the work changes no result."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *items])


@lru_cache(maxsize=32)
def tile_noise(slope: float, variant: int = 0) -> Floats:
    """(512, 512) float32 noise in [0, 1] that tiles without a seam; spectrum 1 / f ** slope, so 2 is cloud-like."""
    rng = make_generator(0, f"noise {slope}", variant)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(NOISE_SIDE), np.fft.rfftfreq(NOISE_SIDE), indexing="ij"))
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((NOISE_SIDE, NOISE_SIDE))) / frequency**slope
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(NOISE_SIDE, NOISE_SIDE))
    low, high = np.quantile(noise, [0.01, 0.99])
    return np.clip((noise - low) / (high - low), 0.0, 1.0).astype(np.float32)


def crop_noise(rng: np.random.Generator, height: int, width: int, slope: float = 1.5, zoom: float = 1.0) -> Floats:
    """(height, width) noise in [0, 1] from a random place of the tile; zoom > 1 makes the grain coarser."""
    rows = (rng.integers(NOISE_SIDE) + np.arange(int(height / zoom) + 2)) % NOISE_SIDE
    columns = (rng.integers(NOISE_SIDE) + np.arange(int(width / zoom) + 2)) % NOISE_SIDE
    crop = tile_noise(slope)[np.ix_(rows, columns)]
    return np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0 to 1) of `second` stirred in."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def darken(colour: Colour, factor: float) -> Colour:
    """The colour times `factor`, kept within [0, 255]; a factor above 1 brightens."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def vary_colour(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """The colour with its brightness and each channel moved by up to about `amount` levels."""
    shift = rng.uniform(-amount, amount) + rng.uniform(-amount, amount, 3) * 0.35
    red, green, blue = np.clip(np.asarray(colour) + shift, 0, 255).tolist()
    return red, green, blue


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of the options, each as likely as the others; the options keep their type."""
    return options[int(rng.integers(len(options)))]
