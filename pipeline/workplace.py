"""What a running task hands to the library: where to write, whom to tell, when to stop."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Workplace(Protocol):
    """What goes into `folder` is published, what lies in `scratch` survives a kill. The runner's Context is one.

    progress(total, unit) and steps() give a progress bar while they last; should_stop() says that the user has asked.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def scratch(self) -> Path: ...
    @property
    def workers(self) -> int: ...
    def progress(self, total: int, unit: str) -> AbstractContextManager[Any]: ...
    def steps(self) -> AbstractContextManager[Any]: ...
    def should_stop(self) -> bool: ...
