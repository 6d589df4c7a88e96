"""Photographs a second and core through `load_batches`, beside plain OpenCV and beside a loop of torchvision.

    python -m benchmarks.reading
    python -m benchmarks.reading --photographs FOLDER --size 288 224

All of them make batches of images of one size on one core, from files in the page cache:

    plain OpenCV     decode, exchange the colours, resize as ours does, stack; nothing is checked or rotated
    reduced          the same, with the scale known at which ours decodes a large JPEG
    torchvision      a DataLoader over PIL images, or over tensors of torchvision's decoder: resize, collate

Without --photographs, photographs are made up: noise with the spectrum of natural images, as JPEGs. Every round runs
each method once, so that a busy machine slows all of them; the best round of each counts, in processor time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from benchmarks.record import add_json_argument, publish
from benchmarks.rivals import best_seconds, use_one_thread
from pipeline.images.batch_loader import load_batches
from pipeline.images.batches import PlannedBatch
from pipeline.images.decode import Size, read_header, resize_photograph

BATCH = 32
QUALITY = 90
OURS = "ours, load_batches"
MADE_UP: Size = (800, 600)
SIZES: list[Size] = [(512, 384), (256, 192)]  # of a batch: the first needs the whole of such a JPEG, the other half
FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}


def make_photograph(size: Size, seed: int) -> np.ndarray:
    """Noise whose amplitude falls with its frequency, (H, W, 3) uint8."""
    rng, (width, height) = np.random.default_rng(seed), size
    image = np.full((height, width, 3), 128, np.float32)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        coarse = rng.standard_normal((max(1, cells * height // width), cells, 3), np.float32)
        image += cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) * (160 / np.sqrt(cells))
    return image.clip(0, 255).astype(np.uint8)


def write_photographs(folder: Path, count: int, size: Size) -> list[Path]:
    """Make up JPEGs."""
    paths = [folder / f"{at}.jpg" for at in range(count)]
    for at, path in enumerate(paths):
        cv2.imwrite(str(path), make_photograph(size, at), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def by_ours(paths: list[Path], size: Size) -> None:
    """Ours, in this process."""
    rows = np.arange(len(paths))
    for _ in load_batches(paths, [PlannedBatch(rows[start : start + BATCH], size) for start in rows[::BATCH]]):
        pass


def by_opencv(paths: list[Path], size: Size, flags: list[int] | None = None) -> None:
    """OpenCV alone. flags: of each image, as cv2.imread takes them."""
    for start in range(0, len(paths), BATCH):
        images = []
        for at, path in enumerate(paths[start : start + BATCH], start):
            pixels = cv2.imread(str(path), flags[at] if flags else cv2.IMREAD_COLOR)
            assert pixels is not None
            images.append(resize_photograph(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), size))
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def reductions(paths: list[Path], size: Size) -> list[int]:
    """How ours decodes each JPEG: smaller, never below the size."""
    headers = [read_header(path) for path in paths]
    fits = [min(width // size[0], height // size[1]) for width, height in headers]
    return [FLAGS[max(n for n in FLAGS if n <= max(1, fit))] for fit in fits]


class Photographs(Dataset):
    """The photographs as torchvision's examples load them."""

    def __init__(self, paths: list[Path], size: Size, tensors: bool):
        self.paths, self.tensors = paths, tensors
        resize = v2.Resize((size[1], size[0]), antialias=True)
        self.transform = resize if tensors else v2.Compose([resize, v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> torch.Tensor:
        path = str(self.paths[at])
        return self.transform(decode_image(path, ImageReadMode.RGB) if self.tensors else default_loader(path))


def by_torchvision(dataset: Photographs) -> None:
    """A loop over a DataLoader, in this process."""
    for _ in DataLoader(dataset, BATCH):
        pass


def measure(paths: list[Path], size: Size, rounds: int) -> dict[str, float]:
    """Milliseconds per image of each method."""
    methods: dict[str, Callable[[], None]] = {
        "plain OpenCV": partial(by_opencv, paths, size),
        "OpenCV, reduced": partial(by_opencv, paths, size, reductions(paths, size)),
        OURS: partial(by_ours, paths, size),
        "torchvision, PIL images": partial(by_torchvision, Photographs(paths, size, tensors=False)),
        "torchvision, tensors": partial(by_torchvision, Photographs(paths, size, tensors=True)),
    }
    return {name: 1000 * taken / len(paths) for name, taken in best_seconds(methods, rounds).items()}


def find_photographs(folder: Path, count: int) -> list[Path]:
    """At most so many of the JPEGs below a folder, from all parts of it."""
    found = sorted(folder.rglob("*.jpg"))
    return found[:: -(-len(found) // count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs, searched with what is below it")
    parser.add_argument("--size", type=int, nargs=2, action="append", help="width and height of the images of a batch")
    parser.add_argument("--count", type=int, default=192, help="photographs at most")
    parser.add_argument("--rounds", type=int, default=5)
    add_json_argument(parser)
    asked = parser.parse_args()
    use_one_thread()

    tables: dict[str, list[dict[str, object]]] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as made:
        if asked.photographs:
            paths, kind = find_photographs(asked.photographs, asked.count), "JPEGs of a folder"
        else:
            paths, kind = write_photographs(Path(made), asked.count, MADE_UP), "JPEGs of {} x {} px".format(*MADE_UP)
        for width, height in asked.size or SIZES:
            taken, to = measure(paths, (width, height), asked.rounds), f"to {width} x {height} px"
            tables[f"{len(paths)} {kind}, {to}, one thread, best of {asked.rounds} rounds"] = [
                {"loop": name, "ms an image": each, "images a second": 1000 / each, "time / ours": each / taken[OURS]}
                for name, each in taken.items()
            ]
            rivals = ("plain OpenCV", "torchvision, PIL images", "torchvision, tensors")
            ratios |= {f"photographs {to}, {name}": taken[name] / taken[OURS] for name in rivals}
    publish(tables, asked.json, ratios=ratios)


if __name__ == "__main__":
    main()
