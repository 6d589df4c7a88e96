"""Decoding image files of every format to RGB arrays, with a reason for every file that is refused.

| stored as                      | decoded to                                                                  |
|--------------------------------|-----------------------------------------------------------------------------|
| RGB, palette                   | RGB                                                                         |
| grayscale                      | three equal channels                                                        |
| CMYK JPEG                      | RGB, by the decoder's conversion (no colour profile is applied)             |
| 16 bits per channel            | the high byte                                                               |
| alpha, transparent palette     | blended over white                                                          |
| EXIF orientation, any format   | rotated upright; width and height are always those of the upright image     |
| animation, several images      | the first image                                                             |
| any other format               | refused                                                                     |
"""

from __future__ import annotations

import errno
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.competition.dataset import Box
from pipeline.images.jpeg_damage import find_jpeg_damage

Size = tuple[int, int]  # (width, height) in pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
JPEGS = ("JPEG", "MPO")  # MPO: Pillow's name for a JPEG with further images after the first
ORIENTATION_TAG = 0x0112  # in EXIF
SHORTAGES = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # of the machine: they say nothing about the file
# How OpenCV decodes a JPEG to RGB at 1/n of its size. "Grayscale" is the bit of the size alone, and RGB decides.
REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class UndecodableImage(ValueError):
    """A file that cannot be decoded to an image; the message is the reason, without the path."""


@dataclass(frozen=True, slots=True)
class Header:
    """The properties of an image that its file states before any pixel is decoded."""

    format: str
    stored_size: Size
    orientation: int  # EXIF: 1 = upright, 2-8 = mirrored or rotated

    @property
    def upright_size(self) -> Size:
        """(width, height) as displayed; orientations 5-8 exchange the two."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)


def read_header(path: Path) -> Size:
    """(width, height) of an image as displayed, read from only its header; about 0.1 ms.

    The pixel data are not checked: a truncated file still has a good header (see file_ends.py). No memory is allocated
    for pixels, so that the caller can refuse a huge image by its size. Raises UndecodableImage.
    """
    return parse_header(_read_bytes(path)).upright_size


def parse_header(data: bytes) -> Header:
    """Format, size and orientation of the image in these bytes, of which the first may suffice; decodes no pixel.

    Raises UndecodableImage.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images: the caller sets the limits
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            exif = Image.Image.getexif(image)  # not image.getexif(): for PNG it would decode the pixels
            orientation = exif.get(ORIENTATION_TAG, 1)
    except Image.DecompressionBombError:
        raise UndecodableImage("its header states more than 178 million pixels") from None
    except Image.UnidentifiedImageError:
        raise UndecodableImage(f"not an image in any of the formats {', '.join(FORMATS)}") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged header fails in many ways inside Pillow's parsers
        raise UndecodableImage(f"damaged header: {error}") from None
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    return Header(str(image.format), image.size, orientation if known else 1)


def decode_photograph(path: Path, wanted: Size | None = None, strict: bool = False) -> np.ndarray:
    """The image as (H, W, 3) uint8 RGB, upright.

    wanted: the (width, height) that it will be resized to. A JPEG at least twice as large is then decoded at 1/2, 1/4
    or 1/8 of its size, never below `wanted`, which is several times faster.
    strict: also refuse a file whose pixel data decode although they are damaged (a block of zeros in the middle).
    Raises UndecodableImage, with the reason; MemoryError and OSError where the machine ran out of memory or of files,
    which is no fault of the photograph.
    """
    data = _read_bytes(path)
    header = parse_header(data)
    if strict:
        _refuse_damage(data, header)
    if header.format == "PNG":
        _refuse_long_chunks(data)
    if header.format in JPEGS:
        image = _decode_pixels(data, REDUCED[_reduction(header.upright_size, wanted)])
    else:
        image = _as_rgb(_decode_pixels(data, cv2.IMREAD_UNCHANGED))  # these formats may hold an alpha channel
    return np.ascontiguousarray(_rotate_upright(image, header.orientation))


def resize_photograph(image: np.ndarray, size: Size, into: np.ndarray | None = None) -> np.ndarray:
    """The image at exactly (width, height): by area averaging when it shrinks, bilinear when it grows.

    into: an array of this size, in which the result is written and returned.
    """
    height, width = image.shape[:2]
    if (width, height) != size:
        shrinks = size[0] * size[1] < width * height
        return cv2.resize(image, size, into, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if into is None:
        return image
    into[:] = image
    return into


def crop_photograph(image: np.ndarray, box: Box) -> np.ndarray:
    """The region of the image inside the box, including every pixel that the box touches.

    Raises UndecodableImage when there is none: the file was replaced by a smaller image since its box was checked.
    """
    left, top = (max(int(side), 0) for side in box[:2])
    right, bottom = (math.ceil(side) for side in box[2:])
    region = np.ascontiguousarray(image[top:bottom, left:right])
    if not region.size:
        raise UndecodableImage(f"{image.shape[1]} x {image.shape[0]} px: smaller than its box")
    return region


def explain_os_error(error: OSError, path: Path) -> str:
    """Why the file cannot be read, without its path."""
    if isinstance(error, IsADirectoryError):
        return "is a directory"
    if isinstance(error, FileNotFoundError):
        return "a broken link" if path.is_symlink() else "no such file"
    return f"cannot be read: {error.strerror or error}"


def _read_bytes(path: Path) -> bytes:
    """The content of the file. OpenCV is not asked to read it: it fails on some non-ASCII paths without a reason."""
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        raise UndecodableImage(explain_os_error(error, path)) from None
    if not data:
        raise UndecodableImage("the file is empty")
    return data


def _reduction(size: Size, wanted: Size | None) -> int:
    """The largest of 1, 2, 4, 8 by which `size` can be divided without falling below `wanted` on either side."""
    if wanted is None:
        return 1
    return max(n for n in (1, 2, 4, 8) if n == 1 or (size[0] >= n * wanted[0] and size[1] >= n * wanted[1]))


def _refuse_long_chunks(data: bytes) -> None:
    """Raise UndecodableImage for a PNG with a chunk longer than the file: OpenCV allocates what the length says."""
    at = 8  # after the signature
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":  # what follows the end is not read
        at += 12 + int.from_bytes(data[at : at + 4], "big")  # length, type, content, checksum
        if at > len(data):
            raise UndecodableImage("a chunk of the PNG is longer than the file")


def _decode_pixels(data: bytes, flags: int) -> np.ndarray:
    """The pixels as stored: (H, W), or (H, W, 3 or 4) with blue first, unless the flags ask for RGB."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from None
        raise UndecodableImage(f"OpenCV refuses it: {error.err or error}") from None
    if pixels is None:
        raise UndecodableImage("the pixel data are truncated or damaged")
    return pixels


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels of any type that OpenCV returns as (H, W, 3) uint8 RGB, as the table at the top of this module says."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UndecodableImage(f"pixels of type {pixels.dtype}")
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        return _blend_over_white(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _blend_over_white(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 -> (H, W, 3): colour * alpha + white * (1 - alpha), rounded."""
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _rotate_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image rotated and mirrored by its EXIF orientation: 5-8 are 1-4 with rows and columns exchanged first."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    mirrored = orientation in (2, 3, 6, 7)
    flipped = orientation in (3, 4, 7, 8)
    return image[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def _refuse_damage(data: bytes, header: Header) -> None:
    """Raise UndecodableImage when the pixel data are damaged, even if they decode."""
    if header.format in JPEGS:
        reason = find_jpeg_damage(data)
        if reason:
            raise UndecodableImage(reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(data), formats=FORMATS).load()  # checks lengths and checksums, which OpenCV may not
    except MemoryError:
        raise
    except Exception as error:
        raise UndecodableImage(f"damaged pixel data: {error}") from None
