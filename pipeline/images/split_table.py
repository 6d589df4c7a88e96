"""The table of a split's images: what was found about the accepted files, and the region of each image to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.arrays import Doubles, Integers
from pipeline.competition.dataset import SplitListing
from pipeline.errors import PipelineError
from pipeline.images.split import BOX_COLUMNS

REJECTED_COUNT = "rejected"  # the attribute of a table of accepted images that tells how many were not


def divide_split(
    root: Path, split: SplitListing, sizes: Integers, reasons: Mapping[int, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The split's accepted images and its rejected files, both in the order of the organisers' table.

    sizes: (N, 3) width, height and bytes. reasons: position -> why the file is rejected.
    Accepted: id, path (below `root`), width, height, bytes; left, top, right, bottom (float64), the region to use,
    which is the whole image where there is no box; in train landmark (int64). Where files were rejected, the table's
    attribute "rejected" is their number. Rejected: id, path, reason. Raises PipelineError for a box that lies outside
    its image.
    """
    table = pd.DataFrame({"id": split.ids, "path": split.paths}, dtype="str")
    for column, values in zip(("width", "height", "bytes"), sizes.T, strict=True):
        table[column] = values
    for column, sides in zip(BOX_COLUMNS, _clip_boxes(split, sizes, root).T, strict=True):
        table[column] = sides
    if split.landmarks is not None:
        table["landmark"] = pd.Series(split.landmarks, dtype="int64")
    rejected = np.zeros(len(table), np.bool_)
    rejected[list(reasons)] = True
    good = table[~rejected].reset_index(drop=True)
    if reasons:
        good.attrs[REJECTED_COUNT] = len(reasons)
    return good, table.loc[rejected, ["id", "path"]].assign(reason=[reasons[at] for at in sorted(reasons)])


def count_rejected(table: pd.DataFrame) -> int:
    """How many files of the split were rejected when this table of its accepted images was made."""
    return int(table.attrs.get(REJECTED_COUNT, 0))


def _clip_boxes(split: SplitListing, sizes: Integers, root: Path) -> Doubles:
    """left, top, right, bottom of every image, (N, 4): its box, clipped to the image, or the whole image."""
    regions = np.zeros((len(sizes), 4))
    regions[:, 2:] = sizes[:, :2]
    for position, image_id in enumerate(split.ids) if split.boxes else ():
        if image_id not in split.boxes:
            continue
        left, top, right, bottom = split.boxes[image_id]
        width, height = sizes[position, :2].tolist()
        right, bottom = min(right, width), min(bottom, height)
        if width and (right - left < 1.0 or bottom - top < 1.0):
            what = f"the box of {image_id} holds less than a pixel of its {width} x {height}"
            hint = "boxes are left, top, right, bottom in pixels of the photograph as displayed"
            raise PipelineError(what, root, hint)
        regions[position] = left, top, right, bottom
    return regions
