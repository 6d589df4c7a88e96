"""Rates on a device: training, extraction, local features, verification and exact search, on random data.

Extraction and training are also measured bare: the same forward pass, or step, on batches that lie on the device
already and with nothing around it. The share of the bare rate is what copies, resizing and averaging leave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_twins import make_features, make_images, make_network
from pipeline.device import mixed_precision
from pipeline.features.local_batches import LocalExtractor, LocalNetwork, extract_batch
from pipeline.features.multi_scale import embed_batch, scaled_size
from pipeline.features.pyramid_cells import ImageRegions, Kept
from pipeline.images.device_copies import copy_ahead
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.matching.blocks import full_float32
from pipeline.matching.device_knn import search_on_device
from pipeline.matching.pair_batches import PairWork, verify_in_batches
from pipeline.matching.verification import MatchOptions
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.network.optimiser import clip_local_gradients, make_optimiser
from pipeline.settings import ExtractSettings, LocalSettings, ModelSettings, PhaseSettings

K = 100
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; size, local_size: (width, height) of the images in pixels."""

    backbones: tuple[str, ...]
    size: tuple[int, int]
    batch: int
    classes: int
    batches: int  # that a rate is measured on
    local_size: tuple[int, int]
    local_batch: int
    pairs: int
    keypoints: int
    search: tuple[int, int, int]  # queries, base, dimensions
    sample: int  # queries whose lists are compared with those of float32


FULL = Sizes(
    ("resnet50", "resnet101", "efficientnet_lite0"), (512, 384), 64, 81_313, 40, (1024, 768), 8, 100_000, 1_000,
    (879_334, 1_580_470, 512), 1_000,
)  # fmt: skip
TINY = Sizes(("efficientnet_lite0",), (160, 128), 2, 20, 2, (96, 64), 2, 40, 50, (50, 300, 16), 20)


@dataclass(frozen=True)
class Clock:
    """When the last rate may begin, in seconds of time.perf_counter."""

    deadline: float

    def is_over(self) -> bool:
        """Whether it is too late to begin."""
        return time.perf_counter() > self.deadline


def measure_rates(device: torch.device, sizes: Sizes, clock: Clock) -> Iterator[Row]:
    """A row for each rate, in the order of what matters most; none that would begin after the clock's deadline."""
    works: list[Callable[[], Row]] = [partial(_search, device, sizes)]
    works += [partial(_extract, name, device, sizes) for name in sizes.backbones]
    works += [partial(_train, name, device, sizes) for name in sizes.backbones]
    works += [partial(_extract_local, sizes.backbones[0], device, sizes), partial(_verify, device, sizes)]
    if device.type == "cuda":
        works += [partial(work, sizes.backbones[0], device, sizes, compiled=True) for work in (_extract, _train)]
        works += [partial(_verify, device, sizes, compiled=True)]
    for work in works:
        if clock.is_over():
            return
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            row = work()
        except (ModuleNotFoundError, torch.OutOfMemoryError) as reason:  # the library of a backbone; a small card
            row = _row(f"left out: {str(reason).splitlines()[0]}", "", 0, 1.0)
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        yield row | {"peak GB": peak}


def _row(work: str, unit: str, count: int, seconds: float, **more: Any) -> Row:
    row = {"work": work, "rate": count / seconds, "unit": unit, "seconds": seconds}
    return (
        row | {"share of bare": None, "recall": None} | {name.replace("_", " "): value for name, value in more.items()}
    )


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """How long the work takes until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _host_batches(count: int, size: tuple[int, int], device: torch.device) -> list[LoadedBatch]:
    """A few batches as a loader gives them: page-locked for a GPU."""
    images = [make_images(count, size, seed) for seed in range(3)]
    if device.type == "cuda":
        images = [one.pin_memory() for one in images]
    return [LoadedBatch(one, torch.arange(count)) for one in images]


def _extract(name: str, device: torch.device, sizes: Sizes, compiled: bool = False) -> Row:
    settings = ExtractSettings(scales=[0.70710678, 1.0, 1.41421356])
    model = ModelSettings(backbone=name, weights="none")
    network: nn.Module = fold_for_evaluation(make_network(model).embedding.eval(), device, settings.precision)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        network = torch.compile(network, dynamic=False)  # type: ignore[assignment]
    batches = _host_batches(sizes.batch, sizes.size, device)
    pixels = [
        torch.zeros(sizes.batch, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
        for width, height in (scaled_size(sizes.size, scale) for scale in settings.scales)
    ]

    def bare(count: int) -> None:
        with torch.inference_mode(), mixed_precision(device, settings.precision):
            for _ in range(count):
                for one in pixels:
                    network(one)

    def whole(count: int) -> list[Tensor]:
        copied = copy_ahead(islice(cycle(batches), count), device)
        return [embed_batch(network, batch.images, settings, device) for batch in copied]

    bare(2)  # warm up
    whole(2)
    seconds, bare_seconds = (
        _seconds(device, lambda: whole(sizes.batches)),
        _seconds(device, lambda: bare(sizes.batches)),
    )
    title = f"extraction, {name}, 3 scales of {sizes.size[0]} x {sizes.size[1]}{', compiled' * compiled}"
    return _row(title, "images/s", sizes.batches * sizes.batch, seconds, share_of_bare=bare_seconds / seconds)


def _train(name: str, device: torch.device, sizes: Sizes, compiled: bool = False) -> Row:
    model, phase = ModelSettings(backbone=name, weights="none"), PhaseSettings()
    network = make_network(model, sizes.classes, phase).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimiser, batches = make_optimiser(network, phase), _host_batches(sizes.batch, sizes.size, device)
    targets = torch.arange(sizes.batch, device=device) % sizes.classes
    forward = torch.compile(network) if compiled else network
    resident = next(copy_ahead(iter(batches), device))

    def run(given: Iterator[LoadedBatch]) -> None:
        for batch in given:
            _step(forward, network, optimiser, batch.images, targets)

    run(iter([resident] * 3))  # warm up
    whole = _seconds(device, lambda: run(copy_ahead(islice(cycle(batches), sizes.batches), device)))
    bare = _seconds(device, lambda: run(iter([resident] * sizes.batches)))
    title = f"training, {name}, {sizes.size[0]} x {sizes.size[1]}, batch {sizes.batch}{', compiled' * compiled}"
    return _row(title, "images/s", sizes.batches * sizes.batch, whole, share_of_bare=bare / whole)


def _step(
    forward: Callable[..., Any],
    network: LandmarkNetwork,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
) -> None:
    with mixed_precision(images.device):
        losses = forward(images, targets)
    optimiser.zero_grad(set_to_none=True)
    (losses.head + losses.local).backward()
    clip_local_gradients(network)
    optimiser.step()


def _extract_local(name: str, device: torch.device, sizes: Sizes) -> Row:
    settings = LocalSettings()
    network = fold_for_evaluation(
        LocalNetwork(make_network(ModelSettings(backbone=name, weights="none"))), device, settings.precision
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extractor = LocalExtractor(network, settings, device)
    regions = ImageRegions([Path()] * sizes.local_batch, np.full((sizes.local_batch, 2), sizes.local_size))
    batches, kept = _host_batches(sizes.local_batch, sizes.local_size, device), Kept(-1.0, sizes.keypoints)

    def whole(count: int) -> None:
        for batch in copy_ahead(islice(cycle(batches), count), device):
            extract_batch(extractor, batch, kept, regions)

    whole(2)
    title = f"local features, {name}, {len(settings.scales)} scales of {sizes.local_size[0]} x {sizes.local_size[1]}"
    seconds = _seconds(device, lambda: whole(sizes.batches))
    return _row(title, "images/s", sizes.batches * sizes.local_batch, seconds)


def _verify(device: torch.device, sizes: Sizes, compiled: bool = False) -> Row:
    queries, base = (
        make_features(20, sizes.keypoints, 1, 0),
        make_features(500, sizes.keypoints, 2, sizes.keypoints // 3),
    )
    queries += make_features(20, sizes.keypoints, 3, sizes.keypoints // 3)
    rng = np.random.default_rng(0)
    pairs = np.stack([np.sort(rng.integers(0, 40, sizes.pairs)), rng.integers(0, 500, sizes.pairs)], 1)
    options = MatchOptions(0.5, None, 1000, compiled)

    def whole(count: int) -> Any:
        return verify_in_batches(PairWork(queries, base, pairs[:count], np.full(count, 20.0), options, device))

    whole(min(2_048, sizes.pairs))  # warm up
    title = f"verification, {sizes.keypoints} keypoints, 1,000 iterations{', compiled' * compiled}"
    return _row(title, "pairs/s", sizes.pairs, _seconds(device, lambda: whole(sizes.pairs)))


def _search(device: torch.device, sizes: Sizes) -> Row:
    count, rows, width = sizes.search
    queries, base = (_unit_vectors(number, width, seed, device) for seed, number in enumerate((count, rows)))
    nobody, k = np.full(count, -1), min(K, rows)
    search_on_device(queries[:1000], base[: max(k, rows // 10)], k, nobody[:1000], device)  # warm up
    found: list[Any] = []
    seconds = _seconds(device, lambda: found.append(search_on_device(queries, base, k, nobody, device)))
    sample = np.sort(np.random.default_rng(0).permutation(count)[: sizes.sample])
    exact = _list_by_float32(queries[sample], base, k, device)
    shared = [len(np.intersect1d(*lists)) / k for lists in zip(found[0].rows[sample], exact, strict=True)]
    title = f"exact search, {count:,} x {rows:,} x {width}, k = {k}"
    return _row(title, "queries/s", count, seconds, recall=float(np.mean(shared)))


def _unit_vectors(count: int, width: int, seed: int, device: torch.device) -> np.ndarray:
    """Random unit vectors, made on the device and brought back: a CPU would take minutes."""
    vectors = np.empty((count, width), np.float32)
    generator = torch.Generator(device).manual_seed(seed)
    for start in range(0, count, 1 << 18):
        part = torch.randn(min(1 << 18, count - start), width, generator=generator, device=device)
        vectors[start : start + len(part)] = nn.functional.normalize(part, dim=1).cpu().numpy()
    return vectors


def _list_by_float32(queries: np.ndarray, base: np.ndarray, k: int, device: torch.device) -> np.ndarray:
    """The k greatest products of each query in full float32, by tiles of the base."""
    asked = torch.from_numpy(queries).to(device)
    values, rows = asked.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    with full_float32():
        for start in range(0, len(base), 1 << 17):
            found = asked @ torch.from_numpy(base[start : start + (1 << 17)]).to(device).T
            best, at = found.topk(min(k, found.shape[1]))
            values, rows = torch.cat([values, best], 1), torch.cat([rows, at + start], 1)
            values, order = values.topk(min(k, values.shape[1]))
            rows = rows.gather(1, order)
    return rows.cpu().numpy()
