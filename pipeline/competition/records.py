"""The records of a CSV file as text, plain or gzip, one at a time; ids that look like numbers stay text."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError

FIELD_LIMIT = 2**31 - 1  # characters; the csv module's default of 128 KiB is 7,700 ids, and a landmark may have more


def read_records(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The line number of each record and its cells in `columns`, found by the names in the first line.

    Tolerated: a byte order mark, CRLF, quoted cells, blank lines, and empty cells after the last column. Raises
    PipelineError with the file and the line for a file that cannot be read, a missing column, and a record with too few
    or too many cells.
    """
    records = _read_cells(path)
    header = _strip_names(records)
    missing = [name for name in columns if name not in header]
    if missing:
        raise PipelineError(
            f"no column {missing[0]!r}; the first line is {','.join(header)!r}",
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


def _strip_names(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, names = next(records, (0, [""]))
    return [name.strip() for name in names]


def _read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the cells of every record, the first line included."""
    csv.field_size_limit(FIELD_LIMIT)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                for cells in reader:
                    yield reader.line_num, cells
            except (csv.Error, UnicodeDecodeError) as error:
                where = f"{path}, line {reader.line_num}"
                raise PipelineError(f"not a CSV in UTF-8: {error}", where, "save it as UTF-8 CSV") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(f"the file cannot be read: {reason}", path, "check the path, or fetch it again") from error
