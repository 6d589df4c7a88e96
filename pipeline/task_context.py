"""What a running task is given: where to read and write, whom to tell of progress, and when to stop."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.distributed import Ranks
from pipeline.progress import PlainLines, Terminal, Work
from pipeline.scalars import Scalars

PARTIAL = ".partial"  # the suffix of a folder in which an artifact is being made
SCRATCH = "scratch"  # the folder for shards and checkpoints below it
HISTORY = "history.csv"  # in it, a row per epoch while a network is trained


@dataclass
class TaskContext:
    """The working folder, the inputs, the progress display and the stop signal of one running task.

    folder: what is written there is published when the task succeeds. inputs: the path of every declared input.
    workers: how many processes to work with. stop_asked: whether the user has asked to stop. facts: numbers for the
    manifest. seconds, bytes: of the artifacts of each stage; no inputs, since only tables of times and sizes read them.
    previous: the published artifact, where nothing but its rows may have changed; None = take nothing over.
    scalars: where training writes its values for TensorBoard; None = nowhere.
    label: of the stage, for the console. seconds_after: what the run is to take after this task; None = unknown.
    ranks: the processes that work on the task, of which this is one.
    """

    folder: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    workers: int = 1
    stop_asked: Callable[[], bool] = lambda: False
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    previous: Path | None = None
    scalars: Scalars | None = None
    label: str = ""
    seconds_after: float | None = None
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def published(self) -> Path:
        """Where the artifact will be."""
        return self.folder.with_name(self.folder.name.removesuffix(PARTIAL))

    @property
    def scratch(self) -> Path:
        """The folder for shards and checkpoints: it survives a kill and is never published."""
        return self.folder / SCRATCH

    def input(self, reference: str) -> Path:
        """The path of a declared input. An undeclared one is a defect (LookupError): nothing would check it."""
        if reference not in self.inputs:
            raise LookupError(
                f"the task of {self.published} reads {reference}, which it does not declare: its freshness would not "
                f"depend on it. Add the reference to the inputs of the Task that makes {self.published.name}"
            )
        return self.inputs[reference]

    def progress(self, total: int, unit: str, done: int = 0) -> Terminal | PlainLines:
        """How far the work is, with rate and time left, on the console only, and there by the first rank."""
        work = Work(total, unit, done, self.label, self.seconds_after)
        return work.start() if self.ranks.is_first else work.start(io.StringIO())

    @contextlib.contextmanager
    def training_progress(self) -> Iterator[Callable[[int, int, float, float], None]]:
        """Yield a function that shows an optimiser step: (step, of how many, loss, learning rate)."""
        with self.progress(0, "steps") as bar:

            def show(step: int, steps: int, loss: float, rate: float) -> None:
                if not bar.total:  # the first step of this process: those before it were another's
                    bar.begin(step - 1, steps)
                bar.note(f"loss {loss:.3f}, rate {rate:.1e}")
                bar.update(step - bar.n)
                if self.scalars:
                    self.scalars.add({"loss": loss, "learning_rate": rate}, step)
                    self.scalars.follow(self.scratch / HISTORY)

            yield show
        if self.scalars:
            self.scalars.follow(self.scratch / HISTORY)
            self.scalars.close()

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt where the user has asked to stop and there is nothing left to save."""
        if self.should_stop():
            raise KeyboardInterrupt

    def should_stop(self) -> bool:
        """Whether the user has asked to stop: save what can be saved and raise KeyboardInterrupt."""
        return self.stop_asked()
