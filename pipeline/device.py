"""The device that a stage computes on, and the precision of the backbone there."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from pipeline import hardware
from pipeline.distributed import local_rank
from pipeline.errors import PipelineError


def choose_device(setting: str = "auto") -> torch.device:
    """The device for the setting runtime.device: auto is CUDA where there is one; of several ranks each has its own.

    Raises PipelineError where there is none.
    """
    try:
        device = torch.device(hardware.resolve_device() if setting == "auto" else setting)
        if device.type == "cuda" and device.index is None and local_rank() is not None:
            device = torch.device("cuda", local_rank())
            torch.cuda.set_device(device)  # also where a library allocates without being told a device
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        hint = "set cpu" if setting == "auto" else "set auto"
        raise PipelineError(f"there is no device {setting!r} here: {reason}", "runtime.device", hint) from error
    return device


def mixed_precision(device: torch.device, precision: str = "auto") -> AbstractContextManager:
    """A context in which the backbone computes in the given precision: float32, bfloat16 or auto."""
    half = hardware.resolve_precision(device.type, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
