"""Compare finished runs: python -m pipeline.compare outputs/a outputs/b [outputs/c …] [--html FILE]

Prints the settings that differ, the scores side by side, with intervals for the differences from the first run, and the
queries that changed most; the page shows these queries with their photographs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.console import run_guarded
from pipeline.errors import PipelineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison and return the exit code: 0 for success, 2 for a wrong folder or command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.compare", description="Compare finished runs.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="folders of runs, such as outputs/demo")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the queries that changed most")
    parser.add_argument("--trust-code", action="store_true", help="take artifacts that other code made")
    given = parser.parse_args(arguments)
    return run_guarded(lambda: compare(given.runs, given.html, given.trust_code))


def compare(folders: Sequence[Path], page: Path | None, trust_code: bool) -> None:
    """Do what the command line asks."""
    from pipeline.artifacts import atomic_file
    from pipeline.query import comparison
    from pipeline.report.run_report import render_template
    from pipeline.report.tables import format_table

    if len(folders) < 2:
        raise PipelineError("one run has nothing to be compared with", folders[0], "give two runs or more")
    runs = [comparison.read_scored_run(folder, trust_code) for folder in folders]
    tables = [
        comparison.list_differing(runs),
        comparison.tabulate_rankings(runs, comparison.compare_rankings(runs)),
        comparison.tabulate_recognition(runs),
    ]
    for table in tables:
        print(f"{table.heading}. {table.text}\n\n{format_table(table.columns, table.rows) if table.rows else ''}\n")
    for run in runs[1:]:
        print(f"queries that changed most from {runs[0].name} to {run.name}:")
        for image in comparison.pick_changed(runs[0], run):
            before, after = (one.precisions[one.recipe][image] for one in (runs[0], run))
            print(f"  {image}  AP {before:.3f} -> {after:.3f}")
    if page:
        changed = {run.name: comparison.show_changed(runs[0], run) for run in runs[1:]}
        title = f"Cairn: {' and '.join(run.name for run in runs)}"
        with atomic_file(page) as part:
            text = render_template("comparison.html", title=title, tables=tables, changed=changed, first=runs[0].name)
            part.write_text(text, encoding="utf-8")
        print(f"the page: {page}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
