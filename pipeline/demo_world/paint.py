"""What everything in the demo world is painted with: chance, noise, and drawing on pixels in place.

A paint has three channels or four. On (h, w, 4) pixels the fourth is the emitted light or a cutout's opacity; it is 0
where the paint has three. Positions are in pixels, fractions included, and edges are smoothed.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo_world.camera import Floats

Option = TypeVar("Option")
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Paint = tuple[float, ...]
NOISE_SIDE = 512
SHIFT = 4  # fractional bits of the positions that OpenCV takes


def make_generator(seed: int, purpose: str, *items: int) -> np.random.Generator:
    """A generator that depends only on its arguments, so that the order of the work changes no result."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *items])


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of the options, all equally likely; unlike rng.choice it keeps their type."""
    return options[int(rng.integers(len(options)))]


@lru_cache(maxsize=32)
def tile_noise(slope: float, variant: int = 0) -> Floats:
    """(512, 512) noise in [0, 1] that tiles without a seam; its spectrum is 1 / f ** slope, so 2 looks like clouds."""
    rng = make_generator(0, f"noise {slope}", variant)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(NOISE_SIDE), np.fft.rfftfreq(NOISE_SIDE), indexing="ij"))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((NOISE_SIDE, NOISE_SIDE))) / frequency**slope
    noise = np.fft.irfft2(spectrum, s=(NOISE_SIDE, NOISE_SIDE))
    low, high = np.quantile(noise, [0.01, 0.99])
    return np.clip((noise - low) / (high - low), 0.0, 1.0).astype(np.float32)


def crop_noise(rng: np.random.Generator, shape: tuple[int, ...], slope: float = 1.5, zoom: float = 1.0) -> Floats:
    """(height, width) noise in [0, 1] from a random place of the tile; zoom > 1 makes the grain coarser."""
    height, width = shape[:2]
    rows = (rng.integers(NOISE_SIDE) + np.arange(int(height / zoom) + 2)) % NOISE_SIDE
    columns = (rng.integers(NOISE_SIDE) + np.arange(int(width / zoom) + 2)) % NOISE_SIDE
    crop = tile_noise(slope)[np.ix_(rows, columns)]
    return np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def fixed(values: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Positions in pixels as OpenCV's fixed-point integers."""
    return np.rint(np.asarray(values, np.float64) * 2**SHIFT).astype(np.int32)


def fill_polygon(pixels: np.ndarray, points: npt.ArrayLike, paint: Paint, at: npt.ArrayLike = (0, 0)) -> None:
    """Fill the polygon with corners (n, 2) from `at`."""
    cv2.fillPoly(pixels, [fixed(np.asarray(points) + np.asarray(at))], paint, cv2.LINE_AA, shift=SHIFT)


def fill_disc(pixels: np.ndarray, x: float, y: float, radius: float, paint: Paint) -> None:
    """Fill a disc of at least one pixel."""
    cv2.circle(pixels, fixed((x, y)).tolist(), int(max(radius, 0.7) * 2**SHIFT), paint, -1, cv2.LINE_AA, SHIFT)


def fill_ellipse(pixels: np.ndarray, at: npt.ArrayLike, axes: npt.ArrayLike, paint: Paint, turn: float = 0.0) -> None:
    """Fill an ellipse with two half-axes, turned by `turn` radians."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(axes)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    fill_polygon(pixels, around @ spin, paint, at)


def fill_box(pixels: np.ndarray, box: Box, paint: Paint) -> None:
    """Fill an upright box, in whole pixels."""
    left, top, right, bottom = (max(0, int(edge)) for edge in box)
    pixels[top : bottom + 1, left : right + 1] = np.resize((*paint, 0.0), pixels.shape[2])


def draw_line(pixels: np.ndarray, start: npt.ArrayLike, end: npt.ArrayLike, paint: Paint, width: float = 1.0) -> None:
    """Draw a line at least one pixel wide."""
    cv2.line(pixels, fixed(start).tolist(), fixed(end).tolist(), paint, max(1, int(width)), cv2.LINE_AA, SHIFT)
