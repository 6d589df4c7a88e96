"""Cache keys: what an artifact was made from, and what differs between two of them, in words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

DECIDED_BY_HARDWARE = (
    "device",
    "precision",
)  # settings whose "auto" earlier versions recorded as that word, or not at all


@dataclass(frozen=True)
class CacheKey:
    """What an artifact is made from. The same key gives the same bytes.

    settings: plain JSON values; inputs: name -> sha256 of the content; code: file -> digest (see code_digest.py).
    """

    stage: str
    version: int
    settings: dict[str, Any]
    inputs: dict[str, str]
    code: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self), sort_keys=True))


def compare_keys(then: dict[str, Any], now: dict[str, Any], trust_code: bool = False) -> list[str]:
    """What differs between two cache keys, in words.

    A key of a version that did not record its code is compared by what it has: only `trust_code` accepts it at all.
    """
    is_old = "code" not in then
    reasons = []
    if then["stage"] != now["stage"]:
        reasons.append(f"it is of stage {then['stage']}")
    if then["version"] != now["version"]:
        reasons.append(f"the stage's code changed (version {then['version']} -> {now['version']})")
    if not trust_code:
        reasons += ["made before its code was recorded (--trust-code accepts it)"] if is_old else []
        changed = _differing(then["code"], now["code"]) if not is_old else []
        reasons += [f"code of {name} changed" for name in changed]
    old, new = flatten_settings(then["settings"]), flatten_settings(now["settings"])
    for name in _differing(old, new):
        if not (is_old and name.rpartition(".")[2] in DECIDED_BY_HARDWARE and old.get(name, "auto") == "auto"):
            reasons.append(f"setting {name} changed ({_show(old, name)} -> {_show(new, name)})")
    changed = _differing(then["inputs"], now["inputs"])
    return reasons + [f"input {name} changed" for name in changed if name in then["inputs"] or not is_old]


def _differing(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]


def flatten_settings(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as section.key -> value."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten_settings(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _show(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "unset"
