"""The records of a CSV file as text, plain or gzip, one at a time; ids that look like numbers stay text."""

from __future__ import annotations

import csv
import gzip
import math
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.errors import PipelineError

LINE_LIMIT = 1 << 24  # characters in a line or a cell: a million ids of 16 characters. Longer ones fill the memory
FREE_BYTES, EXPANSION = 64 << 20, 200  # a gzip file beyond so many characters, and times its size, is a bomb
SHOWN = 60  # characters of a cell that an error quotes


def read_records(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The line number of each record and its cells in `columns`, found by the names in the first line.

    Tolerated: a byte order mark, CRLF, quoted cells, blank lines, and empty cells after the last column. Raises
    PipelineError with the file and the line for a file that cannot be read, a column that is missing or there twice, a
    record with too few or too many cells, a line or cell of more than LINE_LIMIT characters, and a gzip bomb. Memory:
    one line, whatever the file holds.
    """
    records = _read_cells(path)
    header = _strip_names(records)
    unfit = next((name for name in columns if header.count(name) != 1), None)
    if unfit is not None:
        found = "two columns" if unfit in header else "no column"
        raise PipelineError(
            f"{found} {unfit!r}; the first line is {quote(','.join(header))}",
            f"{path}, line 1",
            f"the file needs the columns {','.join(columns)}",
        )
    positions = [header.index(name) for name in columns]
    for line, cells in records:
        if len(cells) <= 1 and not "".join(cells).strip():
            continue  # a blank line
        if len(cells) < len(header) or any(cells[len(header) :]):
            what = f"{len(cells)} cells where the first line has {len(header)}"
            raise PipelineError(what, f"{path}, line {line}", "correct the record")
        yield line, [cells[position] for position in positions]


def read_header(path: Path) -> list[str]:
    """The names of the columns. Raises PipelineError for a file that cannot be read."""
    return _strip_names(_read_cells(path))


def quote(text: str) -> str:
    """The text in quotes, cut after its first 60 characters, on one line: for messages about content of any length."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def name_id(text: str) -> str:
    """The text as it is where it could be an id, else `quote`: for messages that name ids from any file."""
    return text if len(text) <= SHOWN and re.fullmatch(r"[\w.-]+", text) else quote(text)


def _strip_names(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, names = next(records, (0, [""]))
    return [name.strip() for name in names]


def _read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the cells of every record, the first line included."""
    csv.field_size_limit(LINE_LIMIT)
    packed = path.suffix == ".gz"
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not path.is_dir():  # reading a pipe or a device may never end
            raise PipelineError("not a regular file", path, "give the path of a file")
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_read_lines(file, path, about.st_size if packed else None), strict=True)
            try:
                for cells in reader:
                    yield reader.line_num, cells
            except (csv.Error, UnicodeDecodeError) as error:
                where = f"{path}, line {reader.line_num}"
                raise PipelineError(f"not a CSV in UTF-8: {error}", where, "save it as UTF-8 CSV") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(f"the file cannot be read: {reason}", path, "check the path, or fetch it again") from error


def _read_lines(file: TextIO, path: Path, packed_bytes: int | None) -> Iterator[str]:
    """The lines of the file, none longer than LINE_LIMIT. packed_bytes: the size of a gzip file, None for a plain one.

    Raises PipelineError before more than one line is in memory, and for a gzip file that expands beyond all measure.
    """
    left = math.inf if packed_bytes is None else max(FREE_BYTES, EXPANSION * packed_bytes)
    while line := file.readline(LINE_LIMIT):
        left -= len(line)
        if len(line) == LINE_LIMIT or left < 0:
            long = f"a line of more than {LINE_LIMIT} characters"
            what = long if left >= 0 else f"a gzip file that expands to more than {EXPANSION} times its size"
            raise PipelineError(what, path, "this is no table of ids: fetch it again from its publisher")
        yield line
