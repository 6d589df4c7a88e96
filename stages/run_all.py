"""Run the stages in order, from the first that is not up to date; or only say which those are."""

from __future__ import annotations

import argparse
import sys
import time

from pipeline import layout
from pipeline.artifacts import Trust
from pipeline.config import Config, load_config
from pipeline.console import log, logging_to, run_guarded
from pipeline.errors import PipelineError
from pipeline.rehearsal import prepare_rehearsal
from pipeline.run_settings import record_settings
from pipeline.runner import Pipeline, Stage, add_config_arguments, load_stages
from pipeline.status import describe_rehearsal, format_plan, format_status, list_status


def main(arguments: list[str] | None = None) -> int:
    """The exit code of the run: 0 done, 2 user error, 3 too much bad data, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="run_all.sh", description="All stages, in order; fresh artifacts are left unchanged."
    )
    add_config_arguments(parser)
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="start at stage N")
    parser.add_argument("--to", dest="last", type=int, default=12, metavar="N", help="stop after stage N")
    parser.add_argument("--only", type=int, metavar="N", help="only stage N")
    parser.add_argument(
        "--force", type=int, action="append", default=[], metavar="N", help="run stage N even when fresh"
    )
    parser.add_argument("--status", action="store_true", help="say what is fresh, what is stale and why; run nothing")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would run, and about how long by the last time; run nothing"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="run these settings on a few photographs, in a folder of its own"
    )
    given = parser.parse_intermixed_args(arguments)
    return run_guarded(lambda: work(given))


def work(given: argparse.Namespace) -> None:
    """Do what the command line asks."""
    config = load_config(given.config, given.settings)
    config = prepare_rehearsal(config) if given.rehearse else config
    stages, trust = load_stages(), Trust(given.verify, given.trust_code)
    chosen = choose_stages(stages, given.only or given.first, given.only or given.last, given.force)
    if given.status or given.dry_run:
        artifacts = list_status(Pipeline(config, stages, trust), chosen, given.force)
        return print(format_plan(artifacts) if given.dry_run else format_status(artifacts))
    folder = config.runtime.outputs.absolute() / config.run
    with logging_to(folder):
        record_settings(config, folder)
        start = time.monotonic()
        pipeline = Pipeline(config, stages, trust)
        pipeline.planned = chosen
        for stage in chosen:
            pipeline.run_stage(stage, force=stage.number in given.force)
        log.info("finished without errors in %.0f s: %s", time.monotonic() - start, config.runtime.outputs / config.run)
    if given.rehearse:
        print(describe_rehearsal(list_status(pipeline, chosen)), file=sys.stderr)
    for line in list_results(config)[: 1 if given.rehearse else None]:  # the report; nothing is handed in
        print(line, file=sys.stderr)


def list_results(config: Config) -> list[str]:
    """Where the results are that a person looks for, and how they are handed in."""
    folder = config.runtime.outputs / config.run
    report, submission = (folder / path for path in (layout.REPORT, layout.retrieval_file(config.submit.gzip)))
    lines = [f"the report:      {report}"] if report.exists() else []
    if submission.exists():
        lines.append(f"the submissions: {submission} and recognition{''.join(submission.suffixes)} beside it")
    if submission.exists() and config.data.source == "gldv2":
        lines.append(f"hand in:         kaggle competitions submit -c <competition> -f {submission} -m {config.run}")
    return lines


def choose_stages(stages: list[Stage], first: int, last: int, forced: list[int]) -> list[Stage]:
    """The stages numbered `first` to `last`; naming one that does not exist is an error."""
    known = {stage.number for stage in stages}
    chosen = [stage for stage in stages if first <= stage.number <= last]
    unknown = sorted(set(forced) - known)
    if not chosen or unknown:
        raise PipelineError(
            f"there is no stage {unknown[0] if unknown else f'{first} to {last}'}",
            "command line",
            f"the stages are {', '.join(stage.name for stage in stages)}",
        )
    return chosen


if __name__ == "__main__":
    sys.exit(main())
