"""Images inside the page, as data URIs: the report is one file."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.images.decode import Size, UndecodableImage, decode_photograph

Image = NDArray[np.uint8]  # (H, W, 3) RGB
GREY = 128  # of the tile in place of an image that can no longer be read


def make_thumbnail(path: Path, height_px: int) -> str:
    """An image file scaled to a height, at most twice as wide as high, as a data URI."""
    square = height_px, height_px
    image = read_or_grey(path, square, square)
    height, width = image.shape[:2]
    size = max(1, min(2 * height_px, round(width * height_px / height))), height_px
    return encode_image(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), quality=82)


def read_or_grey(path: Path, size: Size, wanted: Size | None = None) -> Image:
    """An image as `decode_photograph` gives it; a grey tile of `size` when it can no longer be read."""
    try:
        return decode_photograph(path, wanted)
    except (UndecodableImage, OSError):
        return np.full((size[1], size[0], 3), GREY, np.uint8)


def encode_image(image: Image, quality: int, full_colour: bool = False) -> str:
    """An image as a JPEG data URI. full_colour: keep the full colour resolution, which thin lines need."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_colour:
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
