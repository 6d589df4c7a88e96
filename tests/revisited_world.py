"""Tiny benchmarks in the published file formats: photographs of the demo world, boxes, easy, hard and junk."""

import pickle
from pathlib import Path

import numpy as np

from pipeline.demo_world.distractor import DISTRACTORS
from pipeline.demo_world.view import NO_LANDMARK
from pipeline.demo_world.world import Shot, render_job
from pipeline.network.checkpoint import save_network
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.settings import ModelSettings, PhaseSettings

SIDE_PX = 96
LANDMARKS = 3
KINDS = {"front": "easy", "right": "hard", "left": "hard", "back": "junk", "inside": "junk"}
MODEL = ModelSettings(backbone="resnet18", weights="none", dims=32)


def render(folder: Path, shots: list[tuple[int, str, str]]) -> None:
    """Photographs (landmark, view, path below the folder); -1 shows none."""
    render_job(7, SIDE_PX, [Shot(*shot[:2], seed, str(folder / shot[2])) for seed, shot in enumerate(shots)])


def write_revisited(root: Path, classic: bool = False) -> dict:
    """Write `root`/gnd_tiny.pkl and its photographs; the ground truth. classic: Oxford5k's keys, queries in imlist."""
    imlist, judged = [], [{"easy": [], "hard": [], "junk": []} for _ in range(LANDMARKS)]
    shots = []
    for landmark, one in enumerate(judged):
        for view, kind in KINDS.items():
            for number in range(2):
                one[kind].append(len(imlist))
                imlist.append(f"place{landmark}_{view}{number}")
                shots.append((landmark, view, f"jpg/{imlist[-1]}.jpg"))
    for number in range(6):
        imlist.append(f"other_{number}")
        shots.append((NO_LANDMARK, sorted(DISTRACTORS)[number % len(DISTRACTORS)], f"jpg/{imlist[-1]}.jpg"))
    queries = [f"query_{landmark}" for landmark in range(LANDMARKS)]
    shots += [(landmark, "front", f"jpg/{name}.jpg") for landmark, name in enumerate(queries)]
    for one in judged:
        one["bbx"] = [10.5, 4.0, 60.0, 50.25]
    if classic:
        for number, (one, query) in enumerate(zip(judged, queries, strict=True)):
            judged[number] = {"bbx": one["bbx"], "ok": [*one["easy"], len(imlist)], "junk": one["hard"]}
            imlist.append(query)
    render(root, shots)
    truth = {"imlist": imlist, "qimlist": queries, "gnd": judged}
    (root / "gnd_tiny.pkl").write_bytes(pickle.dumps(truth, 2))
    return truth


def write_train(root: Path) -> None:
    """A labelled train set in GLDv2's flat layout, which has photographs of the same landmarks."""
    shots, rows = [], ["id,landmark_id"]
    for landmark in range(LANDMARKS):
        for number, view in enumerate(KINDS):
            shots.append((landmark, view, f"train/t{landmark}{number}.jpg"))
            rows.append(f"t{landmark}{number},{100 + landmark}")
    render(root, shots)
    (root / "train.csv").write_text("\n".join(rows) + "\n")


def write_network(folder: Path) -> None:
    """An untrained network, published as stage 04 publishes one."""
    embedding = build_embedding(MODEL, 3)
    save_network(folder, build_landmark_network(embedding, PhaseSettings(), np.array([4, 9]), 3, local=True))
