"""The documentation is true: its commands are accepted, its Python runs, its links, files and settings exist."""

import argparse
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import get_args, get_origin

import pytest

from pipeline import config_file
from pipeline.config import Config, load_config
from pipeline.config_file import RENAMED
from pipeline.runner import main as run_stage
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "data/README.md"])
HISTORY = {"CHANGELOG.md", "settings.md"}  # they list earlier names of settings
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"^(?:[A-Z_]+=\S+ )?(\./run_all\.sh|\./run_tests\.sh|\S*python (?:-m (?:pipeline|benchmarks)\.|stages/))"
)
FILE = re.compile(r"^[\w./-]+\.(?:py|toml|sh|md|txt)$")
SETTING = re.compile(rf"^((?:{'|'.join(Config.model_fields)})(?:\.[\w<>*]+)+)(?: ?=.*)?$")
SECTION = re.compile(r"^\[([\w.<>]+)\]$")
SUFFIXES = {"py", "toml", "csv", "json", "jpg", "html", "md", "onnx"}  # `demo.toml` is a file, not a setting


class ParsedError(Exception):
    """Raised in place of the work of a command; holds what it was given."""

    def __init__(self, given):
        super().__init__(given)
        self.given = given


def blocks(page, *languages):
    """The fenced blocks of a page in one of the languages."""
    return [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def inline_code(page):
    """The code spans of a page, outside its fenced blocks, on one line each."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands():
    """(page, command) of every command in the documentation."""
    found = {}
    for page in PAGES:
        lines = [line.strip() for text in blocks(page, "", "sh") for line in text.replace("\\\n", " ").splitlines()]
        for line in [*lines, *inline_code(page)]:
            if COMMAND.match(line):
                found.setdefault(line, page.name)
    return [pytest.param(line, id=f"{page}: {' '.join(line.split())[:70]}") for line, page in found.items()]


def open_command(words):
    """The function behind a command line, and the words that it parses."""
    program = words[0]
    if program == "./run_all.sh":
        spec = importlib.util.spec_from_file_location("run_all", ROOT / "stages/run_all.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main, words[1:]
    if words[1] == "-m":
        return importlib.import_module(words[2]).main, words[3:]
    assert (ROOT / words[1]).exists(), words[1]
    return lambda: run_stage(Path(words[1]).stem), words[2:]


@pytest.mark.parametrize("line", commands())
def test_a_command_is_accepted(line, monkeypatch):
    words = shlex.split(line, comments=True)
    words = words[1:] if "=" in words[0] else words
    assert "python" in words[0] or (ROOT / words[0]).exists()
    if words[0] == "./run_tests.sh":
        assert all((ROOT / word).exists() for word in words[1:])
        return
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)

        def parse(parser, *arguments, original=original):
            raise ParsedError(original(parser, *arguments))

        monkeypatch.setattr(argparse.ArgumentParser, name, parse)
    command, arguments = open_command(words)
    if not arguments:
        return  # the name of a command in a sentence
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(ParsedError) as parsed:
        command()
    given = parsed.value.given
    if hasattr(given, "settings"):
        warnings = []
        monkeypatch.setattr(config_file.log, "warning", lambda message, *names: warnings.append(message % names))
        load_config(ROOT / given.config, [setting for setting in given.settings if setting != "…"])
        assert not warnings


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs(page):
    for text in blocks(page, "python"):
        exec(compile(text, page.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_files_and_settings_exist(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith(("http:", "https:")) or (page.parent / target).exists(), target
    for code in inline_code(page):
        if FILE.match(code):
            assert is_file(code, page), code
        elif SECTION.match(code):
            assert find_setting(SECTION.match(code)[1]), code
        elif (setting := SETTING.match(code)) and code.split(".")[-1] not in SUFFIXES:
            earlier = page.name in HISTORY and setting[1] in RENAMED
            assert earlier or find_setting(setting[1]), code


def is_file(name, page):
    """Whether the path is below the page, the repository or the library; a bare name, anywhere in these."""
    if any((folder / name).exists() for folder in (page.parent, ROOT, ROOT / "pipeline")):
        return True
    folders = ("pipeline", "stages", "benchmarks", "configs", "docs")
    return "/" not in name and any(next((ROOT / folder).rglob(name), None) for folder in folders)


def find_setting(key):
    """Whether the schema has this setting or section; any name stands for a model, a baseline or a <placeholder>."""
    kind = Config
    for part in key.split("."):
        if isinstance(kind, dict):
            kind = kind["any"]
        elif not (isinstance(kind, type) and issubclass(kind, Settings)):
            return False
        elif part not in kind.model_fields:
            return part.startswith("<")
        else:
            annotation = kind.model_fields[part].annotation
            kind = {"any": get_args(annotation)[1]} if get_origin(annotation) is dict else annotation
    return True


def test_the_pages_have_commands_python_and_settings_to_check():
    assert len(commands()) > 20
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 2
    assert sum(bool(SETTING.match(code)) for page in PAGES for code in inline_code(page)) > 50


def test_what_does_not_exist_is_found():
    assert find_setting("rerank.insert.min_confidence") and find_setting("models.<name>.base.epochs")
    assert not find_setting("rerank.insert.votes") and not find_setting("models.cnn.trained")
    assert not is_file("pipeline/nothing.py", ROOT / "README.md") and is_file("voting.py", ROOT / "README.md")
