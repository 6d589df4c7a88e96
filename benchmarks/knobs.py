"""Settings to tune, what to try of each, and the search for the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.ranking.evidence import LandmarkVotes
from pipeline.ranking.registry import STEPS
from pipeline.ranking.voting import VOTES_TRIED, WEIGHT_POWERS_TRIED

Values = dict[str, Any]  # "section.key" -> value
DECIMALS = 9  # scores that agree to so many are ties


class Knob(NamedTuple):
    """A setting to tune: its key, what to try beside the configured value, and the steps that read it."""

    key: str
    values: Sequence[float]
    steps: Sequence[str] = ()


VOTING = [name for name, step in STEPS.items() if LandmarkVotes in step.needs(step.settings())] + ["dba"]  # supervised
RETRIEVAL = [
    Knob("vote.votes", VOTES_TRIED, VOTING),
    Knob("vote.sharpness", WEIGHT_POWERS_TRIED, VOTING),
    *(
        Knob(f"rerank.{name}.{key}", values, [name])
        for name, step in STEPS.items()
        for key, values in step.tunable.items()
    ),
]
RECOGNITION = [
    Knob("recognition.votes", VOTES_TRIED),
    Knob("recognition.power", (1.0, 2.0, 4.0, 8.0, 12.0)),
    Knob("recognition.head_power", (0.0, 1.0, 2.0, 4.0, 8.0, 12.0)),
    Knob("recognition.max_inliers", (0, 20, 35, 50, 70, 100, 150)),
    Knob("recognition.ban_above", (0, 5, 10, 20, 30, 50, 100)),
]


def tune(start: Values, choices: Mapping[str, Iterable[Any]], score: Callable[[Values], float]) -> tuple[Values, int]:
    """The best values that changing one at a time leads to from `start`, and how many settings were tried.

    Rounds over all keys until one changes nothing; `start` is among the choices of each. Ties go to the value nearer
    to that of `start`, then to the smaller: what does not help is not changed. No score is asked for twice.
    """
    known: dict[tuple[Any, ...], float] = {}

    def known_score(values: Values) -> float:
        key = tuple(values[name] for name in start)
        if key not in known:
            known[key] = round(score(values), DECIMALS)
        return known[key]

    best, before = dict(start), None
    while best != before:
        before = dict(best)
        for key, others in choices.items():
            first = start[key]
            nearest = sorted({first, *others}, key=lambda value: (abs(value - first), value))
            best = max(({**best, key: value} for value in nearest), key=known_score)  # the first of equals
    return best, len(known)


def list_choices(config: Config, knobs: Sequence[Knob], steps: Sequence[str] = ()) -> dict[str, list[Any]]:
    """What to try of each setting that one of the steps reads (or all do); values that the configuration refuses, such
    as more votes than there are neighbours, are left out."""
    wanted = [knob for knob in knobs if not knob.steps or set(knob.steps) & set(steps)]
    return {knob.key: [value for value in knob.values if _is_possible(config, knob.key, value)] for knob in wanted}


def read_values(config: Config, keys: Iterable[str]) -> Values:
    """The configured values."""
    return {key: reduce(getattr, key.split("."), config) for key in keys}


def with_values(config: Config, values: Values) -> Config:
    """The configuration with other values. Raises ValidationError where it refuses one."""
    changed = config.model_dump()
    for key, value in values.items():
        *sections, last = key.split(".")
        reduce(dict.__getitem__, sections, changed)[last] = value
    return Config.model_validate(changed)


def _is_possible(config: Config, key: str, value: Any) -> bool:
    try:
        with_values(config, {key: value})
    except ValidationError:
        return False
    return True
