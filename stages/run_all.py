"""Run the stages in order, from the first that is not up to date; or only say which those are."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline import layout
from pipeline.artifacts import Trust
from pipeline.config import Config, load_config
from pipeline.console import log, logging_to, run_guarded
from pipeline.distributed import Ranks, is_under_torchrun, joined_ranks
from pipeline.errors import PipelineError
from pipeline.launcher import launch_ranks
from pipeline.rehearsal import prepare_rehearsal
from pipeline.run_settings import record_settings
from pipeline.runner import Pipeline, Stage, add_config_arguments, load_stages
from pipeline.status import describe_rehearsal, format_plan, format_status, list_status
from pipeline.sweep import list_variants


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
    parser.add_argument(
        "--nproc",
        type=int,
        default=1,
        metavar="N",
        help="share the work among N processes, by torchrun; a GPU for each",
    )
    parser.add_argument("--status", action="store_true", help="say what is fresh, what is stale and why; run nothing")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would run, and about how long by the last time; run nothing"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="run these settings on a few photographs, in a folder of its own"
    )
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="a run for each value, all combinations of several; they share what is the same",
    )
    given = parser.parse_intermixed_args(arguments)
    if given.sweep and given.rehearse:
        parser.error("a sweep is not rehearsed: --rehearse one of its variants")
    if given.nproc > 1 and not (given.status or given.dry_run or given.rehearse or is_under_torchrun()):
        return run_guarded(lambda: launch_ranks(given.nproc, [__file__, *(arguments or sys.argv[1:])]))
    return run_guarded(lambda: work(given))


def work(given: argparse.Namespace) -> None:
    """Do what the command line asks."""
    with joined_ranks() as ranks:
        run_variants(given, ranks)


def run_variants(given: argparse.Namespace, ranks: Ranks) -> None:
    """The run, or those of a sweep."""
    config = load_config(given.config, given.settings)
    config = prepare_rehearsal(config) if given.rehearse else config
    if not given.sweep:
        return run_one(config, given, ranks)
    variants, folders = list_variants(config.run, given.sweep), [find_folder(config)]
    for variant in variants:
        chosen = load_config(given.config, [*given.settings, *variant.settings, f"run={variant.name}"])
        tell(ranks, f"{variant.name}: {' '.join(variant.settings)}")
        run_one(chosen, given, ranks, folders)
        folders.append(find_folder(chosen))
    runs = " ".join(str(config.runtime.outputs / variant.name) for variant in variants)
    tell(ranks, f"side by side:    python -m pipeline.compare {runs}")


def tell(ranks: Ranks, line: str) -> None:
    """Print a line, once for all ranks."""
    if ranks.is_first:
        print(line, file=sys.stderr)


def run_one(config: Config, given: argparse.Namespace, ranks: Ranks, siblings: Sequence[Path] = ()) -> None:
    """One run, or its status or plan. siblings: folders of runs whose artifacts it may take over."""
    stages, trust = load_stages(), Trust(given.verify, given.trust_code)
    pipeline = Pipeline(config, stages, trust, siblings, ranks)
    chosen = choose_stages(stages, given.only or given.first, given.only or given.last, given.force)
    if given.status or given.dry_run:
        artifacts = list_status(pipeline, chosen, given.force)
        return print(format_plan(artifacts) if given.dry_run else format_status(artifacts))
    with logging_to(find_folder(config), ranks.number):
        pipeline.planned = chosen
        pipeline.lead_or_follow(lambda: run_stages(pipeline, given))


def run_stages(pipeline: Pipeline, given: argparse.Namespace) -> None:
    """Run the planned stages, and say where the results are."""
    config, start = pipeline.config, time.monotonic()
    record_settings(config, find_folder(config))
    for stage in pipeline.planned:
        pipeline.run_stage(stage, force=stage.number in given.force)
    log.info("finished without errors in %.0f s: %s", time.monotonic() - start, config.runtime.outputs / config.run)
    if given.rehearse:
        print(describe_rehearsal(list_status(pipeline, pipeline.planned)), file=sys.stderr)
    for line in list_results(config)[: 1 if given.rehearse else None]:  # the report; nothing is handed in
        print(line, file=sys.stderr)


def find_folder(config: Config) -> Path:
    """The folder of a run."""
    return config.runtime.outputs.absolute() / config.run


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
