"""Artifacts: directories with a manifest, fresh by content, resumable, published by renaming.

    outputs/demo/<stage>/            published: data files + manifest.json (written last)
    outputs/demo/<stage>.partial/    being made: key.json is its cache key; scratch/ is not published
    outputs/demo/<stage>.old/        the one before, for the instant between two renames

After a kill at any instant the published folder is the old artifact or the new one, or `recover` makes it so.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cache_key import CacheKey, compare_keys
from pipeline.errors import PipelineError
from pipeline.memory import forget_peak, read_peak
from pipeline.shortages import explaining_shortages
from pipeline.task_context import PARTIAL, SCRATCH

MANIFEST = "manifest.json"
KEY = "key.json"
OLD = ".old"
FORMAT = 1
MAX_FSYNCS = 256  # artifacts of more files, such as the demo world, are synced with the whole system: fsync is slow
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "faiss-gpu", "faiss-cpu", "opencv-python-headless")


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. files: name -> {bytes, sha256, mtime_ns}. peak_bytes: of memory; 0 = unknown."""

    key: dict[str, Any]
    files: dict[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_bytes: int = 0
    packages: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(entry["bytes"] for entry in self.files.values())

    def digest(self, name: str = "") -> str | None:
        """The sha256 of the file `name`, or of all files together; None where there is no such file."""
        if name:
            return self.files[name]["sha256"] if name in self.files else None
        lines = [f"{file} {entry['sha256']}\n" for file, entry in sorted(self.files.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place only if the block succeeds.

    Raises PipelineError that names `path` when the block fails for want of disk or memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with explaining_shortages(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(descriptor)
    part = Path(name)
    try:
        with explaining_shortages(path):
            yield part
            part.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(*paths: Path) -> dict[str, str]:
    """The digests of files that a stage reads from outside outputs/, by path; "missing" where there is no file."""
    return {str(path): hash_file(path) if path.is_file() else "missing" for path in paths}


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a published artifact; None where there is none. A damaged one is an error."""
    path = folder / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("format") != FORMAT:
            raise ValueError(f"format {value.get('format')} where {FORMAT} is known")
        if "recipe" in value:  # the name of the key in earlier versions
            value["key"] = value.pop("recipe")
        return Manifest(**value)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(f"the manifest cannot be read: {error}", path, f"delete {folder} and run again") from error


def find_damage(folder: Path, manifest: Manifest, thorough: bool = False) -> list[str]:
    """What is damaged in the files of an artifact, in words; empty where nothing is.

    A file whose size and time are as recorded is trusted, any other is hashed: touching a file changes nothing.
    thorough: hash every file.
    """
    damage = []
    for name, entry in manifest.files.items():
        try:
            stat = (folder / name).stat()
        except OSError:
            damage.append(f"{name} is missing")
            continue
        if stat.st_size != entry["bytes"]:
            damage.append(f"{name} has {stat.st_size} bytes where {entry['bytes']} were written")
        elif (thorough or stat.st_mtime_ns != entry["mtime_ns"]) and hash_file(folder / name) != entry["sha256"]:
            damage.append(f"{name} has been altered since it was written")
    return damage


@dataclass(frozen=True)
class Trust:
    """What is believed without looking. thorough: hash every file, also those whose size and time are as recorded.
    code: take what other code has made for what this code would make. outside: take what lies outside of outputs/,
    such as photographs, for unchanged."""

    thorough: bool = False
    code: bool = False
    outside: bool = False


def explain_staleness(folder: Path, key: CacheKey, trust: Trust = Trust()) -> list[str]:
    """Why the artifact in `folder` is not what this cache key gives; empty where it is fresh."""
    manifest = read_manifest(folder)
    if manifest is None:
        return ["not built yet"]
    return compare_keys(manifest.key, key.to_json(), trust.code) or find_damage(folder, manifest, trust.thorough)


def differs_only_in(folder: Path, key: CacheKey, inputs: Collection[str], trust: Trust = Trust()) -> bool:
    """Whether there is an undamaged artifact in `folder`, made from all that this key says but for these inputs."""
    manifest = read_manifest(folder)
    if manifest is None or find_damage(folder, manifest, trust.thorough):
        return False
    then, now = (
        value | {"inputs": {name: digest for name, digest in value["inputs"].items() if name not in inputs}}
        for value in (manifest.key, key.to_json())
    )
    return not compare_keys(then, now, trust.code)


@contextlib.contextmanager
def build(folder: Path, key: CacheKey, trust: Trust = Trust()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a folder to work in and a dict for facts; publish it as `folder` when the block succeeds.

    Work that an earlier, killed run left for the same key is still in the folder and can be resumed. Work for another
    key is deleted; `trust` says whether other code makes it another. What lies in `scratch/` (shards, checkpoints) is
    not published. Call under `hold_lock`.
    """
    _refuse_foreign_folder(folder)
    partial = _beside(folder, PARTIAL)
    begun = _read_key(partial)
    if begun is None or compare_keys(begun, key.to_json(), trust.code):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(partial / KEY, key.to_json())
    for half_written in partial.rglob("*.part"):
        half_written.unlink()
    (partial / SCRATCH).mkdir(exist_ok=True)
    facts: dict[str, Any] = {}
    start = time.monotonic()
    forget_peak()
    yield partial, facts
    # The scratch folder goes when the manifest is there: a kill while large files are hashed costs no work.
    manifest = Manifest(
        key=key.to_json(),
        files=_describe_files(partial),
        facts=facts,
        seconds=round(time.monotonic() - start, 3),
        peak_bytes=read_peak(),
        packages=_package_versions(),
    )
    write_json(partial / MANIFEST, asdict(manifest))
    _publish(partial, folder)


def adopt(folder: Path, key: CacheKey, others: Iterable[Path], trust: Trust = Trust()) -> Path | None:
    """Publish as `folder` the first of `others` that this key gives, by hard links; None where there is no such one.

    Files of published artifacts never change, so both can share them. Call under `hold_lock`.
    """
    for other in others:
        manifest = read_manifest(other)
        if manifest is None or explain_staleness(other, key, trust):
            continue
        _refuse_foreign_folder(folder)
        partial = _beside(folder, PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        for name in (*manifest.files, MANIFEST):  # the manifest last: a kill before it leaves nothing to publish
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(other / name, partial / name)
        _publish(partial, folder)
        return other
    return None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def recover(folder: Path) -> None:
    """Finish, or take back, a publication that was killed between its renames. Call under `hold_lock`."""
    partial, old = _beside(folder, PARTIAL), _beside(folder, OLD)
    if (partial / MANIFEST).exists():
        _publish(partial, folder)
    elif old.exists() and not folder.exists():
        os.rename(old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _publish(partial: Path, folder: Path) -> None:
    old = _beside(folder, OLD)
    shutil.rmtree(partial / SCRATCH, ignore_errors=True)
    (partial / KEY).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(partial, folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign_folder(folder: Path) -> None:
    if folder.exists() and not (folder / MANIFEST).exists() and any(folder.iterdir()):
        raise PipelineError(
            "this folder holds files that the pipeline did not write",
            folder,
            "move them away, or choose another folder",
        )


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _read_key(partial: Path) -> dict[str, Any] | None:
    """The key that work in `partial` was begun for; None where there is none, or what is there is no key."""
    try:
        value = json.loads((partial / KEY).read_text(encoding="utf-8"))
        return value if value.keys() >= {"stage", "version", "settings", "inputs"} else None
    except (OSError, ValueError, AttributeError):
        return None


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's entry of every file that will be published, once their bytes are on the disk."""
    files = {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(paths) > MAX_FSYNCS:
        os.sync()
    for path in paths:
        if len(paths) <= MAX_FSYNCS:
            _sync(path)
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        if name == KEY or name.startswith(f"{SCRATCH}/"):
            continue
        files[name] = {"bytes": stat.st_size, "sha256": hash_file(path), "mtime_ns": stat.st_mtime_ns}
    return files


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
