"""The model card of an exported network: README.md as the Hugging Face Hub reads it, with YAML before the Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from pipeline.report.tables import Table, tabulate_scores

TEMPLATES = Path(__file__).resolve().parent / "templates"
ACTIVE = re.compile(r"([\\`*_\[\]<>&|~$])")  # what Markdown, tables, HTML and formulas begin with
LEFT_OUT = {"checkpoint_steps", "precision"}  # settings of a phase: no weight depends on them, or only its last bits


@dataclass(frozen=True)
class Origin:
    """What is known of where a network comes from; all of it may be empty.

    run, model: names. source: of the data. images: the numbers of images, rejected files and landmarks of each split.
    clean: how many train images the clean list kept and dropped. phases: the settings of each phase of training, by
    name. sizes: what the run resized images to, in words. scales: by which these sizes were multiplied. mirrored:
    whether mirror images took part. models: whose descriptors the run joined. whitened: whether it whitened them.
    metrics: as in metrics.json. unmeasured: why there are none, in words.
    """

    run: str = ""
    model: str = ""
    source: str = ""
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    clean: Mapping[str, int] = field(default_factory=dict)
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sizes: str = ""
    scales: Sequence[float] = ()
    mirrored: bool = False
    models: Sequence[str] = ()
    whitened: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)
    unmeasured: str = ""


def render_model_card(config: Mapping[str, Any], origin: Origin, errors: Mapping[str, float]) -> str:
    """The card of a network. config: its config.json. errors: of each ONNX graph, by file.

    Names and values of the run are escaped: they can be no Markdown, no HTML and no table. In the YAML there are none.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=False, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["plain"] = escape_markdown
    text = environment.get_template("model_card.md").render(
        config=config,
        origin=origin,
        errors=errors,
        parts=_tabulate_parts(config),
        data=_tabulate_images(origin.images),
        training=_tabulate_phases(origin.phases),
        scores=tabulate_scores(origin.metrics),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def escape_markdown(value: object) -> str:
    """The value as plain text on one line of Markdown, also inside a table; what is no text as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    printable = "".join(one if one.isprintable() else " " for one in text)
    return ACTIVE.sub(r"\\\1", " ".join(printable.split()))


def _tabulate_parts(config: Mapping[str, Any]) -> Table:
    architecture, landmarks = config["architecture"], len(config["landmark_ids"])
    rows = [
        ["backbone", architecture["backbone"]],
        ["pooling", architecture["pooling"]],
        ["global descriptor", f"{architecture['dims']} numbers"],
        ["local branch", "a code of 128 numbers and attention per cell" if architecture["local"] else "none"],
        ["head", f"{config['head']['kind']}, {landmarks} landmarks: landmark_ids in config.json"],
    ]
    return Table("", "", ("part", "what"), rows)


def _tabulate_images(images: Mapping[str, Mapping[str, int]]) -> Table:
    counted = ("photographs", "rejected", "landmarks")
    rows = [[split, *(str(counts.get(name, "")) for name in counted)] for split, counts in images.items()]
    return Table("", "", ("split", "images", "rejected files", "landmarks"), rows)


def _tabulate_phases(phases: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each setting: its name and its value in each phase, empty where a phase lacks it."""
    names = dict.fromkeys(name for settings in phases.values() for name in settings if name not in LEFT_OUT)
    rows = [[name, *(_format(settings.get(name, "")) for settings in phases.values())] for name in names]
    return Table("", "", ("setting", *phases), rows)


def _format(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
