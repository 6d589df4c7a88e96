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
    """An artifact: why it is stale (nothing: fresh), and the seconds and bytes of what is there; None = nothing."""

    name: str
    reasons: list[str]
    seconds: float | None
    bytes: int | None

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
            found.append(
                ArtifactStatus(
                    artifact,
                    forced_too,
                    manifest.seconds if manifest else None,
                    manifest.bytes if manifest else None,
                )
            )
    return found


def format_status(artifacts: Sequence[ArtifactStatus]) -> str:
    """One line an artifact: fresh or stale, seconds, megabytes, reasons."""
    width = max((len(one.name) for one in artifacts), default=0)
    lines = []
    for one in artifacts:
        state = "fresh" if one.is_fresh else f"stale: {'; '.join(one.reasons)}"
        lines.append(f"{one.name:{width}}  {_cell(one.seconds, 1.0)} s  {_cell(one.bytes, MEGABYTE)} MB  {state}")
    return "\n".join(lines)


def format_plan(artifacts: Sequence[ArtifactStatus]) -> str:
    """What a run would make, and about how long and how much disk that takes by the last time."""
    stale = [one for one in artifacts if not one.is_fresh]
    if not stale:
        return "everything is fresh: nothing would run"
    known = [one for one in stale if one.seconds is not None]
    seconds, size = sum(one.seconds or 0.0 for one in known), sum(one.bytes or 0 for one in known)
    lines = [format_status(stale), f"{len(stale)} of {len(artifacts)} artifacts would be made"]
    if known:
        lines.append(
            f"the last time, {len(known)} of them took {format_about(seconds)} and {size / MEGABYTE:,.0f} MB of disk"
        )
    if len(known) < len(stale):
        lines.append(f"{len(stale) - len(known)} were never made here: nothing tells how long they take")
    return "\n".join(lines)


def _cell(value: float | None, unit: float) -> str:
    return f"{'-' if value is None else format(value / unit, ',.1f'):>9}"
