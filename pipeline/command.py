"""One command for all: cairn run | status | query | compare | export | score

`pip install -e .` installs it. It starts the same code as ./run_all.sh and python -m pipeline.<name>, with the
arguments that follow.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.console import run_guarded
from pipeline.errors import PipelineError
from pipeline.runner import STAGES

COMMANDS = {  # name -> what it does, as its own help tells in full
    "run": "run every stage that is not up to date (./run_all.sh)",
    "status": "say what is fresh, what is stale and why",
    "query": "ask a finished run with photographs",
    "compare": "put finished runs side by side",
    "export": "take a network or descriptors out of a run",
    "score": "score a submission by a solution",
}
OF_STAGES = {"run": [], "status": ["--status"]}  # the arguments that run_all.py gets first


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a command; its exit code."""
    names = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="cairn",
        description=f"commands:\n{names}",
        epilog="cairn <command> --help says more",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the command takes")
    given = parser.parse_args(arguments)
    if given.command in OF_STAGES:
        return _run_stages([*OF_STAGES[given.command], *given.arguments])
    return importlib.import_module(f"pipeline.{given.command}").main(given.arguments)


def _run_stages(arguments: list[str]) -> int:
    script = STAGES / "run_all.py"
    if not script.is_file():
        return run_guarded(lambda: _refuse(script))
    spec = importlib.util.spec_from_file_location("run_all", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    start: Callable[[list[str]], int] = module.main
    return start(arguments)


def _refuse(script: Path) -> None:
    hint = "the stages run from a clone: pip install -e . in it"
    raise PipelineError("the stages are not installed", script, hint)


if __name__ == "__main__":
    sys.exit(main())
