"""The one error that users see: what is wrong, where, and what to do next."""

from __future__ import annotations

from pathlib import Path

LONGEST = 2_000  # characters of what and of where: a damaged file can put its whole content there


class PipelineError(Exception):
    """A failure that the user can act on; its texts are cut after 2,000 characters.

    exit_code: 2 = a wrong setting, file or command; 3 = more bad data than the settings allow.
    """

    def __init__(self, what: str, where: Path | str, hint: str, exit_code: int = 2):
        what, where = _cut(what), where if isinstance(where, Path) else _cut(where)
        super().__init__(f"{what}\n  where: {where}\n  fix:   {hint}")
        self.what, self.where, self.hint = what, where, hint
        self.exit_code = exit_code

    def __reduce__(
        self,
    ) -> tuple[
        type[PipelineError], tuple[str, Path | str, str, int]
    ]:  # worker processes send their errors home by pickle
        return type(self), (self.what, self.where, self.hint, self.exit_code)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
