"""Reading a configuration as plain values: a TOML file, overrides from the command line, names of earlier versions."""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

log = logging.getLogger("cairn")
MAX_BYTES = 1 << 20  # of a configuration; all settings with their comments have a hundredth of it
MAX_PARTS = 8  # of a key; the deepest setting has four. The time and memory of tomllib grow with their square
LONG_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_PARTS}}}[\w"'-]""", re.ASCII
)
RENAMED = {  # settings of earlier versions, still read; * = any model
    "rerank.rivals": "rerank.baselines",
    "rerank.min_confidence": "rerank.insert.min_confidence",
    "search.factory": "search.index_factory",
    "search.probes": "search.nprobe",
    "verify.max_residual": "verify.inlier_threshold",
    "verify.trials": "verify.max_iterations",
    "verify.min_inliers": "rerank.verify.min_inliers",
    "models.*.trained": "models.*.checkpoint",
}


def read_values(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The values of the file, with `section.key=value` overrides applied on top, under today's names.

    A value of an override is read as TOML where it is one, as plain text otherwise. `run` defaults to the file's name.
    Raises PipelineError for what is no configuration.
    """
    values = _read_toml(path)
    values.setdefault("run", path.stem)
    for override in overrides:
        _apply_override(values, override)
    if _has_nul(values):
        raise PipelineError("a text with a NUL character", path, "remove it: no path and no name holds one")
    for old, new in RENAMED.items():
        _rename(values, old.split("."), new.split("."))
    return values


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PipelineError(f"a configuration of more than {MAX_BYTES} bytes", path, _suggest_configs(path))
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        long = LONG_KEY.search(re.sub(r"(?m)^[ \t]*#.*$", "", text))
        if long is not None:
            raise PipelineError(f"a key of more than {MAX_PARTS} parts: {long[0]!r}", path, "shorten it")
        return tomllib.loads(text)
    except OSError as error:
        raise PipelineError(
            f"the configuration cannot be read: {error.strerror}", path, _suggest_configs(path)
        ) from error
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and nesting without end
        raise PipelineError(f"the configuration is not TOML: {error}", path, "correct that line") from error


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(part) for item in value.items() for part in item)
    return any(map(_has_nul, value)) if isinstance(value, list) else isinstance(value, str) and "\0" in value


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise PipelineError(f"not a setting: {override!r}", "command line", "write section.key=value")
    *sections, last = key.strip().split(".")
    if len(sections) >= MAX_PARTS:
        raise PipelineError(f"a key of {len(sections) + 1} parts", f"command line: {override}", "shorten the key")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise PipelineError(f"{section} is a value, not a section", f"command line: {override}", "shorten the key")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        values[last] = text


def _rename(values: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Move a setting that is given under an earlier name to its present one, and say so."""
    if "*" in old:
        at = old.index("*")
        for name in values.get(old[0], {}) if isinstance(values.get(old[0]), dict) else ():
            _rename(values, [*old[:at], name, *old[at + 1 :]], [*new[:at], name, *new[at + 1 :]])
        return
    section: Any = values
    for key in old[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    if not isinstance(section, dict) or old[-1] not in section:
        return
    value, target = section.pop(old[-1]), values
    for key in new[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise PipelineError(f"{key} is a value, not a section", "configuration", f"write {'.'.join(new)} = …")
    if new[-1] in target:
        raise PipelineError(f"{'.'.join(old)} and {'.'.join(new)} are the same setting", "configuration", "give one")
    target[new[-1]] = value
    log.warning("setting %s is now called %s; the old name is still read", ".".join(old), ".".join(new))


def _suggest_configs(path: Path) -> str:
    found = sorted(str(other) for other in path.parent.glob("*.toml"))
    return f"choose one of {', '.join(found)}" if found else "give the path of a TOML file"
