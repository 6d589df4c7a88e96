"""Every path of a GPU compared with the same code on CPU tensors, on small random data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.features.local_batches import LocalExtractor, LocalNetwork, extract_batch
from pipeline.features.local_store import LocalFeatures
from pipeline.features.multi_scale import embed_batch
from pipeline.features.pyramid_cells import ImageRegions, Kept, select_cells
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.matching.device_knn import PRECISIONS, DevicePlan, search_on_device
from pipeline.matching.pair_batches import PairWork, verify_in_batches
from pipeline.matching.verification import MatchOptions
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.landmark_network import LandmarkNetwork, build_embedding, build_landmark_network
from pipeline.network.optimiser import clip_local_gradients, make_optimiser
from pipeline.settings import ExtractSettings, LocalSettings, ModelSettings, PhaseSettings, Precision

CPU = torch.device("cpu")
MODEL = ModelSettings(backbone="resnet18", weights="none", dims=64)
PHASE = PhaseSettings(precision="float32", learning_rate=0.01)
CLASSES, BATCH, SIDE = 50, 4, 96
WIDTH = 128  # of local descriptors
Row = dict[str, Any]


def make_images(count: int, size: tuple[int, int], seed: int) -> Tensor:
    """Smooth random images (count, 3, H, W) uint8, channels last; size: (width, height)."""
    coarse = torch.rand(count, 3, size[1] // 16, size[0] // 16, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(coarse, (size[1], size[0]), mode="bicubic").clamp(0, 1)
    return images.mul(255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def make_vectors(count: int, width: int, seed: int) -> np.ndarray:
    """Random unit vectors (count, width) float32."""
    vectors = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_features(images: int, keypoints: int, seed: int, shared: int = 0) -> list[LocalFeatures]:
    """Local features of images that show one surface with `shared` of their keypoints, each from another place."""
    rng, surface = np.random.default_rng(seed), np.random.default_rng(0)
    places, known = surface.uniform(0, 900, (shared, 2)), surface.standard_normal((shared, WIDTH))
    found = []
    for _ in range(images):
        points, vectors = rng.uniform(0, 1000, (keypoints, 2)), rng.standard_normal((keypoints, WIDTH))
        turn = rng.uniform(-0.3, 0.3)
        matrix = rng.uniform(0.7, 1.4) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points[:shared] = places @ matrix.T + rng.uniform(0, 100, 2) + rng.standard_normal((shared, 2))
        vectors[:shared] = known + 0.3 * rng.standard_normal((shared, WIDTH))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ones = np.ones(keypoints, np.float32)
        found.append(LocalFeatures(points.astype(np.float32), ones, ones, vectors.astype(np.float32)))
    return found


def make_network(model: ModelSettings = MODEL, classes: int = CLASSES, phase: PhaseSettings = PHASE) -> LandmarkNetwork:
    """A network of random weights with its head and its local branch."""
    ids = np.arange(classes, dtype=np.int64)
    return build_landmark_network(build_embedding(model, 0), phase, ids, 0, True, np.ones(classes, np.int64))


def compare_twins(device: torch.device, half: bool = True) -> Iterator[Row]:
    """A row for each path: what was compared, the greatest difference, the one that is tolerated.

    half: whether networks run in bfloat16 too.
    """
    yield _compare_extraction(device, "float32", 1e-3)
    if half:
        yield _compare_extraction(device, "bfloat16", 2e-2)
    yield _compare_selection(device)
    yield _compare_local_features(device)
    yield from _compare_searches(device)
    yield from _compare_verification(device)
    yield _compare_training(device)


def _row(path: str, compared: str, difference: float, tolerated: float) -> Row:
    agrees = bool(np.isfinite(difference) and difference <= tolerated)
    return {
        "path": path,
        "compared": compared,
        "difference": float(difference),
        "tolerated": tolerated,
        "agrees": agrees,
    }


def _compare_extraction(device: torch.device, precision: Precision, tolerated: float) -> Row:
    batches = [LoadedBatch(make_images(BATCH, (160, 128), seed), torch.arange(BATCH)) for seed in range(2)]
    settings, found = ExtractSettings(precision=precision, scales=[0.8, 1.0]), []
    for where in (CPU, device):
        network = fold_for_evaluation(make_network().embedding.eval(), where, precision)
        copied = copy_ahead(iter(batches), where)
        outputs = [embed_batch(network, batch.images, settings, where) for batch in copied]
        found.append(torch.nn.functional.normalize(torch.cat(outputs).cpu(), dim=1))
    cosines = (found[0] * found[1]).sum(1)
    return _row("global descriptors", f"1 - cosine, {precision}", float((1 - cosines).max()), tolerated)


def _compare_selection(device: torch.device) -> Row:
    attention = torch.rand(4, 3000, generator=torch.Generator().manual_seed(0)).round(decimals=2)  # with many ties
    found = [select_cells(attention.to(where), Kept(0.3, 500)) for where in (CPU, device)]
    different = sum(int((one.cpu() != other).sum()) for one, other in zip(found[1], found[0], strict=True))
    return _row("selection of cells", "positions that differ, with ties", different, 0.0)


def _compare_local_features(device: torch.device) -> Row:
    settings = LocalSettings(precision="float32", scales=[0.5, 1.0], max_features=60)
    regions, images = ImageRegions([Path()] * BATCH, np.full((BATCH, 2), SIDE)), make_images(BATCH, (SIDE, SIDE), 7)
    found = []
    for where in (CPU, device):
        network = fold_for_evaluation(LocalNetwork(make_network()), where, "float32")
        batch = next(copy_ahead(iter([LoadedBatch(images, torch.arange(BATCH))]), where))
        extractor = LocalExtractor(network, settings, where)
        found.append(extract_batch(extractor, batch, Kept(-1.0, 60), regions))
    points = [[{tuple(point) for point in features.points.tolist()} for _, features in side] for side in found]
    missed = [len(one - other) / max(len(one), 1) for one, other in zip(*points, strict=True)]
    return _row("local features", "share of points that differ, float32", max(missed), 0.1)


def _compare_searches(device: torch.device) -> Iterator[Row]:
    base, queries = make_vectors(3000, 64, 1), make_vectors(200, 64, 2)
    base[1000:1100] = base[:100]  # ties
    exclude = np.arange(200) % 150 - 1
    products = (queries.astype(np.float64) @ base.astype(np.float64).T).round(6)
    products[np.flatnonzero(exclude >= 0), exclude[exclude >= 0]] = -np.inf
    expected = np.argsort(-products, axis=1, kind="stable")[:, :50]
    for precision in PRECISIONS:
        found = search_on_device(queries, base, 50, exclude, device, DevicePlan(precision, 1700, 64))
        different = int((found.rows != expected).sum())
        yield _row("exact search", f"ranks that differ from float64, proposals in {precision}", different, 0.0)


def _compare_verification(device: torch.device) -> Iterator[Row]:
    images = make_features(12, 120, 3, shared=40)
    pairs = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2)
    arguments = images, images, pairs, np.full(len(pairs), 15.0), MatchOptions(0.3, 0.97, 300)
    one, other = (verify_in_batches(PairWork(*arguments, where)) for where in (CPU, device))
    yield _row("verification", "matches that differ", int(np.abs(one[0] - other[0]).max()), 0.0)
    yield _row("verification", "inliers that differ", int(np.abs(one[1] - other[1]).max()), 2.0)


def _compare_training(device: torch.device) -> Row:
    images, targets = make_images(BATCH, (SIDE, SIDE), 5), torch.arange(BATCH)
    losses = []
    for where in (CPU, device):
        network = make_network().to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser, given = make_optimiser(network.train(), PHASE), (images.to(where), targets.to(where))
        for _ in range(3):
            found = network(*given)
            optimiser.zero_grad(set_to_none=True)
            (found.head + found.local).backward()
            clip_local_gradients(network)
            optimiser.step()
        losses.append(float(found.head.detach()))
    return _row("training", "loss of the third step, relative, float32", abs(losses[1] / losses[0] - 1), 2e-2)
