"""The rows of a CSV file as text, plain or gzip, one at a time: ids of digits stay names, errors have their line."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.errors import PipelineError


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The line number of each row and its cells in `columns`, found by the names in the first line.

    Tolerated: a byte order mark, CRLF, quoted cells (not across lines), blank rows, empty cells behind the last column.
    Raises PipelineError for a file that cannot be read, a missing column, and a row of another length.
    """
    line = 0
    try:
        with _open_text(path) as file:
            header = [name.strip() for name in _cells(next(file, ""))]
            at = _columns_at(header, columns, path)
            for line, text in enumerate(file, start=2):
                if text.strip():
                    cells = _fitted(_cells(text), len(header), path, line)
                    yield line, [cells[column] for column in at]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(f"the file cannot be read: {reason}", path, "check the path, or fetch it again") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise PipelineError(f"not a CSV in UTF-8: {error}", f"{path}, line {line}", "save it as UTF-8 CSV") from error


def read_header(path: Path) -> list[str]:
    """The names of the columns. Raises PipelineError for a file that cannot be read."""
    try:
        with _open_text(path) as file:
            return [name.strip() for name in _cells(next(file, ""))]
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(f"the file cannot be read: {reason}", path, "check the path, or fetch it again") from error


def _open_text(path: Path) -> TextIO:
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig")


def _cells(line: str) -> list[str]:
    line = line.rstrip("\r\n")
    if '"' in line:
        return next(csv.reader([line], strict=True))
    return line.split(",")  # the csv module refuses cells beyond 128 KiB: 7,700 ids, which a landmark may have


def _columns_at(header: list[str], columns: tuple[str, ...], path: Path) -> list[int]:
    missing = [name for name in columns if name not in header]
    if missing:
        raise PipelineError(
            f"no column {missing[0]!r}; the first line is {','.join(header)!r}",
            f"{path}, line 1",
            f"the file needs the columns {','.join(columns)}",
        )
    return [header.index(name) for name in columns]


def _fitted(cells: list[str], width: int, path: Path, line: int) -> list[str]:
    if len(cells) < width or any(cells[width:]):
        raise PipelineError(
            f"{len(cells)} cells where the first line has {width}", f"{path}, line {line}", "correct the row"
        )
    return cells
