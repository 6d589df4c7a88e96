"""The command of all stages, run in this process."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: object) -> int:
    """The exit code of run_all.py with these arguments."""
    spec = importlib.util.spec_from_file_location("run_all", ROOT / "stages" / "run_all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before, sys.argv = sys.argv, ["run_all.py", *map(str, arguments)]
    try:
        return module.main()
    finally:
        sys.argv = before
