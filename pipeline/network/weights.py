"""Weights on disk: read as data only, renamed where published names differ, and refused where they do not fit."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickletools import genops
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.shortages import explain_shortage
from pipeline.weights_folder import list_weights_files

LONGEST_TEXT = 10_000  # characters of a name or a text in a file of torch.save
OLD_PICKLES = 5  # a number, a version, the machine, the value, and the names of its tensors
WRAPPINGS = ("state_dict", "model", "model_state", "teacher")  # around the tensors, by training frameworks
OTHER_BACKBONE = "set the backbone that the weights were made with"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, of a state dict saved by torch, or of a folder from the Hugging Face Hub.

    Only tensors are unpickled. What training frameworks add is removed: "state_dict" or "model" around the tensors,
    "module." before their names. Raises PipelineError for what is missing and for what cannot be read this way.
    """
    found: dict[str, Tensor] = {}
    for file in list_weights_files(path):
        if not file.is_file():
            what = "there is no such weights file" if not path.is_dir() else "no file of weights is in this folder"
            raise PipelineError(what, path, "put the file there, or set weights = 'imagenet'")
        found |= _read_file(file)
    return found


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else load_plain_tensors(path)
        for wrapping in WRAPPINGS:
            state = state[wrapping] if isinstance(state.get(wrapping), Mapping) else state
        return {str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # each format raises its own classes
        hint = "save the plain state dict, best as .safetensors"
        refused = PipelineError(f"not a weights file that can be trusted: {first_line(error)}", path, hint)
        raise explain_shortage(error, path) or refused from error  # too little memory is no damage


def load_plain_tensors(path: Path) -> Any:
    """What torch.save wrote, read as data, on the CPU.

    Raises ValueError for a file that expands when it is read (torch.save compresses nothing, so it is a bomb), and for
    long texts in it: torch seeks words in those that it refuses, in time that grows with the square of their length.
    The other errors are those of torch.load.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            expanded = sum(entry.file_size for entry in file.infolist())
            if expanded > path.stat().st_size:
                raise ValueError(f"{path.stat().st_size} bytes would expand to {expanded}")
            for entry in file.infolist():
                if entry.filename.endswith(".pkl"):
                    _refuse_long_texts(io.BytesIO(file.read(entry)))
    else:
        with open(path, "rb") as stream:  # the format before torch 1.6: several pickles, then the tensors
            for _ in range(OLD_PICKLES):
                _refuse_long_texts(stream)
    return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_long_texts(stream: BinaryIO) -> None:
    for opcode, argument, _ in genops(stream):
        if isinstance(argument, str) and len(argument) > LONGEST_TEXT:
            raise ValueError(f"a text of {len(argument)} characters in the operation {opcode.name}")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class when it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_matching(
    module: nn.Module, state: Mapping[str, Tensor], name: str, where: str, hint: str = OTHER_BACKBONE
) -> None:
    """Load `state` into the module. Extra tensors (a classifier) are ignored.

    Raises PipelineError for a missing tensor, another shape or kind of number, and for values that are not finite.
    name: of the architecture; where: of the file; hint: what to do about weights of another architecture.
    """
    wanted = module.state_dict()
    for key, value in wanted.items():
        if key.endswith("num_batches_tracked"):
            continue
        if key not in state or state[key].shape != value.shape:
            found = f"the file has {tuple(state[key].shape)}" if key in state else _describe_others(state)
            what = f"weights of another architecture: {name} wants {key} of shape {tuple(value.shape)}, {found}"
            raise PipelineError(what, where, hint)
        _refuse_broken(key, state[key], value, where)
    module.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def suggest_backbone(path: Path) -> str:
    """What to do about weights that do not fit, in words; by the description that the Hub puts beside them, if any."""
    folder = path if path.is_dir() else path.parent
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if isinstance(about.get("architecture"), str):
            return f"config.json beside the weights says backbone = 'timm/{about['architecture']}'"
        if isinstance(about.get("model_type"), str):
            return f"this is {about['model_type']} for another library: take the weights that timm publishes of it"
    except (OSError, ValueError, AttributeError):
        pass
    return OTHER_BACKBONE


def _describe_others(state: Mapping[str, Tensor]) -> str:
    """That a tensor is missing, with an example of what there is instead."""
    first = next(iter(state), None)
    return "the file has none" + (f", but {first} of shape {tuple(state[first].shape)}" if first is not None else "")


def _refuse_broken(key: str, found: Tensor, wanted: Tensor, where: str) -> None:
    """Raise PipelineError for whole numbers where fractions are wanted, and for values that are not finite."""
    hint = "fetch or make these weights again"
    if found.layout != torch.strided or found.is_floating_point() != wanted.is_floating_point():
        raise PipelineError(f"{key} is of the type {found.dtype}, {wanted.dtype} is wanted", where, hint)
    if wanted.is_floating_point() and not found.float().isfinite().all():  # 8-bit floats have no isfinite
        raise PipelineError(f"{key} holds values that are not finite", where, hint)
