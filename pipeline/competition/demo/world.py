"""The demo world: a plan of invented photographs, and the data set in the GLDv2 layout that is rendered from it.

Most test photographs show a landmark from the front, index photographs show it from all sides and inside, and only the
training labels say that these belong together. See demo/photograph.py for how a picture is made.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.competition.demo.distractor import DISTRACTORS
from pipeline.competition.demo.name import invent_names
from pipeline.competition.demo.noise import make_generator
from pipeline.competition.demo.photograph import NO_LANDMARK, render_photograph
from pipeline.competition.demo.view import VIEWS
from pipeline.processes import start_workers
from pipeline.settings import NON_LANDMARK, DemoSettings

SPLITS = ("train", "index", "test")
VIEW_SHARES = {  # of front, right, back, left, inside
    "train": (0.24, 0.19, 0.19, 0.19, 0.19),
    "index": (0.28, 0.18, 0.18, 0.18, 0.18),
    "test": (0.7, 0.06, 0.06, 0.06, 0.12),
}
PUBLIC_SHARE = 1 / 3  # of the solutions' rows
JPEG_QUALITIES = (45, 60, 72, 80, 86, 90, 93)
NON_LANDMARK_SEEDS = 1 << 32  # where they start: beyond those of any photograph of SPLITS
JOB_SIZE = 96  # photographs a job at most: painting a landmark's walls costs as much as ten photographs

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Every photograph that will exist and every table; no pixels yet.

    photographs: split, id, landmark (rank, -1 = none), view, seed. tables: file name -> table, all cells text.
    """

    photographs: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    seed: int
    longest_side_px: int


class Shot(NamedTuple):
    """One photograph to be rendered, and the file that it goes to."""

    landmark: int
    view: str
    seed: int
    path: str


def plan_demo_world(settings: DemoSettings, seed: int) -> DemoPlan:
    """The plan of the world with these settings and this seed; costs no rendering."""
    wrong = round(settings.wrong_label_fraction * settings.train_images)
    strangers = {
        "train": wrong // 2,  # the other wrong labels are those of another landmark
        "index": round(settings.distractor_fraction * settings.index_images),
        "test": round(settings.distractor_fraction * settings.test_images),
    }
    totals = {"train": settings.train_images, "index": settings.index_images, "test": settings.test_images}
    parts, indexed = [], settings.landmarks
    for split in SPLITS:
        shown = totals[split] - strangers[split]
        counts = share_out(shown, settings.landmarks, settings.tail_exponent, least=2 if split == "train" else 1)
        if split == "test":  # ask for landmarks that the index shows
            counts = np.pad(
                share_out(shown, indexed, settings.tail_exponent, least=1), (0, settings.landmarks - indexed)
            )
        if split == "index":
            indexed = int((counts > 0).sum()) or settings.landmarks
        parts.append(plan_split(split, counts, strangers[split], seed))
    if settings.non_landmark_images:
        parts.append(plan_split(NON_LANDMARK, np.zeros(0, np.int64), settings.non_landmark_images, seed))
    photographs = pd.concat(parts, ignore_index=True)
    tables = make_tables(photographs, settings.landmarks, wrong, seed)
    return DemoPlan(photographs, tables, seed, settings.longest_side_px)


def share_out(total: int, landmarks: int, exponent: float, least: int) -> Rows:
    """(landmarks,) photographs of each landmark, falling as rank ** -exponent; `least` each where the total allows."""
    floor = min(least, total // landmarks)
    weights = np.arange(1, landmarks + 1, dtype=float) ** -exponent
    spread = total - floor * landmarks
    steps = np.floor(np.cumsum(weights) / weights.sum() * spread + 0.5).astype(np.int64)
    steps[-1] = spread
    counts = floor + np.diff(steps, prepend=0)
    return np.sort(counts)[::-1].astype(np.int64)


def plan_split(split: str, counts: Rows, strangers: int, seed: int) -> pd.DataFrame:
    """The photographs of one split in random order: counts[rank] of each landmark, and pictures of no landmark."""
    rng = make_generator(seed, f"plan {split}")
    landmarks = np.repeat(np.arange(len(counts)), counts)
    views = [view for count in counts.tolist() for view in choose_views(rng, split, count)]
    landmarks = np.concatenate([landmarks, np.full(strangers, NO_LANDMARK)])
    views += rng.choice(list(DISTRACTORS), strangers).tolist()
    order = rng.permutation(len(landmarks))
    return pd.DataFrame(
        {
            "split": split,
            "id": [make_id(seed, split, row) for row in range(len(landmarks))],
            "landmark": landmarks[order],
            "view": np.array(views, dtype=object)[order],
            "seed": number_photographs(split, len(landmarks)),
        }
    )


def number_photographs(split: str, count: int) -> Rows:
    """(count,) the seeds of a split's photographs: no two photographs of a world have the same."""
    if split == NON_LANDMARK:
        return NON_LANDMARK_SEEDS + np.arange(count)
    return SPLITS.index(split) + len(SPLITS) * np.arange(count)


def choose_views(rng: np.random.Generator, split: str, count: int) -> list[str]:
    """The views of a landmark's photographs in one split; train shows every side once before any side twice."""
    views = rng.choice(VIEWS, count, p=VIEW_SHARES[split]).tolist()
    if split == "train":
        views[: len(VIEWS)] = rng.permutation(VIEWS).tolist()[:count]
    return [str(view) for view in views]


def make_id(seed: int, split: str, row: int) -> str:
    """16 hexadecimal digits that look like a GLDv2 id."""
    return hashlib.blake2b(f"{seed}/{split}/{row}".encode(), digest_size=8).hexdigest()


def make_tables(photographs: pd.DataFrame, landmarks: int, wrong: int, seed: int) -> dict[str, pd.DataFrame]:
    """The table of every CSV file, by file name."""
    rng = make_generator(seed, "labels")
    gaps = rng.integers(3, 400, landmarks)  # as in GLDv2, landmark ids have holes
    numbers = rng.permutation(np.cumsum(gaps))
    names = np.append(numbers.astype(str), "").astype(object)  # NO_LANDMARK = -1 finds the last one
    train, index, test = (photographs[photographs["split"] == split] for split in SPLITS)
    noisy = spoil_labels(rng, train["landmark"].to_numpy(), landmarks, wrong)
    usage = np.where(rng.random(len(test)) < PUBLIC_SHARE, "Public", "Private")
    truth = names[test["landmark"].to_numpy()]
    images = index.groupby("landmark")["id"].agg(" ".join).drop(NO_LANDMARK, errors="ignore").to_dict()
    relevant = [images.get(landmark, "None") for landmark in test["landmark"]]
    retrieval_usage = np.where(np.array(relevant) == "None", "Ignored", usage)
    strangers = photographs.loc[photographs["split"] == NON_LANDMARK, ["id"]]
    return ({f"{NON_LANDMARK}.csv": strangers} if len(strangers) else {}) | {
        "train.csv": pd.DataFrame({"id": train["id"], "landmark_id": names[noisy]}),
        "train_truth.csv": pd.DataFrame({"id": train["id"], "landmark_id": names[train["landmark"].to_numpy()]}),
        "index.csv": pd.DataFrame({"id": index["id"]}),
        "test.csv": pd.DataFrame({"id": test["id"]}),
        "retrieval_solution.csv": pd.DataFrame({"id": test["id"], "images": relevant, "Usage": retrieval_usage}),
        "recognition_solution.csv": pd.DataFrame({"id": test["id"], "landmarks": truth, "Usage": usage}),
        "landmarks.csv": pd.DataFrame({"landmark_id": names[:-1], "name": invent_names(landmarks, seed)}),
    }


def spoil_labels(rng: np.random.Generator, truth: Rows, landmarks: int, wrong: int) -> Rows:
    """The labels as a crowd would give them: pictures of no landmark get one, the rest of `wrong` get another one."""
    labels = truth.copy()
    strangers = np.flatnonzero(truth == NO_LANDMARK)
    labels[strangers] = rng.integers(landmarks, size=len(strangers))
    shown = np.flatnonzero(truth != NO_LANDMARK)
    swapped = rng.choice(shown, min(len(shown), wrong - len(strangers)), replace=False)
    labels[swapped] = (truth[swapped] + rng.integers(1, landmarks, size=len(swapped))) % landmarks
    return labels


def write_demo_world(
    plan: DemoPlan, folder: Path, workers: int, on_progress: Callable[[int], None] | None = None
) -> None:
    """Render the photographs that `folder` lacks with `workers` processes, then write the tables.

    on_progress is told how many photographs have been seen to, those found there included, after each job. Every file
    appears whole or not at all, so that a killed run goes on where it was.
    """
    jobs = list_jobs(plan, folder)
    done = len(plan.photographs) - sum(len(job) for job in jobs)
    if on_progress and done:
        on_progress(done)
    for count in run_jobs(plan, jobs, workers):
        done += count
        if on_progress:
            on_progress(done)
    for name, table in plan.tables.items():
        replace_file(folder / name, table.to_csv(index=False, lineterminator="\n").encode())


def run_jobs(plan: DemoPlan, jobs: list[list[Shot]], workers: int) -> Iterator[int]:
    """How many photographs each job has rendered, as it ends; one worker is this process, more are new ones."""
    if min(workers, len(jobs)) <= 1:
        yield from (render_job(plan.seed, plan.longest_side_px, job) for job in jobs)
        return
    with start_workers(min(workers, len(jobs))) as pool:
        pending = [pool.submit(render_job, plan.seed, plan.longest_side_px, job) for job in jobs]
        try:
            for job in as_completed(pending):
                yield job.result()
        finally:  # after an error or an interrupt, start no further job
            pool.shutdown(wait=True, cancel_futures=True)


def list_jobs(plan: DemoPlan, folder: Path) -> list[list[Shot]]:
    """The photographs still to be rendered, those of a landmark together, in jobs of a few."""
    table = plan.photographs.sort_values(["landmark", "view", "seed"], kind="stable")
    rows = zip(table["split"], table["id"], table["landmark"], table["view"], table["seed"], strict=True)
    shots = [
        Shot(landmark, view, number, str(image_path(folder, split, name)))
        for split, name, landmark, view, number in rows
    ]
    missing = [shot for shot in shots if not Path(shot.path).exists()]
    groups = itertools.groupby(missing, key=lambda shot: (shot.landmark, shot.view == "inside"))
    jobs = []
    for _, group in groups:
        together = list(group)
        jobs += [together[start : start + JOB_SIZE] for start in range(0, len(together), JOB_SIZE)]
    return sorted(jobs, key=len, reverse=True)  # the long ones first, so that the processes end together


def image_path(folder: Path, split: str, name: str) -> Path:
    """Where the photograph lies: <folder>/<split>/a/b/c/abc….jpg."""
    return folder / split / name[0] / name[1] / name[2] / f"{name}.jpg"


def render_job(world_seed: int, longest_side_px: int, shots: list[Shot]) -> int:
    """Render and write the photographs; returns how many. Runs in a worker process."""
    for shot in shots:
        pixels = render_photograph(world_seed, shot.landmark, shot.view, shot.seed, longest_side_px)
        quality = int(make_generator(world_seed, "jpeg", shot.seed).choice(JPEG_QUALITIES))
        _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        replace_file(Path(shot.path), encoded.tobytes())
    return len(shots)


def replace_file(path: Path, content: bytes) -> None:
    """Write the file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # always this name: the next run overwrites what a kill leaves
    part.write_bytes(content)
    part.replace(path)
