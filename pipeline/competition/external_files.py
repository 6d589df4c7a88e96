"""What tasks read from outside outputs/: tables by their content, folders of photographs by what listing.py tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.artifacts import Manifest, hash_file
from pipeline.competition.listing import FolderDigest, digest_folder, list_newer

FACT = "folders"  # the manifest's fact that holds the digests of folders, so that the next look is cheap
NAMED = 3  # photographs that a reason names


class ExternalFiles:
    """Digests of external files for cache keys. Each folder is looked at once in a run.

    thorough: read the bytes of photographs also where the times of modification are as recorded.
    """

    def __init__(self, thorough: bool = False):
        self.thorough = thorough
        self._seen: dict[Path, FolderDigest] = {}

    def digest(self, values: Mapping[str, str | Path], manifest: Manifest | None) -> dict[str, str]:
        """The inputs of a cache key, by name. values: digests, or paths to make them of. manifest: the one recorded."""
        found: dict[str, str] = {}
        for name, value in values.items():
            if not isinstance(value, Path):
                found[name] = value
            elif value.is_dir():
                folder = self._look(name, value, manifest)
                found |= {name: folder.names, _content_of(name): folder.evidence}
            else:
                found[name] = hash_file(value) if value.is_file() else "missing"
        return found

    def facts(self, values: Mapping[str, str | Path]) -> dict[str, dict[str, dict[str, str | int]]]:
        """What the manifest has to record of the folders that were looked at; nothing where there are none."""
        found = {name: asdict(self._seen[value]) for name, value in values.items() if value in self._seen}
        return {FACT: found} if found else {}

    def explain(self, values: Mapping[str, str | Path], manifest: Manifest | None, reasons: list[str]) -> list[str]:
        """The reasons of a stale artifact, those about folders with the names of photographs that changed."""
        for name, value in values.items():
            known = _recorded(name, manifest)
            if known is None or value not in self._seen:
                continue
            now = self._seen[value]
            was = "replaced" if now.content and known.content else "touched or replaced"
            kinds = {f"input {name} changed": "added, removed, renamed or resized"}
            kinds[f"input {_content_of(name)} changed"] = was
            hits = [reason for reason in reasons if reason in kinds]
            if hits:
                newer = list_newer(value, known.newest_ns, NAMED)
                names = f" (changed since: {', '.join(newer)}{', …' * (len(newer) == NAMED)})" if newer else ""
                rest = [reason for reason in reasons if reason not in kinds]
                reasons = [f"photographs in {name} were {kinds[hits[0]]}{names}", *rest]
        return reasons

    def _look(self, name: str, folder: Path, manifest: Manifest | None) -> FolderDigest:
        if folder not in self._seen:
            self._seen[folder] = digest_folder(folder, None if self.thorough else _recorded(name, manifest))
        return self._seen[folder]


def _content_of(name: str) -> str:
    return f"{name} content"


def _recorded(name: str, manifest: Manifest | None) -> FolderDigest | None:
    facts = manifest.facts.get(FACT, {}) if manifest else {}
    return FolderDigest(**facts[name]) if name in facts else None
