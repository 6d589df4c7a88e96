"""The most memory that this process held, as Linux tells it; 0 where it does not."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

SELF = Path("/proc/self")


def forget_peak() -> None:
    """Count from what is held now. Without effect where the kernel does not allow it: the peak is then an older one."""
    with contextlib.suppress(OSError):
        (SELF / "clear_refs").write_text("5")


def read_peak() -> int:
    """The peak of the resident memory in bytes, without that of loader processes."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", (SELF / "status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
