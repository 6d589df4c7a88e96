"""The device that a stage computes on, and the precision of the backbone there."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from pipeline.errors import PipelineError


def choose_device(setting: str = "auto") -> torch.device:
    """The device for the setting runtime.device: auto is CUDA where there is one. Raises PipelineError."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(setting)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise PipelineError(f"there is no device {setting!r} here: {reason}", "runtime.device", "set auto") from error
    return device


def mixed_precision(device: torch.device, precision: str = "auto") -> AbstractContextManager:
    """A context in which the backbone computes in the given precision: float32, bfloat16 or auto.

    auto is bfloat16 where the hardware multiplies it, float32 elsewhere: a CPU without such units emulates it slowly.
    """
    half = resolve_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def resolve_precision(device: torch.device, precision: str = "auto") -> str:
    """The precision that a setting means on this device: "float32" or "bfloat16"."""
    if precision != "auto":
        return precision
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return False
