"""What a benchmark measured: tables on the console, and a JSON file with machine, date, commit and command.

Every benchmark that `benchmarks/run_all.sh` runs takes `--json FILE` and ends with `publish`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.processes import available_cores, start_workers

Rows = Sequence[Mapping[str, Any]]  # a table: the keys of the first row are the columns
ROOT = Path(__file__).resolve().parent.parent
STARTED = time.monotonic()


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """The argument --json."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures, and how they were made, there too"
    )


def publish(tables: Mapping[str, Rows], path: Path | None = None, **plotted: Any) -> None:
    """Print the tables in Markdown, and write them with what they were measured on if `path` is given.

    plotted: figures for `plots.py` that need not be in a table; ratios: how many times as fast as what, by name.
    """
    for title, rows in tables.items():
        print(f"\n{title}\n\n{format_table(rows)}", end="", flush=True)
    if path is not None:
        record = {"command": describe_command(), **describe_machine(), "tables": tables, **plotted}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")


def measure_apart(work: Callable[..., Any], *given: Any) -> Any:
    """What `work` gives in a new process, so that its peak of memory is its own."""
    with start_workers(1) as pool:
        return pool.submit(_work_as_started, work, *given).result()


def _work_as_started(work: Callable[..., Any], *given: Any) -> Any:
    """What `work` gives; its workers are started as any process does it: those of a spawned one share no memory."""
    multiprocessing.set_start_method(None, force=True)
    return work(*given)


def format_table(rows: Rows) -> str:
    """The rows as a table in Markdown."""
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [columns, ["---"] * len(columns), *([format_cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def format_cell(value: Any) -> str:
    """A value to three significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def describe_command() -> str:
    """The command that started this process, without where it writes its figures."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    arguments = sys.argv[1:]
    if "--json" in arguments:
        at = arguments.index("--json")
        del arguments[at : at + 2]
    return " ".join(["python", "-m", spec.name if spec else Path(sys.argv[0]).stem, *arguments])


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on, by which code and when; load: of the last minute, own processes included."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": date.today().isoformat(), "commit": git.stdout.strip(), "processor": name_processor(),
        "cores": available_cores(), "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load": round(os.getloadavg()[0], 1), "seconds": round(time.monotonic() - STARTED, 1),
    }  # fmt: skip


def name_processor() -> str:
    """The model of the processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
