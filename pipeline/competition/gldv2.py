"""The tables of Google Landmarks v2 (github.com/cvdfoundation/google-landmark), or of other data in its format.

    train.csv                  id,landmark_id
    index.csv, test.csv        id
    train_clean.csv            landmark_id,images: optional, see train_clean.py
    non_landmark.csv           id: photographs that show no landmark, a fourth split; read only when asked for
    boxes.csv                  id,left,top,right,bottom: optional, the region of a photograph to use, in pixels
    train_label_to_category.csv   landmark_id,category: optional, the names of landmarks, for people only
    landmarks.csv              landmark_id,name: the same in plain text, for data that is not published so
    <split>/a/b/c/abc….jpg     the photographs, or flat: <split>/abc….jpg

All cells are read as text: ids such as 12345e1234567890 or 0012345678901234 are names, not numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import unquote

from pipeline.competition.dataset import (
    ID,
    Box,
    Dataset,
    SplitListing,
    missing_non_landmarks,
    require_folder,
    require_non_landmarks,
)
from pipeline.competition.records import name_id, quote, read_records
from pipeline.competition.train_clean import CLEAN_LIST, parse_landmark, read_clean_list
from pipeline.errors import PipelineError
from pipeline.settings import NON_LANDMARK, SPLITS

BOXES = "boxes.csv"
NAMES = {"train_label_to_category.csv": "category", "landmarks.csv": "name"}  # the column of names of each table
LONGEST_ID = 251  # with .jpg, as long as a file name can be


def read_gldv2(root: Path, layout: str = "auto", names: Sequence[str] = SPLITS) -> Dataset:
    """The dataset in GLDv2's format below `root`.

    layout: where the photographs lie: nested (a/b/c/abc….jpg), flat (abc….jpg), or auto, which looks for the first
    ones. names: the splits to read, train among them; boxes of photographs of other splits are ignored.

    Raises PipelineError with file and line for repeated ids, ids in two splits, ids that cannot be file names,
    malformed landmarks and boxes, and clean lists that disagree with train.csv; and when the photographs of no landmark
    are asked for and missing.
    """
    require_folder(root)
    if NON_LANDMARK in names and not (root / f"{NON_LANDMARK}.csv").is_file():
        raise missing_non_landmarks(f"there is no {NON_LANDMARK}.csv", root)
    boxes = _read_boxes(root / BOXES)
    splits: dict[str, SplitListing] = {}
    split_of: dict[str, str] = {}
    for name in names:
        ids, landmarks = _read_split(root / f"{name}.csv", name, split_of)
        own = {image_id: boxes.pop(image_id) for image_id in ids if image_id in boxes}
        splits[name] = SplitListing(ids, _locate(root, name, ids, layout), landmarks, own)
    require_non_landmarks(splits, root)
    if boxes and set(SPLITS) <= set(names):
        raise PipelineError(
            f"a box for {name_id(next(iter(boxes)))}, which no table lists", root / BOXES, "correct the id"
        )
    names_of = read_landmark_names(root, splits["train"].landmarks or [])
    return Dataset(splits, read_clean_list(root / CLEAN_LIST, splits["train"]), names_of)


def list_gldv2_sources(root: Path, names: Sequence[str] = SPLITS) -> dict[str, Path]:
    """The tables and folders below `root` that `read_gldv2` and the decoder read for these splits, by name."""
    tables = {name: root / name for name in (*(f"{split}.csv" for split in names), CLEAN_LIST, BOXES)}
    tables |= {name: root / name for name in NAMES if (root / name).exists()}
    return tables | {f"{split}/": root / split for split in names}


def read_landmark_names(root: Path, landmarks: Collection[int]) -> dict[int, str]:
    """Landmark -> name of the landmarks that have one in a table of names below `root`; of two tables the last says.

    A category is a page of Wikimedia Commons, ".../Category:Eiffel_Tower"; its name is what follows "Category:". A text
    without it stands for itself.
    """
    wanted, names = set(landmarks), {}
    for path, column in ((root / name, column) for name, column in NAMES.items()):
        for line, (landmark_text, text) in read_records(path, ("landmark_id", column)) if path.exists() else ():
            landmark = parse_landmark(landmark_text, f"{path}, line {line}")
            name = unquote(text.rpartition("Category:")[2]).replace("_", " ").strip()
            if landmark in wanted and name:
                names[landmark] = name
    return names


def _read_split(path: Path, name: str, split_of: dict[str, str]) -> tuple[list[str], list[int] | None]:
    """The ids of a split's table, which are added to `split_of`, and in train their landmarks."""
    ids: list[str] = []
    landmarks: list[int] = []
    for line, cells in read_records(path, ("id", "landmark_id") if name == "train" else ("id",)):
        where = f"{path}, line {line}"
        _check_id(cells[0], name, split_of, where)
        split_of[cells[0]] = name
        ids.append(cells[0])
        if name == "train":
            landmarks.append(parse_landmark(cells[1], where))
    return ids, landmarks if name == "train" else None


def _check_id(image_id: str, split: str, split_of: dict[str, str], where: str) -> None:
    if not ID.fullmatch(image_id) or len(image_id) > LONGEST_ID:
        what = f"{quote(image_id)} cannot be the id of a photograph"
        hint = f"ids are at most {LONGEST_ID} letters, digits, '_', '-' and '.'"
        raise PipelineError(what, where, hint)
    if image_id in split_of:
        other = "twice in this file" if split_of[image_id] == split else f"also in {split_of[image_id]}.csv"
        raise PipelineError(f"the id {image_id} appears {other}", where, "an id names one photograph of one split")


def _locate(root: Path, split: str, ids: Sequence[str], layout: str) -> list[str]:
    """The path of every photograph below `root`."""
    if layout == "nested" or (layout == "auto" and _looks_nested(root / split, ids)):
        return [f"{split}/{image_id[0]}/{image_id[1:2]}/{image_id[2:3]}/{image_id}.jpg" for image_id in ids]
    return [f"{split}/{image_id}.jpg" for image_id in ids]


def _looks_nested(folder: Path, ids: Sequence[str]) -> bool:
    for image_id in ids[:100]:
        if (folder / f"{image_id}.jpg").exists():
            return False
        if (folder / image_id[0] / image_id[1:2] / image_id[2:3] / f"{image_id}.jpg").exists():
            return True
    return True


def _read_boxes(path: Path) -> dict[str, Box]:
    """Id -> box of every record of boxes.csv; empty when there is no such file."""
    boxes: dict[str, Box] = {}
    if not path.exists():
        return boxes
    for line, (image_id, *sides) in read_records(path, ("id", "left", "top", "right", "bottom")):
        where = f"{path}, line {line}"
        try:
            left, top, right, bottom = (float(side) for side in sides)
        except ValueError:
            raise PipelineError(f"{quote(','.join(sides))} is no box", where, "write four numbers, in pixels") from None
        if not (0.0 <= left < right < math.inf and 0.0 <= top < bottom < math.inf) or image_id in boxes:
            what = "has two boxes" if image_id in boxes else f"has the box {quote(','.join(sides))}, which is empty"
            raise PipelineError(
                f"{name_id(image_id)} {what}", where, "left < right and top < bottom, one box per photograph"
            )
        boxes[image_id] = left, top, right, bottom
    return boxes
