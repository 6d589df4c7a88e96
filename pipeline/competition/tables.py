"""The organisers' tables and where each photograph lies: GLDv2's CSVs, or plain folders of photographs.

GLDv2 (github.com/cvdfoundation/google-landmark): train.csv id,landmark_id; index.csv and test.csv id; train_clean.csv
landmark_id,images; photographs at <split>/a/b/c/abc….jpg. Everything is read as text: ids such as 12345e1234567890 or
0012345678901234 are names, not numbers. A fourth split, non_landmark, is as index; it is read when asked for.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import hash_file
from pipeline.competition.rows import read_rows
from pipeline.errors import PipelineError
from pipeline.settings import NON_LANDMARK

SPLITS = ("train", "index", "test")
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # no separators of paths or of submission cells, no leading dot
# Some of these are refused, but by name, in rejected.csv.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")
CLEAN_LIST, BOXES, NON_LANDMARK_TABLE = "train_clean.csv", "boxes.csv", f"{NON_LANDMARK}.csv"
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the photograph as displayed


@dataclass(frozen=True)
class Split:
    """The photographs of one split: ids, paths, and in train the landmark of each.

    Paths are relative to the data folder, or absolute where the photographs lie elsewhere.
    """

    ids: list[str]
    paths: list[str]
    landmarks: list[int] | None = None
    boxes: dict[str, Box] = field(default_factory=dict)  # id -> the part that counts; where there is none, all counts


@dataclass(frozen=True)
class Dataset:
    """What the organisers hand out. landmark_names is filled for plain folders, whose landmarks have names alone."""

    splits: dict[str, Split]
    clean_list: dict[int, list[str]] = field(default_factory=dict)  # landmark -> train ids; empty = none given
    landmark_names: dict[int, str] = field(default_factory=dict)


def read_gldv2(root: Path, layout: str = "auto", names: Sequence[str] = SPLITS) -> Dataset:
    """The dataset in GLDv2's format below `root`. layout: nested (a/b/c/abc….jpg), flat (abc….jpg) or auto.

    names: the splits that are read, train among them; boxes of the photographs of others are left alone. Raises
    PipelineError with file and line for repeated ids, an id in two splits, ids that are no file names, landmarks that
    are no numbers, boxes that are none, clean lists that disagree with train.csv, and for photographs of no landmark
    that are asked for and are not there.
    """
    _require_folder(root)
    if NON_LANDMARK in names and not (root / NON_LANDMARK_TABLE).is_file():
        raise _no_non_landmarks(f"no {NON_LANDMARK_TABLE}", root)
    boxes = _read_boxes(root / BOXES)
    read: dict[str, Split] = {}
    seen: dict[str, str] = {}
    for name in names:
        columns = ("id", "landmark_id") if name == "train" else ("id",)
        ids: list[str] = []
        landmarks: list[int] = []
        path = root / f"{name}.csv"
        for line, row in read_rows(path, columns):
            _check_id(row[0], seen, name, path, line)
            ids.append(row[0])
            if name == "train":
                landmarks.append(_parse_landmark(row[1], path, line))
        nested = layout == "nested" or (layout == "auto" and _looks_nested(root / name, ids))
        paths = (
            [f"{name}/{image_id[0]}/{image_id[1:2]}/{image_id[2:3]}/{image_id}.jpg" for image_id in ids]
            if nested
            else [f"{name}/{image_id}.jpg" for image_id in ids]
        )
        own = {image_id: boxes.pop(image_id) for image_id in ids if image_id in boxes}
        read[name] = Split(ids, paths, landmarks if name == "train" else None, own)
    _refuse_no_non_landmarks(read, root)
    if boxes and set(SPLITS) <= set(names):
        raise PipelineError(f"a box for {next(iter(boxes))}, which no table lists", root / BOXES, "correct the id")
    return Dataset(read, _read_clean_list(root / CLEAN_LIST, read["train"]))


def read_folders(root: Path, names: Sequence[str] = SPLITS) -> Dataset:
    """Photographs of one's own: train/<landmark>/*.jpg, index/*.jpg, test/*.jpg (below index and test at any depth).

    names: the splits to read; non_landmark/ is as index/.
    An id is the path below the split without its suffix, with every character that an id cannot hold replaced by `_`.
    Landmarks keep their numbers when every folder's name is one; otherwise they are numbered in the order of names.
    """
    _require_folder(root)
    if NON_LANDMARK in names and not (root / NON_LANDMARK).is_dir():
        raise _no_non_landmarks(f"no folder {NON_LANDMARK}/", root)
    found = {name: _list_photographs(root, name) for name in names}
    folders = sorted({Path(path).parts[1] for path in found["train"] if len(Path(path).parts) > 2})
    _refuse_loose_files(root, found["train"])
    numeric = all(re.fullmatch(r"0|[1-9][0-9]*", folder) for folder in folders)
    number = {folder: int(folder) if numeric else position for position, folder in enumerate(folders)}
    splits: dict[str, Split] = {}
    owner: dict[str, str] = {}
    for name, paths in found.items():
        ids = [_name_photograph(path, owner, root) for path in paths]
        landmarks = [number[Path(path).parts[1]] for path in paths] if name == "train" else None
        splits[name] = Split(ids, paths, landmarks)
    _refuse_no_non_landmarks(splits, root)
    return Dataset(splits, landmark_names={value: folder for folder, value in number.items()})


def write_clean_list(path: Path, clean_list: dict[int, list[str]], readable: set[str]) -> None:
    """Write a clean list in the published format, without what was rejected; the header alone when there is none."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("landmark_id", "images"))
        for landmark, ids in clean_list.items():
            kept = [image_id for image_id in ids if image_id in readable]
            if kept:
                writer.writerow((landmark, " ".join(kept)))


def has_clean_list(root: Path, source: str) -> bool:
    """Whether the organisers' data below `root` holds a clean list; plain folders never do."""
    return source != "folders" and (root / CLEAN_LIST).exists()


def read_clean_ids(path: Path) -> set[str]:
    """The train ids of a clean list that `write_clean_list` wrote; none when there was no list."""
    return {image_id for _, (images,) in read_rows(path, ("images",)) for image_id in images.split()}


def digest_sources(root: Path, source: str, names: Sequence[str] = SPLITS) -> dict[str, str]:
    """Digests of everything that `read_gldv2` or `read_folders` and the decoder will read of these splits, by name.

    The tables by content; the photographs by the list of their paths and sizes, because hashing GLDv2's 595 GB would
    take hours. A photograph replaced by another of the same size to the byte goes unnoticed: force stage 01 then.
    """
    digests = {}
    if source != "folders":
        for name in (*(f"{split}.csv" for split in names), CLEAN_LIST, BOXES):
            digests[name] = hash_file(root / name) if (root / name).is_file() else "missing"
    for split in names:
        listing = hashlib.sha256()
        for path, size in walk_files(root / split):
            listing.update(f"{path} {size}\n".encode(errors="surrogateescape"))
        digests[f"{split}/"] = listing.hexdigest()
    return digests


def walk_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file below `folder`, as (path below it, bytes), in a fixed order. Links to folders are followed."""
    stack = [""]
    while stack:
        below = stack.pop()
        try:
            with os.scandir(folder / below) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in listed:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir():
                stack.append(path)
            else:
                yield path, _size(entry)


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise PipelineError("the data folder is not there", root, "set data.root to it; README.md shows the layout")


def _no_non_landmarks(what: str, where: Path) -> PipelineError:
    needed = f"{NON_LANDMARK_TABLE} (column id; none for plain folders) and photographs below {NON_LANDMARK}/"
    return PipelineError(what, where, f"add {needed}, or set recognition.non_landmarks = false")


def _refuse_no_non_landmarks(splits: dict[str, Split], root: Path) -> None:
    if NON_LANDMARK in splits and not splits[NON_LANDMARK].ids:
        raise _no_non_landmarks("not one photograph of no landmark", root)


def _check_id(image_id: str, seen: dict[str, str], split: str, path: Path, line: int) -> None:
    where = f"{path}, line {line}"
    if not ID.fullmatch(image_id):
        raise PipelineError(
            f"{image_id[:60]!r} is no id of a photograph", where, "ids are letters, digits, '_', '-' and '.'"
        )
    if image_id in seen:
        other = "twice in this file" if seen[image_id] == split else f"also in {seen[image_id]}.csv"
        raise PipelineError(f"the id {image_id} stands {other}", where, "an id names one photograph of one split")
    seen[image_id] = split


def _parse_landmark(text: str, path: Path, line: int) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise PipelineError(
            f"the landmark {text!r} is not a whole number of 0 or more", f"{path}, line {line}", "correct the row"
        )
    return int(text)


def _looks_nested(folder: Path, ids: list[str]) -> bool:
    for image_id in ids[:100]:
        if (folder / f"{image_id}.jpg").exists():
            return False
        if (folder / image_id[0] / image_id[1:2] / image_id[2:3] / f"{image_id}.jpg").exists():
            return True
    return True


def _read_clean_list(path: Path, train: Split) -> dict[int, list[str]]:
    if not path.exists():
        return {}
    assert train.landmarks is not None
    landmark_of = dict(zip(train.ids, train.landmarks, strict=True))
    clean: dict[int, list[str]] = {}
    named: Counter[str] = Counter()
    for line, (landmark_text, images) in read_rows(path, ("landmark_id", "images")):
        landmark, ids, where = _parse_landmark(landmark_text, path, line), images.split(), f"{path}, line {line}"
        if landmark in clean or not ids:
            what = "stands on two lines" if landmark in clean else "has no photographs"
            raise PipelineError(f"the landmark {landmark} {what}", where, "one line a landmark, with its photographs")
        named.update(ids)
        for image_id in ids:
            if landmark_of.get(image_id) != landmark or named[image_id] > 1:
                what = "is listed twice" if named[image_id] > 1 else f"is no photograph of {landmark} in train.csv"
                raise PipelineError(f"{image_id} {what}", where, "the clean list and train.csv must be of one release")
        clean[landmark] = ids
    if not clean:
        raise PipelineError("the clean list is empty", path, "delete the file, or fill it")
    return clean


def _read_boxes(path: Path) -> dict[str, Box]:
    """The boxes of boxes.csv (id,left,top,right,bottom), where there is one: queries that show more than is asked."""
    boxes: dict[str, Box] = {}
    if not path.exists():
        return boxes
    for line, (image_id, *sides) in read_rows(path, ("id", "left", "top", "right", "bottom")):
        where = f"{path}, line {line}"
        try:
            left, top, right, bottom = (float(side) for side in sides)
        except ValueError:
            raise PipelineError(f"{','.join(sides)} is no box", where, "four numbers, in pixels") from None
        if not (0.0 <= left < right < math.inf and 0.0 <= top < bottom < math.inf) or image_id in boxes:
            what = "has two boxes" if image_id in boxes else f"has the box {','.join(sides)}, which is empty"
            raise PipelineError(f"{image_id} {what}", where, "left < right and top < bottom, once a photograph")
        boxes[image_id] = left, top, right, bottom
    return boxes


def _list_photographs(root: Path, split: str) -> list[str]:
    if not (root / split).is_dir():
        raise PipelineError(
            f"no folder {split}/", root, "plain folders are train/<landmark>/, index/ and test/ (README.md)"
        )
    paths = [path for path, _ in walk_files(root / split)]
    return [f"{split}/{path}" for path in paths if path.lower().endswith(SUFFIXES)]


def _refuse_loose_files(root: Path, paths: list[str]) -> None:
    loose = [path for path in paths if len(Path(path).parts) == 2]
    if loose:
        raise PipelineError(
            f"{len(loose)} photographs lie in train/ itself, such as {Path(loose[0]).name}",
            root,
            "put every train photograph into the folder of its landmark",
        )


def _name_photograph(path: str, owner: dict[str, str], root: Path) -> str:
    below_split = Path(path).relative_to(Path(path).parts[0]).with_suffix("").as_posix()
    image_id = re.sub(r"[^A-Za-z0-9_.-]", "_", below_split)
    image_id = image_id if ID.fullmatch(image_id) else f"_{image_id}"
    image_id = image_id if image_id not in owner else f"{Path(path).parts[0]}_{image_id}"
    if image_id in owner:
        raise PipelineError(f"{path} and {owner[image_id]} both get the id {image_id}", root, "rename one of them")
    owner[image_id] = path
    return image_id


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a broken link: stage 01 will reject it by name
        return -1
