"""What all stage scripts share: tasks, stages, which artifacts are fresh or stale and why, and running them."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import layout
from pipeline.artifacts import (
    Manifest,
    Trust,
    adopt,
    build,
    differs_only_in,
    explain_staleness,
    find_damage,
    read_manifest,
    recover,
)
from pipeline.cache_key import CacheKey
from pipeline.code_digest import digest_code
from pipeline.competition.external_files import ExternalFiles
from pipeline.config import Config, load_config
from pipeline.console import log, logging_to, run_guarded, saving_on_stop
from pipeline.distributed import PartDone, Ranks, joined_ranks
from pipeline.errors import PipelineError
from pipeline.lock import hold_lock
from pipeline.processes import available_cores, return_freed_memory
from pipeline.run_settings import record_settings
from pipeline.scalars import FOLDER, Scalars, require_tensorboard
from pipeline.shortages import explaining_shortages
from pipeline.task_context import TaskContext

STAGES = Path(__file__).resolve().parent.parent / "stages"
MOST_WORKERS = 16  # loader processes by default: each holds two batches in shared memory, and 16 feed any one GPU
DEFAULT_CONFIG = Path("configs/demo.toml")
READING = "a query"  # the name, in errors, of a task that makes nothing


@dataclass(frozen=True)
class Task:
    """One artifact that a stage makes.

    artifact: its folder below outputs/<run>/, or an absolute path. run: makes it.
    settings: the settings that affect its bytes, as plain JSON values.
    inputs: references (see layout.py) of what it reads from other artifacts; it can read nothing else.
    external: what it reads from outside outputs/, by name: a digest, or the path of a file or of a folder of
    photographs, which is then digested. Called when freshness is judged.
    saves_on_stop: it polls `TaskContext.should_stop` and saves its work; Ctrl-C then waits for that.
    by_row: those of the inputs that say of what each row is made: while all else is unchanged, rows can be taken over.
    doubt: why its published folder is to be made again although its cache key is right, in words; empty if it is not.
    shared: all ranks of the run work on it; any other task is the first rank's.
    """

    artifact: str
    run: Callable[[TaskContext, Config], None]
    settings: dict[str, Any]
    inputs: tuple[str, ...] = ()
    external: Callable[[], Mapping[str, str | Path]] = dict
    saves_on_stop: bool = False
    by_row: tuple[str, ...] = ()
    doubt: Callable[[Path], list[str]] = lambda folder: []
    shared: bool = False


@dataclass(frozen=True)
class Stage:
    """A numbered stage of the pipeline. version: raise it when the code gives other bytes for the same cache key."""

    name: str
    version: int
    tasks: Callable[[Config], list[Task]]

    @property
    def number(self) -> int:
        return int(self.name[:2])


class Pipeline:
    """All stages of one configuration: which artifacts are fresh or stale and why, and running them.

    trust: what is believed without looking at it. siblings: folders of other runs, whose artifacts are taken over where
    they are what this run would make. ranks: the processes of the run, of which this is one.
    """

    def __init__(
        self,
        config: Config,
        stages: list[Stage],
        trust: Trust = Trust(),
        siblings: Sequence[Path] = (),
        ranks: Ranks | None = None,
    ):
        self.config, self.stages, self.trust, self.siblings = config, stages, trust, siblings
        self.ranks = ranks or Ranks()
        self.planned: list[Stage] = []  # what this command runs, in order
        self.tasks = {stage.name: stage.tasks(config) for stage in stages}
        self._owner = {task.artifact: (stage, task) for stage in stages for task in self.tasks[stage.name]}
        self._reasons: dict[str, list[str]] = {}
        self._external = ExternalFiles(trust.thorough)

    def explain(self, stage: Stage) -> dict[str, list[str]]:
        """Why each artifact of `stage` is stale; an empty list where it is fresh."""
        return {task.artifact: self._explain_task(stage, task) for task in self.tasks[stage.name]}

    def run_stage(self, stage: Stage, force: bool = False) -> None:
        """Make the stale artifacts of `stage`, or all (`force`). Raises PipelineError for a stale input."""
        if self.config.runtime.tensorboard:
            require_tensorboard()
        if not self.tasks[stage.name]:
            log.info("%s has nothing to do with these settings", stage.name)
        for task in self.tasks[stage.name]:
            reasons = ["forced"] if force else self._explain_task(stage, task)
            if not reasons:
                log.info("%s is fresh", task.artifact)
                continue
            self._require_inputs(task)
            folder = self.locate(task.artifact)
            with explaining_shortages(folder), hold_lock(folder):
                self._run_task(stage, task, reasons, force)
            # What was fresh stays so; what was stale may have become fresh.
            self._reasons = {artifact: reasons for artifact, reasons in self._reasons.items() if not reasons}

    def lead_or_follow(self, lead: Callable[[], None]) -> None:
        """On the first rank call `lead`; on any other take part in the shared tasks that it runs, until it returns."""
        if self.ranks.is_first:
            lead()
            return self.ranks.announce(None)
        for announced in self.ranks.announcements():
            task = self._owner[announced["artifact"]][1]
            with saving_on_stop(task.saves_on_stop) as stop_asked, contextlib.suppress(PartDone):
                context = self._context(task, Path(announced["folder"]), {}, stop_asked)
                context.previous = announced["previous"] and Path(announced["previous"])
                context.ranks = self.ranks
                task.run(context, self.config)
            return_freed_memory()

    def open_inputs(self, references: Iterable[str]) -> TaskContext:
        """A context that reads these artifacts and writes nothing. Raises PipelineError for one that is stale."""
        task = Task(READING, lambda task, config: None, {}, tuple(dict.fromkeys(references)))
        self._require_inputs(task)
        return self._context(task, self.locate(READING), {}, lambda: False)

    def _run_task(self, stage: Stage, task: Task, reasons: list[str], force: bool) -> None:
        folder = self.locate(task.artifact)
        recover(folder)
        key = self._cache_key(stage, task)
        if not force and not explain_staleness(folder, key, self.trust) and not task.doubt(folder):
            return log.info("%s is fresh", task.artifact)
        others = () if force or _is_outside(task.artifact) else (run / task.artifact for run in self.siblings)
        taken = adopt(folder, key, (other for other in others if not task.doubt(other)), self.trust)
        if taken:
            return log.info("%s: taken from %s", task.artifact, taken)
        log.info("%s: %s", task.artifact, "; ".join(reasons[:3]) + (" …" if len(reasons) > 3 else ""))
        start = time.monotonic()
        with build(folder, key, self.trust) as (partial, facts), saving_on_stop(task.saves_on_stop) as stop_asked:
            facts |= self._external.facts(task.external())
            context = self._context(task, partial, facts, stop_asked)
            context.label = f"[{stage.number}/{self.stages[-1].number}] {stage.name[3:]}"
            context.seconds_after = self._expect_seconds_after(task)
            if self.config.runtime.tensorboard and stage.name in layout.TRAINING:
                context.scalars = Scalars(_run_folder(self.config) / FOLDER / task.artifact.replace("/", "-"))
            if task.by_row and not force and differs_only_in(folder, key, task.by_row, self.trust):
                context.previous = folder
            if task.shared:
                context.ranks = self.ranks
                previous = context.previous and str(context.previous)
                self.ranks.announce({"artifact": task.artifact, "folder": str(partial), "previous": previous})
            task.run(context, self.config)
        return_freed_memory()
        log.info("%s: done in %.1f s", task.artifact, time.monotonic() - start)

    def _context(self, task: Task, partial: Path, facts: dict[str, Any], stop_asked: Callable[[], bool]) -> TaskContext:
        inputs = {reference: self._path(reference) for reference in task.inputs}
        workers = self.config.runtime.workers
        return TaskContext(
            folder=partial,
            inputs=inputs,
            workers=min(available_cores(), MOST_WORKERS) if workers < 0 else workers,
            stop_asked=stop_asked,
            facts=facts,
            seconds=self._measure(lambda manifest: round(manifest.seconds, 3)),
            bytes=self._measure(lambda manifest: manifest.bytes),
        )

    def _measure(self, amount: Callable[[Manifest], Any]) -> dict[str, Any]:
        """The sum of an amount over the artifacts of each stage, where there are any."""
        sums = {}
        for stage in self.stages:
            manifests = [read_manifest(self.locate(task.artifact)) for task in self.tasks[stage.name]]
            sums[stage.name] = round(sum(amount(manifest) for manifest in manifests if manifest), 1)
        return sums

    def _expect_seconds_after(self, task: Task) -> float | None:
        """What the artifacts that are to be made after this one took the last time; None if one was never made."""
        expected, after = 0.0, False
        for stage in self.planned:
            for other in self.tasks[stage.name]:
                if after and self._explain_task(stage, other):
                    manifest = read_manifest(self.locate(other.artifact))
                    if manifest is None:
                        return None
                    expected += manifest.seconds
                after = after or other is task
        return expected

    def _explain_task(self, stage: Stage, task: Task) -> list[str]:
        if self.trust.outside and _is_outside(task.artifact):
            return []
        if task.artifact not in self._reasons:
            stale = [owner for owner in self._input_owners(task) if self._explain_task(*self._owner[owner])]
            folder = self.locate(task.artifact)
            reasons = explain_staleness(folder, self._cache_key(stage, task), self.trust)
            reasons = self._external.explain(task.external(), read_manifest(folder), reasons)
            reasons = reasons or ([] if self.trust.outside else task.doubt(folder))
            self._reasons[task.artifact] = [f"{owner} is stale" for owner in stale] + reasons
        return self._reasons[task.artifact]

    def _require_inputs(self, task: Task) -> None:
        for owner in self._input_owners(task):
            stage, other = self._owner[owner]
            if self._explain_task(stage, other):
                cause = self._find_cause(owner)
                reasons = self._explain_task(*self._owner[cause])
                before = f"{cause}: " if cause != owner else ""
                by_code = all(reason.startswith("code of ") for reason in reasons)
                raise PipelineError(
                    f"{task.artifact} reads {owner}, which is not up to date: {before}{'; '.join(reasons[:3])}",
                    self.locate(owner),
                    f"./run_all.sh with the same settings and --to {stage.number} brings it up to date"
                    + (f"; --force {stage.number} makes it again" if self._is_damaged(owner) else "")
                    + ("; --trust-code takes it as it is" if by_code else ""),
                )
        for reference in task.inputs:
            owner, name = layout.split_reference(reference)
            manifest = read_manifest(self.locate(owner))
            if name and (manifest is None or manifest.digest(name) is None) and not self.trust.code:
                number = self._owner[owner][0].number
                raise PipelineError(
                    f"{task.artifact} reads {reference}, which is not in the manifest of {owner}",
                    self.locate(owner),
                    f"--force {number} makes it again",
                )

    def _find_cause(self, artifact: str) -> str:
        """The artifact that made this one stale: itself, or the first stale one that it was made from, and so on."""
        for owner in self._input_owners(self._owner[artifact][1]):
            if self._explain_task(*self._owner[owner]):
                return self._find_cause(owner)
        return artifact

    def _is_damaged(self, artifact: str) -> bool:
        manifest = read_manifest(self.locate(artifact))
        return manifest is not None and bool(find_damage(self.locate(artifact), manifest))

    def _cache_key(self, stage: Stage, task: Task) -> CacheKey:
        recorded = read_manifest(self.locate(task.artifact))
        if self.trust.outside:
            known = recorded.key["inputs"] if recorded else {}
            inputs = {name: digest for name, digest in known.items() if name not in task.inputs or _is_outside(name)}
        else:
            inputs = self._external.digest(task.external(), recorded)
        for reference in task.inputs:
            artifact, name = layout.split_reference(reference)
            manifest = read_manifest(self.locate(artifact))
            inputs.setdefault(reference, (manifest.digest(name) if manifest else None) or "missing")
        return CacheKey(stage.name, stage.version, task.settings, inputs, digest_code(task.run))

    def _input_owners(self, task: Task) -> list[str]:
        return list(dict.fromkeys(layout.split_reference(reference)[0] for reference in task.inputs))

    def _path(self, reference: str) -> Path:
        artifact, name = layout.split_reference(reference)
        return self.locate(artifact) / name

    def locate(self, artifact: str) -> Path:
        """The folder of an artifact."""
        return _run_folder(self.config) / artifact


def load_stages(folder: Path = STAGES) -> list[Stage]:
    """The `STAGE` of every numbered script, in order. The scripts import nothing heavy until they run."""
    stages = []
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        spec = importlib.util.spec_from_file_location(f"stage_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        stages.append(module.STAGE)
    return stages


def main(stage_name: str, arguments: list[str] | None = None) -> int:
    """Run one stage from the command line; its exit code."""
    parser = argparse.ArgumentParser(description=f"Only stage {stage_name}; ./run_all.sh runs all of them.")
    add_config_arguments(parser)
    parser.add_argument("--force", action="store_true", help="run even when everything is fresh")
    given = parser.parse_intermixed_args(arguments)

    def work() -> None:
        config = load_config(given.config, given.settings)
        with joined_ranks() as ranks, logging_to(_run_folder(config), ranks.number):
            pipeline = Pipeline(config, load_stages(), Trust(given.verify, given.trust_code), ranks=ranks)
            stage = next(stage for stage in pipeline.stages if stage.name == stage_name)

            def lead() -> None:
                record_settings(config, _run_folder(config))
                pipeline.run_stage(stage, given.force)

            pipeline.lead_or_follow(lead)

    return run_guarded(work)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every command shares."""
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="TOML file (default: %(default)s)")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hash every file of every artifact that is read, and small sets of photographs",
    )
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="take artifacts that other code made for fresh; a raised version still counts",
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="settings to override")


def _is_outside(artifact: str) -> bool:
    """Whether an artifact lies outside of outputs/, as the demo world does."""
    return Path(artifact).is_absolute()


def _run_folder(config: Config) -> Path:
    return config.runtime.outputs.absolute() / config.run
