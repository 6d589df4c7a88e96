"""Small photographs for tests: noise whose tint tells the landmark, in three shapes."""

from pathlib import Path

import cv2
import numpy as np

from pipeline.network.training_set import TrainingSet

LANDMARKS = [7, 100, 3]
SHAPES = [(120, 80), (100, 100), (80, 120)]  # (width, height)


def write_photographs(folder: Path, count: int) -> TrainingSet:
    """`count` photographs of three landmarks in turn, the same ones at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths, ratios, labels = [], [], []
    for row in range(count):
        width, height = SHAPES[row // 3 % 3]
        coarse = rng.integers(0, 120, (height // 8, width // 8, 3), dtype=np.uint8)
        coarse[..., row % 3] += 130
        paths.append(folder / f"photo{row:03d}.jpg")
        cv2.imwrite(str(paths[-1]), cv2.resize(coarse, (width, height)))
        ratios.append(height / width)
        labels.append(LANDMARKS[row % 3])
    return TrainingSet(paths, np.array(ratios), np.array(labels))
