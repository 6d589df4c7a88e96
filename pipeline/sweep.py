"""Variants of a run: one setting or several in all combinations of some values, each a run of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.errors import PipelineError

MOST = 64  # variants of one command
CLOSING = {"]": "[", "}": "{"}


class Variant(NamedTuple):
    """A run of a sweep: its name, and its settings as overrides of the command line."""

    name: str
    settings: list[str]


def list_variants(run: str, sweeps: Sequence[str]) -> list[Variant]:
    """Every combination of the values of `key=v1,v2,…`, the first key changing slowest.

    A comma in brackets or quotes separates nothing: extract.scales=[1.0],[0.7,1.0] has two values. Raises PipelineError
    for what is no such list, for a key given twice and for variants that would get the same name.
    """
    keys, values = [], []
    for sweep in sweeps:
        key, equals, text = sweep.partition("=")
        found = split_values(text)
        if not equals or not key or "" in found:
            raise PipelineError(f"not a setting with values: {sweep!r}", "--sweep", "write section.key=value,value")
        if key in keys or key == "run":
            raise PipelineError(f"{key} cannot be swept{' twice' if key in keys else ''}", "--sweep", "leave it out")
        keys.append(key)
        values.append(found)
    variants = []
    for chosen in itertools.product(*values):
        pairs = list(zip(keys, chosen, strict=True))
        name = "-".join([run, *(_make_name(key.rpartition(".")[2], value) for key, value in pairs)])
        variants.append(Variant(name, [f"{key}={value}" for key, value in pairs]))
    names = [variant.name for variant in variants]
    if len(variants) > MOST or len(set(names)) < len(names):
        what = f"{len(variants)} variants" if len(variants) > MOST else "two variants would have the same name"
        raise PipelineError(what, "--sweep", f"at most {MOST}, with values that differ in letters or digits")
    return variants


def split_values(text: str) -> list[str]:
    """The values between commas that are neither in brackets nor in quotes, without spaces around them."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in CLOSING:
            depth -= 1
        if character == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def _make_name(key: str, value: str) -> str:
    """The part of a run's name that tells a value."""
    return f"{key}_{re.sub('[^A-Za-z0-9_]+', '_', value.replace('.', 'p').replace('-', 'm')).strip('_')[:40]}"
