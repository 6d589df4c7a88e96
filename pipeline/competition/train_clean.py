"""The file train_clean.csv: for each landmark the train photographs whose label is trusted.

Its columns are landmark_id and images, the ids of one landmark separated by spaces, as published with GLDv2.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.competition.dataset import SplitListing
from pipeline.competition.records import name_id, quote, read_records
from pipeline.errors import PipelineError

CLEAN_LIST = "train_clean.csv"


def has_clean_list(root: Path, source: str) -> bool:
    """Whether the data below `root` comes with a clean list; plain folders never do."""
    return source != "folders" and (root / CLEAN_LIST).exists()


def read_clean_list(path: Path, train: SplitListing) -> dict[int, list[str]]:
    """Landmark -> ids of a published clean list; empty when there is no such file.

    Raises PipelineError with the line for a list that disagrees with the train split, repeats a landmark or an id, or
    is empty.
    """
    if not path.exists():
        return {}
    assert train.landmarks is not None
    landmark_of = dict(zip(train.ids, train.landmarks, strict=True))
    clean: dict[int, list[str]] = {}
    listed: Counter[str] = Counter()
    for line, (landmark_text, images) in read_records(path, ("landmark_id", "images")):
        where = f"{path}, line {line}"
        landmark, ids = parse_landmark(landmark_text, where), images.split()
        if landmark in clean or not ids:
            what = "appears on two lines" if landmark in clean else "has no photographs"
            raise PipelineError(f"the landmark {landmark} {what}", where, "write one line per landmark, with its ids")
        listed.update(ids)
        for image_id in ids:
            if landmark_of.get(image_id) != landmark or listed[image_id] > 1:
                what = "is listed twice" if listed[image_id] > 1 else f"is no photograph of {landmark} in train.csv"
                raise PipelineError(
                    f"{name_id(image_id)} {what}", where, "the clean list and train.csv must be of one release"
                )
        clean[landmark] = ids
    if not clean:
        raise PipelineError("the clean list is empty", path, "delete the file, or fill it")
    return clean


def write_clean_list(path: Path, clean_list: Mapping[int, Sequence[str]], kept: Collection[str]) -> None:
    """Write the `kept` ids of a clean list in the published format; only the header when there are none."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("landmark_id", "images"))
        for landmark, ids in clean_list.items():
            remaining = [image_id for image_id in ids if image_id in kept]
            if remaining:
                writer.writerow((landmark, " ".join(remaining)))


def read_clean_ids(path: Path) -> set[str]:
    """The train ids of a clean list that `write_clean_list` wrote; empty when it holds none."""
    return {image_id for _, (images,) in read_records(path, ("images",)) for image_id in images.split()}


def parse_landmark(text: str, where: str) -> int:
    """The landmark that a cell of a table names. Raises PipelineError unless it is a whole number of 0 or more."""
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise PipelineError(
            f"the landmark {quote(text)} is not a whole number of 0 or more", where, "correct the record"
        )
    return int(text)
