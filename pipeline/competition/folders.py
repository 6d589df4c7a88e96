"""Plain folders of photographs: train/<landmark>/*.jpg, and any files below index/, test/ and non_landmark/.

Without train/ nothing is labelled. A folder that has none of train/, index/ and test/ is searched in itself: every
photograph below it is a query and an image of the database.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.competition.dataset import (
    ID,
    Dataset,
    SplitListing,
    missing_non_landmarks,
    refuse_unreadable_names,
    replace_unsafe_characters,
    require_folder,
    require_non_landmarks,
)
from pipeline.competition.listing import SUFFIXES, list_photographs
from pipeline.errors import PipelineError
from pipeline.settings import NON_LANDMARK, SPLITS, has_no_splits

FORMS = "index/ and test/, with train/<landmark>/ where there are labels"


def read_folders(root: Path, names: Sequence[str] = SPLITS) -> Dataset:
    """The dataset of the photographs below `root`. names: the splits to read, train among them.

    An id is the path below the split without its suffix, with `_` for every character that an id cannot hold. Landmarks
    keep their numbers when the name of every folder is a number of at most 18 digits; otherwise they are numbered in
    the order of the names. Of a folder that is searched in itself, test and index are the same listing.
    Raises PipelineError for a missing folder, photographs in train/ outside of a landmark's folder, names that are not
    UTF-8, paths that get the same id, and unlabelled folders in which there is nothing to search.
    """
    require_folder(root)
    if has_no_splits(root):
        return _read_one_folder(root)
    if NON_LANDMARK in names and not (root / NON_LANDMARK).is_dir():
        raise missing_non_landmarks(f"there is no folder {NON_LANDMARK}/", root)
    labelled = (root / "train").is_dir()
    paths = {name: _list_split(root, name) if labelled or name != "train" else [] for name in names}
    empty = [f"{name}/" for name in ("index", "test") if not labelled and not paths[name]]
    if empty:
        raise PipelineError(
            f"no photographs below {' and '.join(empty)}", root, f"put some there: {', '.join(SUFFIXES)}"
        )
    _refuse_loose_files(root, paths["train"])
    landmark_of = _number_landmarks(paths["train"])
    splits: dict[str, SplitListing] = {}
    path_of: dict[str, str] = {}
    for name in names:
        ids = []
        for path in paths[name]:
            own = _make_id(Path(path).relative_to(name).with_suffix("").as_posix())
            ids.append(_choose_id(path, (own, f"{name}_{own}"), path_of, root))
        landmarks = [landmark_of[Path(path).parts[1]] for path in paths[name]] if name == "train" else None
        splits[name] = SplitListing(ids, paths[name], landmarks)
    require_non_landmarks(splits, root)
    return Dataset(splits, landmark_names={landmark: folder for folder, landmark in landmark_of.items()})


def list_folders(root: Path, names: Sequence[str] = SPLITS) -> dict[str, Path]:
    """The folders below `root` that `read_folders` and the decoder read for these splits, by name."""
    if root.is_dir() and has_no_splits(root):
        return {"photographs/": root}
    return {f"{split}/": root / split for split in names}


def _read_one_folder(root: Path) -> Dataset:
    """The photographs below `root`, as queries and as the images that are searched; hidden files are left out."""
    paths = [path for path in list_photographs(root) if not any(part.startswith(".") for part in Path(path).parts)]
    refuse_unreadable_names(paths, root)
    if len(paths) < 2:
        found = "only one photograph" if paths else "no photographs"
        hint = f"a folder that is searched in itself has at least two, and a database beside queries is {FORMS}"
        raise PipelineError(f"{found} below the folder", root, hint)
    path_of: dict[str, str] = {}
    ids = []
    for path in paths:  # IMG_1.png beside IMG_1.jpg gets its suffix too
        names = [_make_id(name) for name in (Path(path).with_suffix("").as_posix(), path.replace(".", "_"))]
        ids.append(_choose_id(path, names, path_of, root))
    images = SplitListing(ids, paths)
    return Dataset({"train": SplitListing([], [], []), "index": images, "test": images})


def _list_split(root: Path, split: str) -> list[str]:
    if not (root / split).is_dir():
        hint = f"plain folders are {FORMS}; a folder with none of the three is searched in itself (data/README.md)"
        raise PipelineError(f"no folder {split}/", root, hint)
    paths = [f"{split}/{path}" for path in list_photographs(root / split)]
    refuse_unreadable_names(paths, root)
    return paths


def _refuse_loose_files(root: Path, paths: Sequence[str]) -> None:
    loose = [path for path in paths if len(Path(path).parts) == 2]
    if loose:
        raise PipelineError(
            f"{len(loose)} photographs lie in train/ itself, such as {Path(loose[0]).name}",
            root,
            "put every train photograph into the folder of its landmark",
        )


def _number_landmarks(paths: Sequence[str]) -> dict[str, int]:
    """Folder -> landmark of the train photographs."""
    folders = sorted({Path(path).parts[1] for path in paths})
    numeric = all(re.fullmatch(r"0|[1-9][0-9]{0,17}", folder) for folder in folders)
    return {folder: int(folder) if numeric else number for number, folder in enumerate(folders)}


def _make_id(name: str) -> str:
    """The id that a path gives, with `_` for what an id cannot hold, and before what it cannot begin with."""
    image_id = replace_unsafe_characters(name)
    return image_id if ID.fullmatch(image_id) else f"_{image_id}"


def _choose_id(path: str, names: Sequence[str], path_of: dict[str, str], root: Path) -> str:
    """The first of the ids that is not taken, for the photograph at `path`, which is added to `path_of`."""
    for name in names:
        if path_of.setdefault(name, path) == path:
            return name
    raise PipelineError(f"{path} and {path_of[names[-1]]} both get the id {names[-1]}", root, "rename one of them")
