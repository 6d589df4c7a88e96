"""The settings of a section in words: type, range, default and meaning, read from its class.

The meaning of a setting is the comment beside its field, or above it; that of a section, the docstring of its class.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.settings import Settings


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


def list_sections(model: type[Settings]) -> list[Section]:
    """All sections of a configuration with their settings, in the order of the schema."""
    names: dict[type[Settings], list[str]] = {}
    for name, section in _walk(model):
        names.setdefault(section, []).append(name)
    return [Section(tuple(names[section]), first_paragraph(section), list(list_settings(section))) for section in names]


def list_settings(model: type[Settings]) -> Iterator[Setting]:
    """The settings of one section, without the sections in it."""
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


def first_paragraph(kind: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


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
    return _format_schema(schema)


def _format_schema(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        kinds = [_format_schema(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return ", or ".join(kinds) + ", optional" * (len(kinds) < len(schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    kind = schema["type"]
    if kind == "array":
        if "prefixItems" in schema:
            return f"({', '.join(_format_schema(item) for item in schema['prefixItems'])})"
        return "list of " + _format_schema(schema["items"])
    if kind == "object":
        inner = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return "table: name = " + _format_schema(inner)
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
