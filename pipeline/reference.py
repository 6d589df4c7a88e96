"""The pages docs/settings.md and docs/steps.md, made from the schema, so that nothing is written twice.

    python -m pipeline.reference            print both
    python -m pipeline.reference --write    refresh the files

A test fails when the files differ from what this makes.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.config_file import RENAMED
from pipeline.console import run_guarded
from pipeline.ranking.registry import STEPS
from pipeline.ranking.step import Step
from pipeline.schema import first_paragraph, list_sections, list_settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
INTRODUCTION = "Made from the schema by `python -m pipeline.reference --write`: edit the comments there, not this page."


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.reference", description="Settings and ranking steps.")
    parser.add_argument("--write", action="store_true", help="refresh docs/settings.md and docs/steps.md")
    given = parser.parse_args(arguments)

    def work() -> None:
        for name, text in format_pages().items():
            if given.write:
                (DOCS / name).write_text(text, encoding="utf-8")
            else:
                print(text)

    return run_guarded(work)


def format_pages() -> dict[str, str]:
    """The text of each page by its file name."""
    return {"settings.md": format_settings(), "steps.md": format_steps()}


def format_settings() -> str:
    """Markdown with one table per section, and the earlier names that are still read."""
    lines = ["# Settings", "", INTRODUCTION, ""]
    lines += [
        "A setting is given in a TOML file or on the command line as `section.key=value`, such as `rerank.top_k=50`. "
        "Settings that do not exist, and values out of range, are errors. Ranges are in the notation of intervals: "
        "`[0, 1)` includes 0 and excludes 1; `32 n` stands for multiples of 32.",
        "",
    ]
    for section in list_sections(Config):
        if section.settings:
            title = " and ".join(f"[{name}]" for name in section.names if name) or "Top level"
            lines += [f"## {title}", "", section.summary, ""]
            header = ("setting", "type and range", "default", "meaning")
            lines += _format_table(
                header, [(f"`{row.name}`", row.type, f"`{row.default}`", row.meaning) for row in section.settings]
            )
    lines += ["## Earlier names", "", "They are still read, with a warning that says the new name.", ""]
    return "\n".join(
        lines + _format_table(("earlier", "now"), [(f"`{old}`", f"`{new}`") for old, new in RENAMED.items()])
    )


def format_steps() -> str:
    """Markdown with the table of ranking steps, in the order of the registry, and the kinds of evidence they need."""
    others = [f"`{name}`" for name, step in STEPS.items() if step.adds_other_scores]
    reading = [f"`{name}`" for name, step in STEPS.items() if step.reads_similarities]
    rules = (
        f"A recipe starts with `knn`. {_join(reading)} read the similarities of the lists, so they come before "
        f"{_join(others)}, which add images with other scores."
    )
    header = ("step", "what it does", "evidence it needs", "settings in `[rerank.<step>]`", "module")
    kinds = dict.fromkeys(kind for step in STEPS.values() for kind in (*_needs(step), *_optional_needs(step)))
    evidence = [(f"`{kind.__name__}`", first_paragraph(kind)) for kind in kinds]
    lines = ["# Ranking steps", "", INTRODUCTION, "", *textwrap.wrap(rules, 118), ""]
    lines += _format_table(header, [_format_step(step) for step in STEPS.values()])
    lines += ["## Evidence", "", "Stage 10 reads only the kinds that the steps of a recipe need.", ""]
    return "\n".join(lines + _format_table(("evidence", "what it is"), evidence))


def _format_step(step: Step) -> tuple[str, ...]:
    needs = [f"`{kind.__name__}`" for kind in _needs(step)]
    needs += [f"`{kind.__name__}` with `{name}`" for kind, name in _optional_needs(step).items()]
    settings = [f"`{row.name}` = {row.default}" for row in list_settings(step.settings)]
    module = inspect.getmodule(step.apply)
    assert module is not None
    path = module.__name__.removeprefix("pipeline.").replace(".", "/")
    return f"`{step.name}`", step.summary, ", ".join(needs), ", ".join(settings), f"`{path}.py`"


def _needs(step: Step) -> tuple[type, ...]:
    return step.needs(step.settings())


def _optional_needs(step: Step) -> dict[type, str]:
    """The kinds of evidence that a step needs only when a switch is on, with the name of the switch."""
    switches = [name for name, field in step.settings.model_fields.items() if field.annotation is bool]
    return {
        kind: name
        for name in switches
        for kind in step.needs(step.settings(**{name: True}))
        if kind not in _needs(step)
    }


def _format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table and an empty one."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _join(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


if __name__ == "__main__":
    sys.exit(main())
