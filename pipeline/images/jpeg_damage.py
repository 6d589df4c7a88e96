"""Damage in JPEG files that decoders pass over: a missing end, and zeros where a disk or a download lost data."""

from __future__ import annotations

import simplejpeg

END_OF_IMAGE = b"\xff\xd9"
START_OF_SCAN = 0xDA
# Code lengths of the example table for luminance AC coefficients (ITU-T T.81, table K.5), which most cameras use. With
# this table zero bits mean "coefficient -1" over and over, so that no image is encoded as a long run of zero bytes.
# (With a table fitted to the image one can be: a blown-out sky. There only the decoder's warnings remain.)
EXAMPLE_TABLE = bytes([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D])
ZERO_RUN = bytes(64)
DAMAGE_WARNINGS = ("Corrupt JPEG data", "Premature end")  # libjpeg's; its others concern headers that decode well


def find_jpeg_damage(data: bytes) -> str | None:
    """Why the pixel data of a JPEG file cannot be trusted, or None. Decodes the image once, in grayscale."""
    missing, scan = find_missing_end(data), find_scan_start(data)
    if missing or scan is None:
        return missing
    end = data.find(END_OF_IMAGE, scan)
    if EXAMPLE_TABLE in data[:scan] and ZERO_RUN in data[scan:end]:
        return f"a run of zeros in the compressed pixels, {data.find(ZERO_RUN, scan):,} bytes from the start"
    return _decoder_warning(data)


def find_missing_end(data: bytes) -> str | None:
    """Why the scans of a JPEG file are not whole, judged by the marker that ends them, or None. Decodes nothing."""
    scan = find_scan_start(data)
    if scan is None:
        return "no image data after the header"
    return None if data.find(END_OF_IMAGE, scan) >= 0 else "truncated: the end-of-image marker is missing"


def find_scan_start(data: bytes) -> int | None:
    """Where the first scan of the main image begins; None if there is none. Skips thumbnails inside EXIF."""
    position = 2  # after the start-of-image marker
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == START_OF_SCAN:
            return position
        padding = marker == 0xFF  # 0xFF may be repeated before a marker
        position += 1 if padding else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _decoder_warning(data: bytes) -> str | None:
    """libjpeg's warning that the compressed data are damaged, or None.

    OpenCV and Pillow decode through such warnings; simplejpeg raises them as errors. Its other errors are for images
    that it does not support (an unusual chroma subsampling), which the caller's own decoder accepts or refuses.
    """
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, colorspace="CMYK" if colours == "CMYK" else "GRAY", strict=True)
    except ValueError as error:
        if str(error).startswith(DAMAGE_WARNINGS):
            return str(error)
    return None
