"""Damage in JPEG files that every decoder passes over: missing ends, and zeros where a disk or a download lost data."""

from __future__ import annotations

import os
import tempfile

import cv2
import numpy as np

END_OF_IMAGE = b"\xff\xd9"
START_OF_SCAN = 0xDA
# Code lengths of the example table for luminance AC coefficients (ITU-T T.81, table K.5), which most cameras use. Under
# it zero bits mean "coefficient -1" over and over, so that a long run of zero bytes cannot come from a picture. (Under
# a table fitted to the picture they can: a blown-out sky. There the decoder's own complaint has to do.)
EXAMPLE_TABLE = bytes([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D])
ZERO_RUN = bytes(64)


def find_jpeg_damage(data: bytes) -> str | None:
    """Why the pixel data of a JPEG file cannot be trusted, or None.

    Decodes the picture once more than needed, and diverts the process's stderr meanwhile (libjpeg's complaints go there
    and nowhere else): for single-threaded checking, not for the training loop.
    """
    scan = _scan_start(data)
    if scan is None:
        return "no picture data after the header"
    end = data.find(END_OF_IMAGE, scan)
    if end < 0:
        return "truncated: the end-of-image marker is missing"
    if EXAMPLE_TABLE in data[:scan] and ZERO_RUN in data[scan:end]:
        return f"a run of zeros in the compressed pixels, {data.find(ZERO_RUN, scan):,} bytes from the start"
    return _decoder_complaint(data)


def _scan_start(data: bytes) -> int | None:
    """Where the first scan of the main picture begins; None if there is none. Steps over thumbnails inside EXIF."""
    at = 2  # behind the start-of-image marker
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == START_OF_SCAN:
            return at
        filling = marker == 0xFF  # 0xFF may be repeated before a marker
        at += 1 if filling else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _decoder_complaint(data: bytes) -> str | None:
    """What libjpeg prints while it decodes ("Corrupt JPEG data: …"), or None when it has nothing to say."""
    with tempfile.TemporaryFile() as caught:
        stderr = os.dup(2)
        try:
            os.dup2(caught.fileno(), 2)
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            return f"OpenCV refuses it: {error.err or error}"
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        caught.seek(0)
        said = caught.read().decode(errors="replace").strip()
    return said.splitlines()[0] if "orrupt JPEG" in said or "remature end" in said else None
