"""The header and the end of an image file, read without the pixels between them: what is cheap to check on every file.

| format | its end is there if                                                                              |
|--------|--------------------------------------------------------------------------------------------------|
| JPEG   | an end-of-image marker follows the start of the first scan; inside a scan there can be none       |
| PNG    | the closing IEND chunk is there                                                                  |
| WebP   | the file is at least as long as its RIFF header states                                           |
| others | not checked                                                                                      |

Whatever follows the end is tolerated: cameras append previews and films, and downloads are padded.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.images.decode import JPEGS, Header, UndecodableImage, explain_os_error, parse_header
from pipeline.images.jpeg_damage import END_OF_IMAGE, find_missing_end, find_scan_start

HEAD_BYTES = 1 << 16  # the largest EXIF block fits; only a header with a long colour profile needs more
TAIL_BYTES = 1 << 12
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM")


def read_ends(path: Path) -> tuple[Header, int]:
    """The header of an image file and its size in bytes.

    Raises UndecodableImage with the reason: not a file that can be read, no image, or one without its end.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():
            raise UndecodableImage("not a regular file")  # reading a pipe would wait for ever
        with open(path, "rb", buffering=0) as file:
            ends = _Ends(file.fileno())
            header = ends.parse_header()
            reason = ends.find_truncation(header)
    except OSError as error:
        raise UndecodableImage(explain_os_error(error, path)) from None
    if reason:
        raise UndecodableImage(reason)
    return header, ends.size


class _Ends:
    """An open file, of which the first and the last bytes are read, and more only if they do not suffice."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._head = os.pread(descriptor, HEAD_BYTES, 0)
        if not self._head:
            raise UndecodableImage("the file is empty")

    def parse_header(self) -> Header:
        """What the header says. Raises UndecodableImage for a file that is shorter than it states, or no image."""
        if self._head.startswith(b"RIFF"):
            stated = int.from_bytes(self._head[4:8], "little") + 8
            if stated > self.size:
                raise UndecodableImage(f"truncated: {self.size:,} bytes where its header states {stated:,}")
        try:
            return parse_header(self._head)
        except UndecodableImage:
            if self.size <= len(self._head) or not self._head.startswith(SIGNATURES):
                raise
            self._head = self._read_whole()
            return parse_header(self._head)

    def find_truncation(self, header: Header) -> str:
        """Why the end of the image is not there, or nothing."""
        if header.format in JPEGS:
            return self._find_jpeg_truncation()
        if header.format == "PNG" and PNG_END not in self._read_tail() and PNG_END not in self._read_whole():
            return "truncated: the closing IEND chunk is missing"
        return ""

    def _find_jpeg_truncation(self) -> str:
        scan = find_scan_start(self._head)
        if scan is not None and END_OF_IMAGE in self._read_tail(scan):
            return ""
        return find_missing_end(self._read_whole()) or ""

    def _read_tail(self, start: int = 0) -> bytes:
        """The last bytes of the file, none of them before `start`."""
        first = max(self.size - TAIL_BYTES, start)
        if self.size <= len(self._head):
            return self._head[first:]
        return os.pread(self._descriptor, self.size - first, first)

    def _read_whole(self) -> bytes:
        if self.size <= len(self._head):
            return self._head
        parts, at = [], 0
        while part := os.pread(self._descriptor, 1 << 24, at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)
