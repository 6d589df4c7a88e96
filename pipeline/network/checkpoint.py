"""Networks and training states on disk. Files are written atomically.

A saved network is `weights.safetensors` and `network.json`: its architecture, its head, the landmarks of its classes
and the normalisation of its input. An exported one is the same as `model.safetensors` and `config.json`, the names of
the Hugging Face Hub, and can be used in its place. A training state is one file by torch.save, loaded with
weights_only, so that no code runs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from pipeline.artifacts import atomic_file
from pipeline.errors import PipelineError
from pipeline.network.backbone import Backbone
from pipeline.network.backbones.efficientnet_lite import LITE, translate_lite
from pipeline.network.delg import LocalBranch
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.heads import Head, build_head
from pipeline.network.landmark_network import LandmarkNetwork
from pipeline.network.untrained_branch import UntrainedBranch
from pipeline.network.weights import first_line, load_matching, load_plain_tensors, read_weights
from pipeline.settings import ModelSettings
from pipeline.shortages import explain_shortage

FORMAT = 3  # 1 had no local branch, 2 only the heads arcface and cosface
WEIGHTS, DESCRIPTION = "weights.safetensors", "network.json"
HUB_WEIGHTS, HUB_DESCRIPTION = "model.safetensors", "config.json"  # of an exported network
MODEL_TYPE = "cairn_landmark_network"


def save_network(folder: Path, network: LandmarkNetwork) -> None:
    """Write the network to `folder`. The same network gives the same bytes; the description is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_file(folder / WEIGHTS) as part:
        safetensors.torch.save_file(tensors, part)
    with atomic_file(folder / DESCRIPTION) as part:
        part.write_text(json.dumps(_make_description(network), indent=1) + "\n")


def load_network(folder: Path, expected: ModelSettings | None = None) -> LandmarkNetwork:
    """The network in `folder`, saved or exported, on the CPU, in evaluation mode.

    expected: the settings whose architecture the network must have. Raises PipelineError, with both values: another
    architecture, another number of classes in the weights than in the description, another format, a missing network.
    """
    weights, description = _find_files(folder)
    about = _read_description(description)
    architecture = about["architecture"]
    if expected is not None:
        _refuse_other(architecture, expected, folder)
    try:
        _refuse_more_than_the_file_holds(about, weights)
        network = _build_network(about)
    except (AttributeError, LookupError, TypeError, ArithmeticError, ValueError, RuntimeError) as error:
        damaged = _damaged_description(error, description)
        raise explain_shortage(error, folder) or damaged from error  # too little memory is no damage
    state = read_weights(weights)
    if architecture["backbone"] in LITE:  # saved before timm made these networks
        state = translate_lite(state, network.state_dict(), "embedding.backbone.body.network.")
    load_matching(network, state, architecture["backbone"], str(weights))
    return network.eval()


def copy_checkpoint(source: Path, folder: Path, expected: ModelSettings) -> None:
    """Copy the files of the network in `source` to `folder`. Raises PipelineError as `load_network` does."""
    load_network(source, expected)
    for given, name in zip(_find_files(source), (WEIGHTS, DESCRIPTION), strict=True):
        shutil.copyfile(given, folder / name)


def export_network(source: Path, folder: Path) -> LandmarkNetwork:
    """Write model.safetensors and config.json of the network in `source` to `folder`; the network.

    The weights are the same bytes. The description gets what other programs need to know beside it: the convention of
    the input, strides and channels of the maps. Raises PipelineError as `load_network` does.
    """
    network = load_network(source)
    shutil.copyfile(_find_files(source)[0], folder / HUB_WEIGHTS)
    config = {"model_type": MODEL_TYPE} | _make_description(network)
    config["maps"] = _describe_maps(network.embedding.backbone)
    config["input"] |= {
        "images": ["batch", 3, "height", "width"],
        "channels": "RGB",
        "range": [0, 255],
        "normalised_by": "the network, with this mean and std",
        "min_side_px": network.embedding.backbone.min_side_px,
        "side_multiple_px": network.embedding.backbone.side_multiple_px,
    }
    (folder / HUB_DESCRIPTION).write_text(json.dumps(config, indent=1) + "\n")
    return network


def save_training_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts; it replaces the old file when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part, open(part, "wb") as file:  # of a path, torch would hide why it cannot be written
        torch.save({"format": FORMAT, **state}, file)


def load_training_state(path: Path) -> dict[str, Any]:
    """The state, its tensors on the CPU. Raises PipelineError for another format and for anything but plain data."""
    try:
        state = load_plain_tensors(path)
    except Exception as error:  # torch, zipfile and the unpickler each raise their own classes
        hint = "delete the file to train from the start"
        damaged = PipelineError(f"not a training state that can be trusted: {first_line(error)}", path, hint)
        raise explain_shortage(error, path) or damaged from error  # too little memory is no damage
    _refuse_other_format(state.get("format") if isinstance(state, dict) else None, path)
    return state


def _make_description(network: LandmarkNetwork) -> dict[str, Any]:
    embedding = network.embedding
    backbone = embedding.backbone
    return {
        "format": FORMAT,
        "architecture": {
            "backbone": backbone.name,
            "pooling": embedding.pooling,
            "dims": embedding.dims if embedding.projects else 0,
            "local": network.local is not None,
        }
        | ({"class_token": True} if backbone.class_token else {}),
        "input": {"mean": backbone.mean.flatten().tolist(), "std": backbone.std.flatten().tolist()},
        "head": network.head.settings,
        "landmark_ids": network.landmark_ids.tolist(),
    }


def _describe_maps(backbone: Backbone) -> dict[str, Any]:
    """Stride and channels of both maps; of the shallow one also what places its local features."""
    maps: dict[str, Any] = {
        name: {"stride": stride, "channels": backbone.channels[name]} for name, stride in backbone.strides.items()
    }
    maps["shallow"] |= {"cell_centre_px": backbone.cells.centre_px, "signed": backbone.signed["shallow"]}
    return maps


def _find_files(folder: Path) -> tuple[Path, Path]:
    """The weights and the description of the network in a folder: exported files where there are no saved ones."""
    exported = (folder / HUB_DESCRIPTION).is_file() and not (folder / DESCRIPTION).exists()
    names = (HUB_WEIGHTS, HUB_DESCRIPTION) if exported else (WEIGHTS, DESCRIPTION)
    return folder / names[0], folder / names[1]


def _build_network(about: dict[str, Any]) -> LandmarkNetwork:
    """The network of a description, with random weights."""
    architecture = about["architecture"]
    backbone = Backbone(architecture["backbone"], architecture.get("class_token", False))
    embedding = EmbeddingNetwork(backbone, architecture["dims"], architecture["pooling"])
    landmark_ids = np.asarray(about["landmark_ids"], dtype=np.int64)
    if landmark_ids.ndim != 1:
        raise ValueError(f"landmarks of the shape {landmark_ids.shape}")
    head = _build_head(about["head"], embedding.dims, len(landmark_ids))
    return LandmarkNetwork(embedding, head, landmark_ids, _build_branch(backbone, architecture))


def _build_branch(backbone: Backbone, architecture: dict[str, Any]) -> LocalBranch | UntrainedBranch | None:
    if not architecture["local"]:
        return None
    if not architecture["dims"]:
        return UntrainedBranch(backbone.channels["shallow"])
    return LocalBranch(backbone.channels["shallow"], backbone.signed["shallow"])


def _refuse_more_than_the_file_holds(about: dict[str, Any], weights: Path) -> None:
    """Raise ValueError for a description whose head alone would fill the memory and not the file of weights."""
    values = about["architecture"]["dims"] * len(about["landmark_ids"]) * about["head"].get("sub_centres", 1)
    if weights.is_file() and 4 * values > weights.stat().st_size:
        raise ValueError(f"a head of {values} weights, in a file of {weights.stat().st_size} bytes")


def _build_head(settings: dict[str, Any], dims: int, classes: int) -> Head:
    """The head of a description; its weights, and margins per class if it has them, are loaded later."""
    margins = {"margin": torch.zeros(classes)} if settings.get("margin", 0.0) is None else {}
    return build_head(dims=dims, classes=classes, **settings | margins)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text())
    except FileNotFoundError:
        raise PipelineError("there is no network", path, "run the training stage that writes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged_description(error, path) from None
    _refuse_other_format(about.get("format") if isinstance(about, dict) else None, path)
    if not isinstance(about.get("architecture"), dict):
        raise _damaged_description(ValueError("no architecture"), path)
    return about


def _damaged_description(error: Exception, path: Path) -> PipelineError:
    what = f"damaged description of a network: {first_line(error)}"
    return PipelineError(what, path, "train again with --force")


def _refuse_other_format(found: object, path: Path) -> None:
    if not isinstance(found, int):
        hint = "name a network of this pipeline, or delete this one and train again"
        raise PipelineError("not a file of this pipeline: it has no format number", path, hint)
    if found < FORMAT:
        raise PipelineError(
            f"an older version wrote this: format {found}, this one reads {FORMAT}", path, "train again"
        )
    if found > FORMAT:
        raise PipelineError(
            f"written by a newer version: format {found}, this one reads {FORMAT}", path,
            "update the pipeline, or train again with this version",
        )  # fmt: skip


def _refuse_other(found: dict[str, Any], expected: ModelSettings, folder: Path) -> None:
    for name, value in expected.architecture_settings.items():
        if found.get(name) != value:
            raise PipelineError(
                f"a network of another architecture: {name} is {found.get(name)}, the settings say {value}", folder,
                f"set models.<name>.{name} = {json.dumps(found.get(name))}, or train this model",
            )  # fmt: skip
