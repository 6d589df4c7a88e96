"""ONNX graphs of a trained network, for programs without PyTorch.

    global.onnx   images -> descriptors (B, D), L2-normalised: of the image at one scale
    local.onnx    images -> codes (B, 128, h, w), attention (B, 1, h, w): DELG's local features at one scale

images: (B, 3, H, W) float32, RGB from 0 to 255, of any batch, height and width; sides as for the backbone.
"""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import PipelineError
from pipeline.network.backbone import ShallowBackbone
from pipeline.network.delg import LocalBranch
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.network.untrained_branch import UntrainedBranch

GLOBAL, LOCAL = "global.onnx", "local.onnx"
INPUT = "images"
PACKAGES = ("onnx", "onnxruntime")
OPSET = 17
TRACED = (2, 3, 64, 96)  # the shape of the example that the exporter runs; the graph is of any batch, height and width
BATCHES, SIZES = (1, 3), ((64, 96), (96, 64), (128, 160))  # that each graph is checked with
TOLERANCE = 1e-4


class GlobalGraph(nn.Module):
    """Images to L2-normalised descriptors."""

    outputs: ClassVar = {"descriptors": {0: "batch"}}  # with the axes of any length

    def __init__(self, embedding: EmbeddingNetwork):
        super().__init__()
        self.embedding = embedding

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W)  ->  (B, D)."""
        return F.normalize(self.embedding(images))


class LocalGraph(nn.Module):
    """Images to codes, which are not normalised, and attention of every cell of the shallow map."""

    outputs: ClassVar = {name: {0: "batch", 2: "rows", 3: "columns"} for name in ("codes", "attention")}

    def __init__(self, embedding: EmbeddingNetwork, branch: LocalBranch | UntrainedBranch):
        super().__init__()
        self.shallow, self.branch = ShallowBackbone(embedding.backbone), branch

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W)  ->  (B, 128, h, w), (B, 1, h, w)."""
        maps = self.branch(self.shallow(images))
        return maps.codes, maps.attention


def require_packages() -> None:
    """Raise PipelineError where a package that `write_graphs` needs is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        hint = "pip install -e '.[onnx]', or leave the graphs out with --no-onnx"
        raise PipelineError(f"ONNX graphs need packages that are not installed: {', '.join(missing)}", "onnx", hint)


def write_graphs(folder: Path, network: LandmarkNetwork) -> dict[str, float]:
    """Write global.onnx and, where there is a local branch, local.onnx; the greatest error of each by file.

    network: on the CPU, in evaluation mode. The error is that of `measure_error`. Raises PipelineError where it is
    above 1e-4, for R-MAC, whose regions depend on the size of the image, and for transformers.
    """
    if network.embedding.backbone.is_transformer:
        raise PipelineError(
            "the position embeddings of a transformer depend on the size of the image: there is no one graph for all "
            "sizes", folder, "leave the graphs out with --no-onnx",
        )  # fmt: skip
    if network.embedding.pooling == "rmac":
        raise PipelineError(
            "R-MAC pools regions that depend on the size of the image: there is no one graph for all sizes",
            folder, "leave the graphs out with --no-onnx",
        )  # fmt: skip
    graphs: dict[str, GlobalGraph | LocalGraph] = {GLOBAL: GlobalGraph(network.embedding)}
    if network.local is not None:
        graphs[LOCAL] = LocalGraph(network.embedding, network.local)
    errors = {}
    for name, graph in graphs.items():
        _trace(graph.eval(), folder / name)
        errors[name] = measure_error(graph, folder / name)
        if not errors[name] <= TOLERANCE:
            what = f"{name} differs from PyTorch by {errors[name]:.1e}, more than {TOLERANCE:.0e}"
            raise PipelineError(what, folder, "leave the graphs out with --no-onnx, and report this")
    return errors


@torch.no_grad()
def measure_error(graph: GlobalGraph | LocalGraph, path: Path) -> float:
    """The greatest difference of the outputs in onnxruntime from those of PyTorch, for random images of several sizes.

    As a share of the greatest output where that is above 1: codes and attention are of any magnitude.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random, errors = np.random.default_rng(0), []
    for batch, size in itertools.product(BATCHES, SIZES):
        images = random.uniform(0.0, 255.0, (batch, 3, *size)).astype(np.float32)
        wanted = graph(torch.from_numpy(images))
        exact = [one.numpy() for one in (wanted if isinstance(wanted, tuple) else (wanted,))]
        for one, found in zip(exact, session.run(None, {INPUT: images}), strict=True):
            errors.append(np.abs(np.subtract(found, one)).max() / max(1.0, np.abs(one).max()))
    return float(np.max(errors))  # NaN if one is


def _trace(graph: GlobalGraph | LocalGraph, path: Path) -> None:
    """Write the graph by the tracing exporter; it folds every BatchNorm that follows a convolution.

    The exporter by torch.export gives the same values, takes 20 times as long and needs another package.
    """
    images = torch.linspace(0.0, 255.0, int(np.prod(TRACED))).view(TRACED)
    axes = {INPUT: {0: "batch", 2: "height", 3: "width"}} | graph.outputs
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that a size is compared in Python, and that another exporter is the default
        torch.onnx.export(
            graph, (images,), str(path), dynamo=False, opset_version=OPSET,
            input_names=[INPUT], output_names=list(graph.outputs), dynamic_axes=axes,
        )  # fmt: skip
