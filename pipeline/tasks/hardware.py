"""What the hardware decides of a task's bytes: the part of the cache key that no setting fixes.

On a CPU batches and shards decide no bit: every image is computed by itself. On a GPU they choose the kernels.
"""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.hardware import resolve_device, resolve_precision
from pipeline.settings import ExtractSettings, LocalSettings, ModelSettings, PhaseSettings, Settings

LATER_SETTINGS = {  # of a phase, with the values that have no effect
    "augment_copies": 0, "accumulate": 1, "trained_blocks": 0, "layer_decay": 1.0, "gradient_checkpointing": False,
    "average_decay": 0.0, "keep": "last",
}  # fmt: skip


def device_key(config: Config) -> dict[str, str]:
    """The type of device that runtime.device means here."""
    return {"device": resolve_device(config.runtime.device)}


def precision_key(config: Config, settings: PhaseSettings | ExtractSettings | LocalSettings) -> dict[str, Any]:
    """The precision that these settings mean here, and that networks are compiled, where they are."""
    precision = resolve_precision(resolve_device(config.runtime.device), settings.precision)
    return {"precision": precision} | ({"compile": True} if config.runtime.compile else {})


def training_key(config: Config, model: ModelSettings, phase: str, unused: set[str]) -> dict[str, Any]:
    """The settings that affect a training of one phase, without the `unused` ones of the model."""
    unused = unused | {"averaged_trainings"} | (set() if model.class_token else {"class_token"})
    values = model.model_dump(exclude=unused)
    for name, without_effect in LATER_SETTINGS.items():
        if values[phase][name] == without_effect:  # a later setting: what was trained before it stays fresh
            del values[phase][name]
    values[phase] |= precision_key(config, getattr(model, phase))
    return {"model": values, "seed": config.seed} | device_key(config)


def batch_key(config: Config, settings: Settings, *names: str) -> dict[str, Any]:
    """Those of the settings that say how the work is cut into batches and shards, where that decides bits."""
    return {} if resolve_device(config.runtime.device) == "cpu" else settings.model_dump(include=set(names))
