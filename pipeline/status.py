"""What is fresh and what a run would make, in tables for a console: reasons, seconds and size of each artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.artifacts import read_manifest
from pipeline.progress import format_about
from pipeline.runner import Pipeline, Stage

MEGABYTE = 1e6


@dataclass(frozen=True)
class ArtifactStatus:
    """An artifact: why it is stale (nothing: fresh), and what making it took; None = there is nothing.

    bytes: of its files. peak_bytes: of memory, without loader processes; 0 = an earlier version did not measure it.
    """

    name: str
    reasons: list[str]
    seconds: float | None
    bytes: int | None
    peak_bytes: int | None = None

    @property
    def is_fresh(self) -> bool:
        return not self.reasons


def list_status(pipeline: Pipeline, stages: Sequence[Stage], forced: Sequence[int] = ()) -> list[ArtifactStatus]:
    """The status of every artifact of these stages. forced: numbers of stages that are made again in any case."""
    found = []
    for stage in stages:
        for artifact, reasons in pipeline.explain(stage).items():
            manifest = read_manifest(pipeline.locate(artifact))
            forced_too = reasons or (["forced"] if stage.number in forced else [])
            measured = (manifest.seconds, manifest.bytes, manifest.peak_bytes) if manifest else (None, None, None)
            found.append(ArtifactStatus(artifact, forced_too, *measured))
    return found


def format_status(artifacts: Sequence[ArtifactStatus]) -> str:
    """A table with a line an artifact: seconds, megabytes of disk and of memory, fresh or stale and why."""
    width = max((len(one.name) for one in artifacts), default=0)
    lines = [f"{'artifact':{width}}  {'seconds':>9}  {'disk MB':>9}  {'memory MB':>9}  state"] if artifacts else []
    for one in artifacts:
        cells = (_cell(one.seconds, 1.0), _cell(one.bytes, MEGABYTE), _cell(one.peak_bytes or None, MEGABYTE))
        state = "fresh" if one.is_fresh else f"stale: {'; '.join(one.reasons)}"
        lines.append("  ".join([f"{one.name:{width}}", *cells, state]))
    return "\n".join(lines)


def format_plan(artifacts: Sequence[ArtifactStatus]) -> str:
    """What a run would make, and about how long and how much disk and memory that takes by the last time."""
    stale = [one for one in artifacts if not one.is_fresh]
    if not stale:
        return "everything is fresh: nothing would run"
    known = [one for one in stale if one.seconds is not None]
    seconds, size = sum(one.seconds or 0.0 for one in known), sum(one.bytes or 0 for one in known)
    lines = [format_status(stale), f"{len(stale)} of {len(artifacts)} artifacts would be made"]
    if known:
        peak = max(one.peak_bytes or 0 for one in known)
        memory = f", and at most {peak / MEGABYTE:,.0f} MB of memory beside loader processes" if peak else ""
        took = f"{format_about(seconds)}, {size / MEGABYTE:,.0f} MB of disk{memory}"
        lines.append(f"the last time, {len(known)} of them took {took}")
    if len(known) < len(stale):
        unknown = len(stale) - len(known)
        lines.append(f"{unknown} were never made here: nothing tells how long they take; --rehearse tries the settings")
    return "\n".join(lines)


def describe_rehearsal(artifacts: Sequence[ArtifactStatus]) -> str:
    """That every stage went through, and the artifact that took the most memory."""
    most = max(artifacts, key=lambda one: one.peak_bytes or 0)
    took = f": at most {(most.peak_bytes or 0) / MEGABYTE:,.0f} MB of memory, by {most.name}" if most.peak_bytes else ""
    return f"the settings went through {len(artifacts)} artifacts on a few photographs{took}; scores mean nothing here"


def _cell(value: float | None, unit: float) -> str:
    return f"{'-' if value is None else format(value / unit, ',.1f'):>9}"
