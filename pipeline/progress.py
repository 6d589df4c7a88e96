"""How far a piece of work is, at the console: a line that is redrawn on a terminal, elsewhere a plain one now and then.

[3/12] clean_train_set · photographs 1,200 of 9,000 · 120/s · 1:05 left · run about 6 min left
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from tqdm import tqdm

PLAIN_SECONDS = 30.0  # between two lines of a console that is a file: no animation, and no control characters
DRAWN_SECONDS = 0.2


@dataclass(frozen=True)
class Work:
    """What is counted. label: of the stage. later: seconds that the run is to take afterwards; None = unknown."""

    total: int
    unit: str
    done: int = 0
    label: str = ""
    later: float | None = None

    def start(self, stream: TextIO | None = None) -> Terminal | PlainLines:
        """Show it, on stderr by default."""
        stream = stream or sys.stderr
        return Terminal(self, stream) if _has_width(stream) else PlainLines(self, stream)


def _has_width(stream: TextIO) -> bool:
    """Whether a line can be redrawn there: not on a terminal without a width, as some programs open them."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:  # no file of the system
        return stream.isatty()


def describe(work: Work, count: int, total: int, since: int, elapsed: float, note: str = "") -> str:
    """The line: `count` of `total` are done, those after `since` in `elapsed` seconds."""
    parts = [work.label] if work.label else []
    parts.append(f"{work.unit} {count:,} of {total:,}")
    if count > since and elapsed > 0:
        rate = (count - since) / elapsed
        left = max(total - count, 0) / rate
        parts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s", f"{format_clock(left)} left"]
        parts += [note] if note else []
        parts += [f"run about {format_about(left + work.later)} left"] if work.later is not None else []
    return " · ".join(parts)


def format_clock(seconds: float) -> str:
    """1:05, or 2:01:05 from an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_about(seconds: float) -> str:
    """Whole seconds below two minutes, minutes below two hours, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Terminal(tqdm):
    """The line on a terminal. tqdm keeps it below what is logged meanwhile."""

    def __init__(self, work: Work, stream: TextIO):
        self.work, self.text = work, ""
        shown = {"bar_format": "{line}", "dynamic_ncols": True, "mininterval": DRAWN_SECONDS, "leave": False}
        super().__init__(total=work.total, initial=work.done, file=stream, **shown)

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        counts = values["n"], values["total"] or 0, values["initial"]
        return values | {"line": describe(self.work, *counts, values["elapsed"], self.text)}

    def begin(self, done: int, total: int) -> None:
        """Set what is known only later."""
        self.total, self.initial, self.n = total, done, done

    def note(self, text: str) -> None:
        """Show a text beside the numbers."""
        self.text = text


class PlainLines:
    """The line, printed at most every PLAIN_SECONDS."""

    def __init__(self, work: Work, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        self.work, self.stream, self.clock = work, stream, clock
        self.n, self.initial, self.total, self.text = work.done, work.done, work.total, ""
        self.started = self.printed = clock()

    def begin(self, done: int, total: int) -> None:
        """Set what is known only later."""
        self.total, self.initial, self.n = total, done, done

    def note(self, text: str) -> None:
        """Show a text beside the numbers."""
        self.text = text

    def update(self, count: int) -> None:
        """Count more of the work."""
        self.n += count
        now = self.clock()
        if now - self.printed >= PLAIN_SECONDS and self.n < self.total:
            self.printed = now
            line = describe(self.work, self.n, self.total, self.initial, now - self.started, self.text)
            print(line, file=self.stream, flush=True)

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_error: object) -> None:
        return None
