"""The pages docs/settings.md and docs/steps.md, made from the schema, so that nothing is written twice.

    python -m pipeline.reference            print both
    python -m pipeline.reference --write    refresh the files

The meaning of a setting is the comment beside its field, or above it; that of a section, the docstring of its class.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import json
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.config import RENAMED, Config
from pipeline.console import run_guarded
from pipeline.ranking.registry import STEPS
from pipeline.ranking.step import Step
from pipeline.settings import Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
INTRODUCTION = "Made from the schema by `python -m pipeline.reference --write`: edit the comments there, not this page."


class Setting(NamedTuple):
    """A setting: its name in the section, its type and range in words, its default as in TOML, and its meaning."""

    name: str
    type: str
    default: str
    meaning: str


class Section(NamedTuple):
    """The sections of the configuration that share a class ("" = the top level), what they are for, their settings."""

    names: tuple[str, ...]
    summary: str
    settings: list[Setting]


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


# ---- Settings -------------------------------------------------------------------------------------------------------


def list_sections(model: type[Settings] = Config) -> list[Section]:
    """All sections with their settings, in the order of the schema."""
    names: dict[type[Settings], list[str]] = {}
    for name, section in _walk(model):
        names.setdefault(section, []).append(name)
    return [
        Section(tuple(names[section]), _first_paragraph(section), list(_list_settings(section))) for section in names
    ]


def format_settings() -> str:
    """Markdown with one table per section, and the earlier names that are still read."""
    lines = ["# Settings", "", INTRODUCTION, ""]
    lines += [
        "A setting is given in a TOML file or on the command line as `section.key=value`, such as `rerank.top_k=50`. "
        "Settings that do not exist, and values out of range, are errors. Ranges are in the notation of intervals: "
        "`[0, 1)` includes 0 and excludes 1; `32 n` stands for multiples of 32.",
        "",
    ]
    for section in list_sections():
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


def _walk(model: type[Settings], name: str = "") -> Iterator[tuple[str, type[Settings]]]:
    """Every section below a model with its name, itself first."""
    yield name, model
    for key, field in model.model_fields.items():
        path = f"{name}.{key}".lstrip(".")
        section = _find_section(field)
        if section is not None:
            yield from _walk(section, path if section is field.annotation else f"{path}.<name>")


def _find_section(field: FieldInfo) -> type[Settings] | None:
    """The class of a field that is a section, or a table of sections."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Settings):
            return kind
    return None


def _list_settings(model: type[Settings]) -> Iterator[Setting]:
    comments: dict[str, str] = {}
    own = {name: field for name, field in model.model_fields.items() if _find_section(field) is None}
    for kind in reversed(model.__mro__):
        if own.keys() & inspect.get_annotations(kind).keys():
            comments |= read_comments(inspect.getsource(kind))
    hints = get_type_hints(model, include_extras=True)
    for name, field in own.items():
        yield Setting(name, _format_type(hints[name]), _format_default(field), comments.get(name, ""))


def read_comments(source: str) -> dict[str, str]:
    """The comment of each annotated field of a class: on its lines, else on the lines directly above it."""
    source = textwrap.dedent(source)
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            beside = [comments[at] for at in range(node.lineno, (node.end_lineno or node.lineno) + 1) if at in comments]
            above: list[str] = []
            at = node.lineno - 1
            while at in comments and lines[at - 1].lstrip().startswith("#"):
                above.insert(0, comments[at])
                at -= 1
            found[node.target.id] = " ".join(beside or above)
    return found


def _format_type(hint: Any) -> str:
    """The type and the range in words, of a field's type hint."""
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    schema = adapter.json_schema()
    if schema.get("type") == "string" and "format" not in schema:
        try:
            adapter.validate_python("")
        except ValidationError as error:  # `one_of` lists the names when it refuses one
            _, listed, choices = error.errors()[0]["msg"].partition("choose one of ")
            if listed:
                return " or ".join(f"`{choice}`" for choice in choices.split(", "))
    return _format_schema(schema, schema.get("$defs", {}))


def _format_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        kinds = [_format_schema(kind, definitions) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return ", or ".join(kinds) + ", optional" * (len(kinds) < len(schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    kind = schema["type"]
    if kind == "array":
        if "prefixItems" in schema:
            return f"({', '.join(_format_schema(item, definitions) for item in schema['prefixItems'])})"
        return "list of " + _format_schema(schema["items"], definitions)
    if kind == "object":
        inner = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return "table: name = " + _format_schema(inner, definitions)
    if kind == "string":
        return "path" if schema.get("format") == "path" else "name" if "pattern" in schema else "text"
    if kind == "boolean":
        return "`true` or `false`"
    return kind + _format_range(schema)


def _format_range(schema: dict[str, Any]) -> str:
    """The range of a number as an interval, after what it is a multiple of."""
    low, high = schema.get("minimum"), schema.get("maximum")
    opened, closed = "(" if low is None else "[", ")" if high is None else "]"
    low, high = schema.get("exclusiveMinimum", low), schema.get("exclusiveMaximum", high)
    text = ""
    if low is not None and high is not None:
        text = f" in {opened}{low:g}, {high:g}{closed}"
    elif low is not None:
        text = f" {'>' if opened == '(' else '≥'} {low:g}"
    return (f" {schema['multipleOf']} n" if "multipleOf" in schema else "") + text


def _format_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, default=str)


# ---- Ranking steps --------------------------------------------------------------------------------------------------


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
    evidence = [(f"`{kind.__name__}`", _first_paragraph(kind)) for kind in kinds]
    lines = ["# Ranking steps", "", INTRODUCTION, "", *textwrap.wrap(rules, 118), ""]
    lines += _format_table(header, [_format_step(step) for step in STEPS.values()])
    lines += ["## Evidence", "", "Stage 10 reads only the kinds that the steps of a recipe need.", ""]
    return "\n".join(lines + _format_table(("evidence", "what it is"), evidence))


def _format_step(step: Step) -> tuple[str, ...]:
    needs = [f"`{kind.__name__}`" for kind in _needs(step)]
    needs += [f"`{kind.__name__}` with `{name}`" for kind, name in _optional_needs(step).items()]
    settings = [f"`{row.name}` = {row.default}" for row in _list_settings(step.settings)]
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


# ---- Markdown -------------------------------------------------------------------------------------------------------


def _format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table and an empty one."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _first_paragraph(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _join(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


if __name__ == "__main__":
    sys.exit(main())
