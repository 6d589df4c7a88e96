"""Score a submission file by a solution file: python -m pipeline.score --solution … --submission …

The files are CSVs of retrieval (id,images) or recognition (id,landmarks), plain or gzip; the solutions are those of
Google Landmarks v2 (…_solution_v1, …_solution_v2.1) or others of that format. It needs no run, no configuration and no
stage; competition/scoring.py does the work.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipeline.competition.scoring import score_submission
from pipeline.console import run_guarded
from pipeline.report.tables import format_score


def main(arguments: list[str] | None = None) -> int:
    """Print the scores and return the exit code: 0 for success, 2 for a wrong file or command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.score", description="Score a submission file.")
    parser.add_argument("--solution", type=Path, required=True, help="id,images,Usage or id,landmarks,Usage")
    parser.add_argument("--submission", type=Path, required=True, help="id,images or id,landmarks; .csv or .csv.gz")
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")
    given = parser.parse_args(arguments)

    def work() -> None:
        scored = score_submission(given.solution, given.submission)
        print(json.dumps(scored._asdict(), indent=1) if given.json else format_score(scored))

    return run_guarded(work)


if __name__ == "__main__":
    sys.exit(main())
