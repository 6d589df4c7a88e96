"""Images that were accepted and yet cannot be read: they are left out, counted against a limit, and listed.

A file may be damaged where its inspection does not look, or be lost later; a run of days must not stop at it. The list
is rejected.csv in the artifact of the work that left the images out; it is only a header where nothing was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.arrays import Integers
from pipeline.artifacts import atomic_file
from pipeline.errors import PipelineError
from pipeline.images.decode import UndecodableImage, decode_photograph
from pipeline.images.inspection import NAMED, name_rejected, too_many_rejected
from pipeline.images.split import Split
from pipeline.task_context import TaskContext

REJECTED = "rejected.csv"
COLUMNS = ["row", "id", "path", "reason"]
log = logging.getLogger("cairn.images")  # below the project's logger, so that it reaches log.txt


class Rejections:
    """The images of a split that some work could not read. reasons: position in the split -> why.

    The work is stopped by a PipelineError with exit code 3 when there are more than the split tolerates; a split that
    tolerates nothing is one without a tolerance.
    """

    def __init__(self, split: Split, folder: Path):
        """folder: of the artifact, which gets rejected.csv."""
        self.split, self.listed = split, folder / REJECTED
        self.reasons: dict[int, str] = {}

    def add(self, position: int, reason: str) -> None:
        """Leave out an image. Raises PipelineError when too many are."""
        if position in self.reasons:
            return
        self.reasons[position] = reason
        if len(self.reasons) <= NAMED:
            log.warning("%s is left out: %s", self.split.table["path"].iloc[position], reason)
        tolerance = self.split.tolerance
        if tolerance is None or tolerance.is_exceeded_by(len(self.reasons)):
            raise self._too_many()

    def add_unreadable(self, reasons: dict[int, str]) -> None:
        """Leave out those of the images, which were left out before, that still cannot be read."""
        for position, reason in reasons.items():
            if not self.can_be_read(position):
                self.add(position, reason)

    def can_be_read(self, position: int) -> bool:
        """Whether the file can be decoded now."""
        return _can_be_decoded(self.split.root / self.split.table["path"].iloc[position])

    def write(self, task: TaskContext) -> None:
        """Write rejected.csv, with the columns row, id, path, reason; count the images in the task's facts."""
        table = self._write_table()
        first = table.drop(columns="row").head(NAMED).to_dict("records")
        task.facts["rejected"] = {"count": len(table), "first": first}
        if len(table) > NAMED:
            log.warning("%d photographs in all are left out, see %s", len(table), task.published / REJECTED)

    def _write_table(self) -> pd.DataFrame:
        positions = sorted(self.reasons)
        table = self.split.table.iloc[positions][["id", "path"]]
        table = table.assign(row=table.index, reason=[self.reasons[position] for position in positions])[COLUMNS]
        with atomic_file(self.listed) as part:
            table.to_csv(part, index=False, lineterminator="\n")
        return table

    def _too_many(self) -> PipelineError:
        table = self._write_table()
        first = name_rejected(table["path"].tolist(), table["reason"].tolist())
        if self.split.tolerance is None:
            return PipelineError(f"a photograph cannot be read: {first}", self.listed, "restore the file", exit_code=3)
        before, name = self.split.tolerance.rejected, self.split.tolerance.split
        and_before = f", and {before} were rejected when the data was prepared" if before else ""
        what = f"{len(table)} photographs of {name} can no longer be read ({first}){and_before}"
        return too_many_rejected(self.split.tolerance, what, self.listed)


def find_restored(folder: Path, root: Path) -> list[str]:
    """Paths, below `root`, of images that the artifact left out and that can be read now; looks at the first NAMED."""
    paths = pd.read_csv(folder / REJECTED, dtype=str, keep_default_na=False, nrows=NAMED)["path"]
    return [path for path in paths if _can_be_decoded(root / path)]


def read_rejected(folders: Iterable[Path]) -> Integers:
    """The rows of the images that are left out of any of these artifacts, ascending."""
    return combine_rejected(folders)["row"].to_numpy(np.int64)


def combine_rejected(folders: Iterable[Path]) -> pd.DataFrame:
    """The images that are left out of any of these artifacts, by row, each once."""
    lists = [folder / REJECTED for folder in folders]
    read = [
        pd.read_csv(path, dtype=str, keep_default_na=False) for path in lists if path.exists()
    ]  # older ones lack it
    table = pd.concat([pd.DataFrame(columns=COLUMNS, dtype=str), *read]).astype({"row": np.int64})
    return table.drop_duplicates("row").sort_values("row", ignore_index=True)


def _can_be_decoded(path: Path) -> bool:
    try:
        decode_photograph(path)
    except UndecodableImage:
        return False
    return True
