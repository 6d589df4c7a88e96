"""The demo world: a plan of invented photographs, and the data set in the GLDv2 layout that is rendered from it.

Most test images show a landmark from the front, index images show it from all sides and inside, and only the training
labels say that these belong together.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.demo_world.building import choose_kind
from pipeline.demo_world.distractor import DISTRACTORS
from pipeline.demo_world.paint import choose, make_generator
from pipeline.demo_world.view import NO_LANDMARK, VIEWS, render_image
from pipeline.processes import start_workers
from pipeline.settings import NON_LANDMARK, SPLITS, DemoSettings

VIEW_SHARES = {  # of front, right, back, left, inside
    "train": (0.24, 0.19, 0.19, 0.19, 0.19),
    "index": (0.28, 0.18, 0.18, 0.18, 0.18),
    "test": (0.7, 0.06, 0.06, 0.06, 0.12),
}
PUBLIC_SHARE = 1 / 3  # of the solutions' rows
JPEG_QUALITIES = (45, 60, 72, 80, 86, 90, 93)
NON_LANDMARK_SEEDS = 1 << 32  # the first of them: larger than that of any image of SPLITS
JOB_SIZE = 96  # images per job, at most: painting a landmark's walls costs as much as ten images
SYLLABLES = (
    ("Al", "Bel", "Cor", "Dal", "Fen", "Gar", "Hol", "Ist", "Jor", "Kal", "Lor", "Mar", "Nor", "Pel", "Ros", "Sel"),
    ("a", "e", "i", "o", "an", "en", "ar", "el", "is", "on"),
    ("dor", "mont", "vale", "na", "ria", "sted", "burg", "mere", "lin", "ford", "tha", "gate", "via", "wick"),
)
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Every image that will exist and every table; no pixels yet.

    photographs: split, id, landmark (rank, -1 = none), view, seed. tables: file name -> table, all cells text.
    """

    photographs: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    seed: int
    longest_side_px: int


class Shot(NamedTuple):
    """One image to be rendered, and the file that it goes to."""

    landmark: int
    view: str
    seed: int
    path: str


def plan_demo_world(settings: DemoSettings, seed: int) -> DemoPlan:
    """The plan of the world with these settings and this seed; renders nothing."""
    wrong = round(settings.wrong_label_fraction * settings.train_images)
    totals = {"train": settings.train_images, "index": settings.index_images, "test": settings.test_images}
    distractors = {name: round(settings.distractor_fraction * total) for name, total in totals.items()}
    distractors["train"] = wrong // 2  # the other wrong labels are those of another landmark
    parts, indexed = [], settings.landmarks
    for split in SPLITS:
        asked = indexed if split == "test" else settings.landmarks  # queries show landmarks that the index shows
        shown = totals[split] - distractors[split]
        counts = share_out(shown, asked, settings.tail_exponent, least=2 if split == "train" else 1)
        if split == "index":
            indexed = int((counts > 0).sum()) or settings.landmarks
        parts.append(plan_split(split, counts, distractors[split], seed))
    if settings.non_landmark_images:
        parts.append(plan_split(NON_LANDMARK, np.zeros(0, np.int64), settings.non_landmark_images, seed))
    photographs = pd.concat(parts, ignore_index=True)
    tables = make_tables(photographs, settings.landmarks, wrong, seed)
    return DemoPlan(photographs, tables, seed, settings.longest_side_px)


def share_out(total: int, landmarks: int, exponent: float, least: int) -> Counts:
    """(landmarks,) images of each landmark, proportional to rank ** -exponent; `least` each where the total allows."""
    floor = min(least, total // landmarks)
    weights = np.arange(1, landmarks + 1, dtype=float) ** -exponent
    spread = total - floor * landmarks
    steps = np.floor(np.cumsum(weights) / weights.sum() * spread + 0.5).astype(np.int64)
    steps[-1] = spread
    return np.sort(floor + np.diff(steps, prepend=0))[::-1].astype(np.int64)


def plan_split(split: str, counts: Counts, distractors: int, seed: int) -> pd.DataFrame:
    """The images of one split in random order: counts[rank] of each landmark, and distractors."""
    rng = make_generator(seed, f"plan {split}")
    views: list[str] = []
    for count in counts.tolist():
        drawn = rng.choice(VIEWS, count, p=VIEW_SHARES[split]).tolist()
        if split == "train":  # every view once before any view twice
            drawn[: len(VIEWS)] = rng.permutation(VIEWS).tolist()[:count]
        views += drawn
    views += rng.choice(list(DISTRACTORS), distractors).tolist()
    landmarks = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(distractors, NO_LANDMARK)])
    order, rows = rng.permutation(len(landmarks)), np.arange(len(landmarks))
    ids = [hashlib.blake2b(f"{seed}/{split}/{row}".encode(), digest_size=8).hexdigest() for row in rows]
    seeds = NON_LANDMARK_SEEDS + rows if split == NON_LANDMARK else SPLITS.index(split) + len(SPLITS) * rows
    shown = {"landmark": landmarks[order], "view": np.array(views, dtype=object)[order]}
    return pd.DataFrame({"split": split, "id": ids, **shown, "seed": seeds})


def make_tables(photographs: pd.DataFrame, landmarks: int, wrong: int, seed: int) -> dict[str, pd.DataFrame]:
    """The table of every CSV file, by file name."""
    rng = make_generator(seed, "labels")
    gaps = rng.integers(3, 400, landmarks)  # as in GLDv2, landmark ids have holes
    labels = np.append(rng.permutation(np.cumsum(gaps)).astype(str), "").astype(object)  # the last is NO_LANDMARK's
    train, index, test = (photographs[photographs["split"] == split] for split in SPLITS)
    noisy = spoil_labels(rng, train["landmark"].to_numpy(), landmarks, wrong)
    usage = np.where(rng.random(len(test)) < PUBLIC_SHARE, "Public", "Private")
    images = index.groupby("landmark")["id"].agg(" ".join).drop(NO_LANDMARK, errors="ignore").to_dict()
    relevant = [images.get(landmark, "None") for landmark in test["landmark"]]
    scored = np.where(test["landmark"].isin(images), usage, "Ignored")
    truth = {split["split"].iloc[0]: labels[split["landmark"].to_numpy()] for split in (train, test)}
    tables = {
        "train.csv": pd.DataFrame({"id": train["id"], "landmark_id": labels[noisy]}),
        "train_truth.csv": pd.DataFrame({"id": train["id"], "landmark_id": truth["train"]}),
        "index.csv": index[["id"]],
        "test.csv": test[["id"]],
        "retrieval_solution.csv": pd.DataFrame({"id": test["id"], "images": relevant, "Usage": scored}),
        "recognition_solution.csv": pd.DataFrame({"id": test["id"], "landmarks": truth["test"], "Usage": usage}),
        "landmarks.csv": pd.DataFrame({"landmark_id": labels[:-1], "name": invent_names(landmarks, seed)}),
    }
    others = photographs.loc[photographs["split"] == NON_LANDMARK, ["id"]]
    return tables | ({f"{NON_LANDMARK}.csv": others} if len(others) else {})


def spoil_labels(rng: np.random.Generator, truth: Counts, landmarks: int, wrong: int) -> Counts:
    """Labels as a crowd would give them: distractors get one, the rest of `wrong` images that of another landmark."""
    labels = truth.copy()
    distractors, shown = np.flatnonzero(truth == NO_LANDMARK), np.flatnonzero(truth != NO_LANDMARK)
    labels[distractors] = rng.integers(landmarks, size=len(distractors))
    swapped = rng.choice(shown, min(len(shown), wrong - len(distractors)), replace=False)
    labels[swapped] = (truth[swapped] + rng.integers(1, landmarks, size=len(swapped))) % landmarks
    return labels


def invent_names(landmarks: int, seed: int) -> list[str]:
    """A name for each landmark that fits its kind of building; repeated names are numbered."""
    names: list[str] = []
    for landmark in range(landmarks):
        rng = make_generator(seed, "name", landmark)
        place = "".join(choose(rng, part) for part in SYLLABLES)
        name = choose(rng, choose_kind(seed, landmark).titles).format(place)
        names.append(f"{name} {landmark}" if name in names else name)
    return names


def write_demo_world(
    plan: DemoPlan, folder: Path, workers: int, on_progress: Callable[[int], None] | None = None
) -> None:
    """Render the images that `folder` lacks with `workers` processes, then write the tables.

    on_progress is called after each job with the number of images there are, those found there included. Every file
    appears whole or not at all, so that a killed run resumes where it was.
    """
    jobs = list_jobs(plan, folder)
    done = len(plan.photographs) - sum(len(job) for job in jobs)
    for count in itertools.chain([0] if done else [], run_jobs(plan, jobs, workers)):
        done += count
        if on_progress:
            on_progress(done)
    for name, table in plan.tables.items():
        replace_file(folder / name, table.to_csv(index=False, lineterminator="\n").encode())


def run_jobs(plan: DemoPlan, jobs: list[list[Shot]], workers: int) -> Iterator[int]:
    """The number of images of each job, as it ends; a single worker is this process, more are new ones."""
    render = partial(render_job, plan.seed, plan.longest_side_px)
    if min(workers, len(jobs)) <= 1:
        yield from map(render, jobs)
        return
    with start_workers(min(workers, len(jobs))) as pool:
        pending = [pool.submit(render, job) for job in jobs]
        try:
            yield from (job.result() for job in as_completed(pending))
        finally:  # after an error or an interrupt, start no further job
            pool.shutdown(wait=True, cancel_futures=True)


def list_jobs(plan: DemoPlan, folder: Path) -> list[list[Shot]]:
    """The images still to be rendered, those of a landmark together, the longest jobs first."""
    jobs = []
    inside = (plan.photographs["view"] == "inside").rename("inside")
    for _, group in plan.photographs.groupby(["landmark", inside]):
        paths = [image_path(folder, split, name) for split, name in zip(group["split"], group["id"], strict=True)]
        rows = zip(group["landmark"], group["view"], group["seed"], map(str, paths), strict=True)
        missing = [Shot(*row) for row, path in zip(rows, paths, strict=True) if not path.exists()]
        jobs += [missing[start : start + JOB_SIZE] for start in range(0, len(missing), JOB_SIZE)]
    return sorted(jobs, key=len, reverse=True)  # so that the processes end at about the same time


def image_path(folder: Path, split: str, name: str) -> Path:
    """The path of an image: <folder>/<split>/a/b/c/abc….jpg."""
    return folder / split / name[0] / name[1] / name[2] / f"{name}.jpg"


def render_job(world_seed: int, longest_side_px: int, shots: list[Shot]) -> int:
    """Render and write the images; returns their number. Runs in a worker process."""
    for shot in shots:
        pixels = render_image(world_seed, shot.landmark, shot.view, shot.seed, longest_side_px)
        quality = choose(make_generator(world_seed, "jpeg", shot.seed), JPEG_QUALITIES)
        _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        replace_file(Path(shot.path), encoded.tobytes())
    return len(shots)


def replace_file(path: Path, content: bytes) -> None:
    """Write the file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # always this name: the next run overwrites what a kill leaves
    part.write_bytes(content)
    part.replace(path)
