"""Revisited Oxford and Paris (Radenovic et al. 2018), and the Oxford5k and Paris6k that they revise.

    <root>/gnd_roxford5k.pkl      imlist, qimlist: names; gnd: for each query bbx and lists of positions in imlist
    <root>/jpg/<name>.jpg         the photographs, those of the queries included

The lists are easy, hard and junk in the revisited files, ok and junk in the older ones. A query is the region inside
its box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.competition.benchmark import Benchmark, assemble_benchmark, check_names
from pipeline.competition.dataset import Box
from pipeline.competition.junk import Judgements
from pipeline.competition.metrics import Truth
from pipeline.competition.plain_pickle import read_plain_pickle
from pipeline.errors import PipelineError

HINT = "fetch the file again from its publisher, and compare its checksum"
REVISITED = {  # setup -> the lists that hold its positives, and those that hold its junk
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
CLASSIC = {"classic": (("ok",), ("junk",))}


def find_ground_truth(root: Path, name: str = "") -> Path:
    """The ground truth file below `root`: `name`, or the only gnd_*.pkl there. Raises PipelineError."""
    if name:
        return root / name
    found = sorted(root.glob("gnd_*.pkl"))
    if len(found) != 1:
        what = f"{len(found)} files gnd_*.pkl" if found else "no gnd_*.pkl"
        raise PipelineError(f"{what} in the data folder", root, "set data.ground_truth to the file's name")
    return found[0]


def read_revisited(path: Path) -> Benchmark:
    """The benchmark of a ground truth file; its setups are easy, medium and hard, or classic.

    The file is read as data: a pickle that would run code is refused. Raises PipelineError, naming the query, for
    malformed boxes and relevance lists.
    """
    content = read_plain_pickle(path)
    try:
        return _parse(content, path)
    except (TypeError, ValueError) as error:  # a text instead of a number, a number instead of a list
        raise PipelineError(f"not a ground truth of Oxford or Paris: {error}", path, HINT) from error


def _parse(content: Any, path: Path) -> Benchmark:
    named = isinstance(content, dict) and {"imlist", "qimlist", "gnd"} <= content.keys()
    _refuse_unless(named, "it lacks one of imlist, qimlist and gnd", path)
    images, queries = ([str(name) for name in content[key]] for key in ("imlist", "qimlist"))
    judged = list(content["gnd"])
    check_names(images, path)
    check_names(list(dict.fromkeys(queries)), path)
    same = len(judged) == len(queries) and all(isinstance(one, dict) for one in judged)
    _refuse_unless(same and bool(judged), f"{len(judged)} judgements of {len(queries)} queries", path)
    protocol = CLASSIC if "ok" in judged[0] else REVISITED
    setups = {
        setup: Judgements(*(_collect(judged, keys, len(images), path) for keys in lists))
        for setup, lists in protocol.items()
    }
    boxes = [_read_box(one, number, path) for number, one in enumerate(judged)]
    return assemble_benchmark(queries, images, boxes, setups)


def _collect(judged: Sequence[Mapping[str, Any]], keys: Sequence[str], images: int, path: Path) -> Truth:
    """The images in these lists of every query."""
    lists = []
    for number, one in enumerate(judged):
        missing = next((key for key in keys if key not in one), None)
        _refuse_unless(missing is None, f"query {number} has no list {missing!r}", path)
        rows = np.concatenate([np.asarray(one[key], np.float64).reshape(-1) for key in keys])
        valid = np.all((rows >= 0) & (rows < images) & (rows == np.floor(rows)))
        _refuse_unless(bool(valid), f"query {number} judges an image that the list of {images} does not have", path)
        lists.append(rows.astype(np.int64).tolist())
    return Truth.from_lists(lists)


def _read_box(one: Mapping[str, Any], number: int, path: Path) -> Box:
    sides = np.asarray(one.get("bbx", ()), np.float64).reshape(-1).tolist()
    _refuse_unless(len(sides) == 4 and all(map(math.isfinite, sides)), f"query {number} has no box of four sides", path)
    left, top, right, bottom = sides
    left, top = max(left, 0.0), max(top, 0.0)
    _refuse_unless(left < right and top < bottom, f"the box of query {number} is empty: {sides}", path)
    return left, top, right, bottom


def _refuse_unless(valid: bool, what: str, path: Path) -> None:
    if not valid:
        raise PipelineError(f"not a ground truth of Oxford or Paris: {what}", path, HINT)
