"""What the folder of a run tells by itself: its artifacts and their manifests, without the configuration.

The manifests name what each artifact was made from. So it can be said which descriptors a run searched, and whether its
scores are those of a network that lies there now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import layout
from pipeline.artifacts import Manifest, find_damage, read_manifest
from pipeline.errors import PipelineError
from pipeline.run_settings import load_run


class SearchedDescriptors(NamedTuple):
    """The artifacts (references) that hold the descriptors of a split, to be joined, and the weight of each."""

    references: list[str]
    weights: list[float]


@dataclass(frozen=True)
class RunFolder:
    """outputs/<run>/, read only."""

    path: Path

    def manifest(self, artifact: str) -> Manifest | None:
        """The manifest of an artifact; None where it is not published."""
        return read_manifest(self.path / artifact)

    def locate(self, reference: str) -> Path:
        """The path of an artifact or of a file of one."""
        artifact, file = layout.split_reference(reference)
        return self.path / artifact / file

    def find_outdated(self, artifact: str) -> str:
        """In words, which artifact was made of another that has changed since: `artifact` or one it depends on.

        Empty where each was made of those that lie there now. Inputs from outside the run are not looked at.
        """
        left, seen = [artifact], {artifact}
        while left:
            made = left.pop()
            manifest = self.manifest(made)
            for reference, digest in manifest.key["inputs"].items() if manifest else ():
                source, file = layout.split_reference(reference)
                now = self.manifest(source)
                if now and now.digest(file) != digest:
                    return f"{made} was made of another {reference}"
                left += [source] if now and source not in seen else []
                seen.add(source)
        return ""

    def find_descriptors(self, split: str, model: str = "") -> SearchedDescriptors:
        """The descriptors of a split as the run searched them: those of one model or of several, or whitened ones.

        Where nothing was searched: whitened ones, else those of the only model. model: take those of this one. Raises
        PipelineError without any, with several models that no search has joined, and for descriptors that are missing
        or were made of earlier networks, tables or whitenings.
        """
        only = SearchedDescriptors([layout.descriptors(model, split)], [1.0])
        found = only if model else self._searched(split) or self._unsearched(split)
        for reference in found.references:
            outdated = "they are missing" if self.manifest(reference) is None else self.find_outdated(reference)
            if outdated:
                where = self.path / reference
                raise PipelineError(f"the descriptors of {split}: {outdated}", where, "run the stages again")
        return found

    def list_models(self) -> list[str]:
        """The models that the search of test in index has joined, by name; empty without a search."""
        manifest = self.manifest(layout.neighbours("test", "index"))
        return list(manifest.key["settings"]["weights"]) if manifest else []

    def _searched(self, split: str) -> SearchedDescriptors | None:
        """What the search in the split, or with its images, has read; None without a search."""
        manifest = self.manifest(layout.neighbours("test", "index" if split == "test" else split))
        if manifest is None:
            return None
        if layout.whitened(split) in manifest.key["inputs"]:
            return SearchedDescriptors([layout.whitened(split)], [1.0])
        weights = manifest.key["settings"]["weights"]
        names = self._order(weights)
        return SearchedDescriptors(
            [layout.descriptors(model, split) for model in names], [weights[name] for name in names]
        )

    def _order(self, weights: Mapping[str, float]) -> list[str]:
        """The models in the order of the configuration, in which they were joined; a manifest sorts their names."""
        if not (self.path / layout.SETTINGS).exists():
            return list(weights)
        recorded = list(load_run(self.path).models)
        return recorded if set(recorded) == set(weights) else list(weights)

    def _unsearched(self, split: str) -> SearchedDescriptors:
        if self.manifest(layout.whitened(split)):
            return SearchedDescriptors([layout.whitened(split)], [1.0])
        models = [path.parent.name for path in sorted((self.path / layout.EXTRACT_GLOBAL).glob(f"*/{split}"))]
        if not models:
            what = f"there are no descriptors of a split {split!r}"
            raise PipelineError(what, self.path, "name the folder of a run, and a split that it has described")
        if len(models) > 1:
            raise PipelineError(
                f"descriptors of {', '.join(models)}, and no search has joined them", self.path,
                f"search first, or name the folder of one model: {self.path / layout.EXTRACT_GLOBAL / models[0]}",
            )  # fmt: skip
        return SearchedDescriptors([layout.descriptors(models[0], split)], [1.0])


def describe_network(folder: Path) -> dict[str, Any]:
    """The fields of a model card's Origin: what a run tells of a network in it, next to nothing of one elsewhere."""
    run, name = RunFolder(folder.parent.parent), folder.name
    artifacts = {"base": layout.base_network(name), "final": layout.final_network(name)}
    artifact = f"{folder.parent.name}/{name}"
    if artifact not in artifacts.values() or run.manifest(artifact) is None:
        return {"model": name, "unmeasured": "this network was not exported from a run"}
    known: dict[str, Any] = {"run": run.path.name, "model": name}
    if outdated := run.find_outdated(artifact):
        return known | {"unmeasured": f"the run has changed since ({outdated})"}
    is_final = artifact == artifacts["final"]
    phases = {phase: _read_phase(run, artifacts[phase], phase) for phase in artifacts if is_final or phase == "base"}
    if all(phases.values()):  # else it was given to the run, and its training data are not those of the run
        known |= {"phases": phases, "clean": _read_cleaning(run, name) if is_final else {}} | _read_data(run)
    if not is_final:
        return known | {"unmeasured": "the scores of a run are those of its final networks"}
    return known | _read_scores(run, name)


def _read_cleaning(run: RunFolder, model: str) -> Mapping[str, Any]:
    """How many train images the clean list kept and dropped, and of these the corrected ones that were trained on."""
    final = layout.final_network(model)
    trained = run.manifest(next(iter(_list_trainings(run, final)), final))
    cleaned = run.manifest(layout.CLEAN_LIST)
    reads = trained is not None and layout.CORRECTED_LABELS in trained.key["inputs"]
    corrected = run.manifest(layout.CORRECTED) if reads else None
    return (dict(cleaned.facts) if cleaned else {}) | (dict(corrected.facts) if corrected else {})


def _list_trainings(run: RunFolder, network: str) -> list[str]:
    """The trainings that a network is the mean of; none for one that was trained once."""
    manifest = run.manifest(network)
    made_of = [layout.split_reference(one)[0] for one in manifest.key["inputs"]] if manifest else []
    return [one for one in made_of if one.startswith(f"{network}.")]


def _read_data(run: RunFolder) -> dict[str, Any]:
    """The source of the run's data, and the images of its splits."""
    prepared = run.manifest(layout.PREPARE)
    if prepared is None:
        return {}
    counts = {name: fact for name, fact in prepared.facts.items() if isinstance(fact, dict) and "photographs" in fact}
    return {"source": prepared.key["settings"]["source"], "images": counts}


def _read_phase(run: RunFolder, artifact: str, phase: str) -> dict[str, Any]:
    """The settings of one phase of training; empty for a network that was given to the run."""
    manifest = run.manifest(artifact)
    settings = manifest.key["settings"] if manifest else {}
    if "model" not in settings:
        return {}
    weights = {"weights": Path(settings["model"]["weights"]).name} if phase == "base" else {}
    trainings = _list_trainings(run, artifact)
    averaged = {"averaged_trainings": len(trainings)} if trainings else {}
    return weights | settings["model"][phase] | averaged | {"seed": settings["seed"], "device": settings["device"]}


def _read_scores(run: RunFolder, model: str) -> dict[str, Any]:
    """The scores of the run and how it described images; or why no score is one of this network."""
    models, manifest = run.list_models(), run.manifest(layout.EVALUATE)
    outdated = run.find_outdated(layout.EVALUATE)
    extracted = run.manifest(layout.descriptors(model, "index"))
    if manifest is None:
        return {"unmeasured": f"the run has no {layout.EVALUATE}"}
    if extracted is None or model not in models or layout.final_network(model) not in extracted.key["inputs"]:
        return {"unmeasured": "the run has searched without this network"}
    if outdated or find_damage(run.path / layout.EVALUATE, manifest):
        return {"unmeasured": f"the run has changed since ({outdated or 'its scores'})"}
    settings = extracted.key["settings"]
    longest = settings.get("max_side_px")
    return {
        "metrics": json.loads((run.path / layout.EVALUATE / "metrics.json").read_text(encoding="utf-8")),
        "models": models,
        "whitened": run.find_descriptors("index").references == [layout.whitened("index")],
        "scales": settings["scales"],
        "mirrored": settings.get("mirror", False),
        "sizes": f"a longer side of {longest} px" if longest else f"the template {settings['template']}",
    }
