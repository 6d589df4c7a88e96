"""Image files with every kind of damage, and odd ones that are sound, for the tests of what becomes of them."""

import io
import os
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = (120, 96)  # (width, height)


def picture(seed=0, size=SIZE) -> np.ndarray:
    """A smooth image (H, W, 3) uint8 that compresses to some thousand bytes."""
    width, height = size
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, size)


def encode(seed=0, form="JPEG", size=SIZE, **options) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, size)).save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(seed=0) -> bytes:
    """A JPEG with the standard Huffman tables."""
    return encode(seed, quality=90)


def with_zeros(data: bytes) -> bytes:
    """The file with 400 of its bytes lost to zeros, a third before its end."""
    at = len(data) * 2 // 3
    return data[:at] + bytes(400) + data[at + 400 :]


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_thumbnail_only() -> bytes:
    """A JPEG cut soon after its first scan begins, whose EXIF thumbnail has an end marker of its own."""
    exif = Image.Exif()
    exif[0x010E] = "x"
    thumbnail = encode(1, size=(32, 24))
    block = exif.tobytes()
    whole = encode(0, quality=90, exif=block + thumbnail)
    return whole[: whole.rindex(b"\xff\xda") + 300]


def exif_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(quality=90, exif=exif)


def converted(mode: str, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(buffer, form)
    return buffer.getvalue()


def deep_png() -> bytes:
    return cv2.imencode(".png", picture().astype(np.uint16) * 257)[1].tobytes()


def huge_png() -> bytes:
    """A PNG whose header states 50,000 x 50,000 pixels."""
    data = bytearray(encode(form="PNG"))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


# What is found by the header and the ends: name -> (bytes, a part of the reason).
FOUND_BY_ENDS = {
    "cut.jpg": (cut_in_half(jpeg()), "end-of-image marker is missing"),
    "cut_padded.jpg": (cut_in_half(jpeg()) + bytes(9000), "end-of-image marker is missing"),
    "cut_thumbnail.jpg": (with_thumbnail_only(), "end-of-image marker is missing"),
    "header_only.jpg": (jpeg()[:200], "header"),
    "cut.png": (cut_in_half(encode(form="PNG")), "IEND"),
    "no_end.png": (encode(form="PNG")[:-12], "IEND"),
    "cut.webp": (cut_in_half(encode(form="WEBP", quality=90)), "where its header states"),
    "short.webp": (encode(form="WEBP", quality=90)[:-10], "where its header states"),
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"no photograph\n" * 400, "not an image"),
    "tiny.jpg": (encode(size=(8, 4)), "px: sides must be"),
    "one.png": (cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(), "1 x 1 px"),
    "long.png": (cv2.imencode(".png", np.zeros((20, 20_001, 3), np.uint8))[1].tobytes(), "20001 x 20 px"),
    "huge.png": (huge_png(), "178 million pixels"),
}
# What only decoding finds.
FOUND_BY_DECODING = {
    "zeros.jpg": (with_zeros(jpeg()), "zeros"),
    "zeros.png": (with_zeros(encode(form="PNG")), "damaged"),
}
# What looks odd and is sound.
SOUND = {
    "good.jpg": jpeg(),
    "trailing.jpg": jpeg() + b"a film that the camera appended" * 400,
    "padded.jpg": jpeg() + bytes(9000),
    "progressive.jpg": encode(quality=90, progressive=True),
    "profile.jpg": encode(quality=90, icc_profile=os.urandom(100_000)),
    "rotated.jpg": exif_rotated(),
    "cmyk.jpg": converted("CMYK", "JPEG"),
    "gray.jpg": converted("L", "JPEG"),
    "deep.png": deep_png(),
    "alpha.png": converted("RGBA", "PNG"),
    "palette.png": converted("P", "PNG"),
    "trailing.png": encode(form="PNG") + b"comment" * 900,
    "plain.gif": converted("P", "GIF"),
    "plain.webp": encode(form="WEBP", quality=90),
    "plain.bmp": encode(form="BMP"),
}


def write_unreadable(folder: Path) -> dict[str, str]:
    """Things that are no readable files at all: name -> a part of the reason."""
    (folder / "folder.jpg").mkdir()
    (folder / "link.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    reasons = {"folder.jpg": "is a directory", "link.jpg": "a broken link", "pipe.jpg": "not a regular file"}
    if os.geteuid():  # root may read everything
        (folder / "locked.jpg").write_bytes(jpeg())
        (folder / "locked.jpg").chmod(0)
        reasons["locked.jpg"] = "cannot be read"
    return reasons


def spoil(path: Path) -> bytes:
    """Damage a file so that no list of names, sizes and times shows it; the bytes that it had."""
    before, status = path.read_bytes(), path.stat()
    path.write_bytes((b"no photograph " * len(before))[: len(before)])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return before


def restore(path: Path, content: bytes, like: os.stat_result) -> None:
    """Put back what `spoil` or a deletion took, with the time it had."""
    path.write_bytes(content)
    os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))
