"""Photographs as RGB arrays: one way in for every format, and one list of reasons why a file is refused.

What becomes of each kind of file:

| stored as                      | becomes                                                                     |
|--------------------------------|-----------------------------------------------------------------------------|
| RGB, palette                   | RGB                                                                         |
| grayscale                      | three equal channels                                                        |
| CMYK JPEG                      | RGB, by the decoder's conversion (no colour profile is applied)             |
| 16 bits a channel              | the high byte                                                               |
| alpha, transparent palette     | laid over white, as a page would show it                                    |
| EXIF orientation, any format   | turned upright; width and height are always those of the upright picture    |
| animation, several pictures    | the first picture                                                           |
| any other format               | refused                                                                     |
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.images.jpeg_damage import find_jpeg_damage

Size = tuple[int, int]  # (width, height) in pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
JPEGS = ("JPEG", "MPO")  # MPO: what Pillow calls a JPEG with further pictures behind the first
ORIENTATION_TAG = 0x0112  # of EXIF
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


class UndecodableImage(ValueError):
    """A file that is no photograph that we can read; the message is the reason, without the path."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its picture before any pixel is decoded."""

    format: str
    stored_size: Size
    orientation: int  # EXIF: 1 = upright, 2-8 = mirrored or turned

    @property
    def upright_size(self) -> Size:
        """(width, height) as displayed: orientations 5-8 lie on their side."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)


def read_header(path: Path) -> Size:
    """(width, height) of a photograph as displayed, from its header alone; about 0.1 ms.

    Says nothing of the pixels behind the header: a truncated file still has a good one.
    Raises UndecodableImage. Nothing is allocated for the pixels, so the caller can refuse a huge picture by its size.
    """
    return _parse_header(_read_bytes(path)).upright_size


def decode_photograph(path: Path, wanted: Size | None = None, strict: bool = False) -> np.ndarray:
    """The photograph as (H, W, 3) uint8 RGB, upright.

    wanted: the (width, height) that it is going to be resized to. A JPEG at least twice as large is then decoded at
    1/2, 1/4 or 1/8 of its size, never below `wanted`: several times faster.
    strict: also refuse a JPEG whose pixel data are damaged though they decode (a block of zeros in the middle).
    Raises UndecodableImage, with the reason.
    """
    data = _read_bytes(path)
    header = _parse_header(data)
    if strict:
        _refuse_damage(data, header)
    if header.format in JPEGS:
        flags = REDUCED.get(_reduction(header.upright_size, wanted), cv2.IMREAD_COLOR)
    else:
        flags = cv2.IMREAD_UNCHANGED  # the other formats may hold an alpha channel
    pixels = _decode_pixels(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(_upright(_as_rgb(pixels), header.orientation))


def resize_photograph(image: np.ndarray, size: Size) -> np.ndarray:
    """The image at exactly (width, height): averaging over areas when it shrinks, linear when it grows."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = size[0] * size[1] < width * height
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def crop_photograph(image: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of the image inside (left, top, right, bottom): the whole pixels that the box touches."""
    left, top = (max(int(side), 0) for side in box[:2])
    right, bottom = (math.ceil(side) for side in box[2:])
    return np.ascontiguousarray(image[top:bottom, left:right])


def _read_bytes(path: Path) -> bytes:
    """The file's bytes. Read here, not by OpenCV, which fails on some non-ASCII paths and never says why."""
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise UndecodableImage("is a directory") from None
    except FileNotFoundError:
        raise UndecodableImage("a broken link" if path.is_symlink() else "no such file") from None
    except OSError as error:
        raise UndecodableImage(f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise UndecodableImage("the file is empty")
    return data


def _parse_header(data: bytes) -> Header:
    """Format, size and orientation. Pillow reads headers lazily: no pixel is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures: the caller sets the limits
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            exif = Image.Image.getexif(image)  # not image.getexif(): that of PNG would decode the pixels
            orientation = exif.get(ORIENTATION_TAG, 1)
    except Image.DecompressionBombError:
        raise UndecodableImage("claims more than 178 million pixels") from None
    except Image.UnidentifiedImageError:
        raise UndecodableImage(f"not a picture in any of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # a damaged header fails in many ways inside Pillow's parsers
        raise UndecodableImage(f"damaged header: {error}") from None
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    return Header(str(image.format), image.size, orientation if known else 1)


def _reduction(size: Size, wanted: Size | None) -> int:
    """The largest of 1, 2, 4, 8 by which `size` can be divided without falling below `wanted` on either side."""
    if wanted is None:
        return 1
    return max(n for n in (1, 2, 4, 8) if n == 1 or (size[0] >= n * wanted[0] and size[1] >= n * wanted[1]))


def _decode_pixels(data: bytes, flags: int) -> np.ndarray:
    """The pixels as OpenCV gives them: (H, W) or (H, W, 3 or 4), blue first."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UndecodableImage(f"OpenCV refuses it: {error.err or error}") from None
    if pixels is None:
        raise UndecodableImage("the pixel data are truncated or damaged")
    return pixels


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Any pixels that OpenCV returns, as (H, W, 3) uint8 RGB: the table at the top of this module."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UndecodableImage(f"pixels of type {pixels.dtype}")
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        return _over_white(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 -> (H, W, 3): colour * alpha + white * (1 - alpha), rounded."""
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image turned and mirrored as EXIF asks: 5-8 are 1-4 with rows and columns exchanged first."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    mirrored = orientation in (2, 3, 6, 7)
    flipped = orientation in (3, 4, 7, 8)
    return image[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def _refuse_damage(data: bytes, header: Header) -> None:
    """Raise UndecodableImage where the pixels decode but are not those that were stored."""
    if header.format in JPEGS:
        reason = find_jpeg_damage(data)
        if reason:
            raise UndecodableImage(reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(data), formats=FORMATS).load()  # checks lengths and checksums, which OpenCV may not
    except Exception as error:
        raise UndecodableImage(f"damaged pixel data: {error}") from None
