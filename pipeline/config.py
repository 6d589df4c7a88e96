"""The configuration of a run: all sections of settings, checked against each other, read from TOML plus overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from pipeline.catalogue import LIST_LENGTH
from pipeline.config_file import read_values
from pipeline.errors import PipelineError
from pipeline.ranking.evidence import IndexGraph, PropagatedLabels, VerifiedPairs
from pipeline.ranking.recipe import RerankSettings
from pipeline.ranking.registry import STEPS
from pipeline.settings import (
    GRAPH,
    NON_LANDMARK,
    CleanSettings,
    Count,
    DataSettings,
    DemoSettings,
    ExtractSettings,
    LocalSettings,
    ModelSettings,
    Name,
    PropagationSettings,
    RecognitionSettings,
    ReportSettings,
    RuntimeSettings,
    SearchSettings,
    Settings,
    SubmitSettings,
    VerifySettings,
    VoteSettings,
)

SHOWN = 200  # characters of a wrong value that an error quotes


class Config(Settings):
    """Every setting of a run."""

    run: Name  # folder of the run in runtime.outputs; by default the name of the configuration file
    seed: Count = 2019  # of every random generator
    data: DataSettings = DataSettings()
    demo: DemoSettings = DemoSettings()
    models: dict[Name, ModelSettings] = Field(default_factory=lambda: {"cnn": ModelSettings()}, min_length=1)
    extract: ExtractSettings = ExtractSettings()
    search: SearchSettings = SearchSettings()
    local: LocalSettings = LocalSettings()
    verify: VerifySettings = VerifySettings()
    clean: CleanSettings = CleanSettings()
    vote: VoteSettings = VoteSettings()
    propagation: PropagationSettings = PropagationSettings()
    recognition: RecognitionSettings = RecognitionSettings()
    rerank: RerankSettings = RerankSettings()
    submit: SubmitSettings = SubmitSettings()
    report: ReportSettings = ReportSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @property
    def local_model(self) -> str:
        """The name of the model whose local features are compared; empty when no model has any."""
        return self.local.model or next((name for name, model in self.models.items() if model.has_local), "")

    @property
    def networks(self) -> dict[str, ModelSettings]:
        """The models that describe images; the others are descriptors from elsewhere."""
        return {name: model for name, model in self.models.items() if model.is_network}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read; photographs of no landmark when recognition penalises by them."""
        return ("train", "index", "test") + (NON_LANDMARK,) * self.recognition.non_landmarks

    @property
    def needs_index_graph(self) -> bool:
        """Whether any step needs the neighbours of the index in itself."""
        return any(IndexGraph in self.rerank.needs(recipe) for recipe in self.rerank.recipes.values())

    @property
    def needs_propagation(self) -> bool:
        """Whether labels spread through the graph of train and index."""
        asking = any(PropagatedLabels in self.rerank.needs(recipe) for recipe in self.rerank.recipes.values())
        return asking or self.recognition.propagation > 0

    @property
    def verified_splits(self) -> list[str]:
        """The splits that test images are compared with: index when a recipe verifies, train when a vote asks."""
        index = any(VerifiedPairs in self.rerank.needs(recipe) for recipe in self.rerank.recipes.values())
        return ["index"] * index + ["train"] * (self.recognition.max_inliers > 0 or self.vote.max_inliers > 0)

    @property
    def min_inliers(self) -> int:
        """The inliers from which a pair is shown to a person: with fewer, an agreement may be chance."""
        return self.rerank.verify.min_inliers or self.clean.min_inliers

    def count_neighbours(self, queries: str, base: str) -> int:
        """How many neighbours in the split `base` each image of the split `queries` gets."""
        if base == NON_LANDMARK:
            return self.recognition.penalty_test_k if queries == "test" else self.recognition.penalty_train_k
        if queries == GRAPH:
            return self.propagation.neighbours
        if queries == base:
            return self.search.graph_k
        return self.search.index_k if base == "index" else self.search.train_k

    @model_validator(mode="after")
    def _check_local(self) -> Config:
        if self.local.model and self.local.model not in self.models:
            raise ValueError(f"local.model = {self.local.model} is none of the models {', '.join(self.models)}")
        if self.local.model and not self.models[self.local.model].has_local:
            is_network = self.models[self.local.model].is_network
            hint = "set local = true in it" if is_network else "its descriptors came from elsewhere, name a network"
            raise ValueError(f"local.model = {self.local.model} has no local features: {hint}")
        users = {
            "the step verify": "index" in self.verified_splits,
            "recognition.max_inliers": self.recognition.max_inliers > 0,
            "vote.max_inliers": self.vote.max_inliers > 0,
            "clean.source = verify": self.clean.source == "verify",
        }
        asking = next((name for name, asks in users.items() if asks), "")
        if asking and not self.local_model:
            if not self.networks:
                off = {"the step verify": "leave the step out", "clean.source = verify": "set clean.source = auto"}
                instead = off.get(asking, f"set {asking} = 0")
                raise ValueError(f"{asking} needs a network, and all descriptors come from elsewhere: {instead}")
            raise ValueError(f"{asking} needs local features: set local = true in a model, and train it")
        for split in self.verified_splits:
            asked, known = self.verify.first(split), getattr(self.search, f"{split}_k")
            if asked > known:
                raise ValueError(f"verify.{split}_k = {asked} needs as many neighbours: search.{split}_k is {known}")
        return self

    @model_validator(mode="after")
    def _check_whitening(self) -> Config:
        asked, known = self.search.whiten_dims, sum(model.dims for model in self.models.values())
        # No setting says D of descriptors from elsewhere, or of a backbone that is not trained.
        if asked > known and all(model.is_network and model.train for model in self.models.values()):
            raise ValueError(f"search.whiten_dims = {asked} is more than the {known} dims of all models together")
        return self

    @model_validator(mode="after")
    def _check_data(self) -> Config:
        data = self.data
        if not data.is_benchmark:
            if data.train_root or data.distractors or data.ground_truth:
                raise ValueError(f"data.source = {data.source} takes no ground_truth, train_root or distractors")
            if self.rerank.top_k > LIST_LENGTH:
                raise ValueError(f"rerank.top_k = {self.rerank.top_k}: a submission holds {LIST_LENGTH} images a query")
        if data.is_benchmark and self.recognition.non_landmarks:
            raise ValueError(f"data.source = {data.source} asks nothing of recognition: no recognition.non_landmarks")
        if not data.has_train:
            self._refuse_labels()
        if data.is_searched_in_itself and self.runtime.outputs.absolute().is_relative_to(data.root.absolute()):
            raise ValueError(
                f"runtime.outputs = {self.runtime.outputs} lies among the photographs that are searched: "
                "set it to a folder outside of data.root"
            )
        return self

    def _refuse_labels(self) -> None:
        """ValueError that names what asks for labelled photographs, of which there are none."""
        asking = [
            f"the step {step} of the recipe {name}"
            for name, recipe in self.rerank.recipes.items()
            for step in recipe
            if STEPS[step].needs_labels(self.rerank.of_step(step))
        ]
        asking += ["recognition.max_inliers"] * (self.recognition.max_inliers > 0)
        asking += ["vote.max_inliers"] * (self.vote.max_inliers > 0)
        asking += ["recognition.propagation"] * (self.recognition.propagation > 0)
        asking += ["recognition.non_landmarks"] * self.recognition.non_landmarks
        asking += ["search.whiten_dims"] * (self.search.whiten_dims > 0 and self.search.whiten_on == "train")
        asking += [f"clean.source = {self.clean.source}"] * (self.clean.source in ("verify", "given"))
        asking += [f"training models.{name}" for name, model in self.models.items() if model.is_trained_here]
        if asking:
            add = "set data.train_root to one" if self.data.is_benchmark else "add train/<landmark>/ to data.root"
            hints = {"training": ", or give models.<name>.checkpoint", "search.whiten_dims": ", or whiten_on = 'index'"}
            hint = hints.get(asking[0].split()[0], "")
            hint += "" if self.data.is_benchmark else "; configs/search.toml searches without labels"
            raise ValueError(f"{asking[0]} needs a labelled train set: {add}{hint}")

    @model_validator(mode="after")
    def _check_networks(self) -> Config:
        external = next((name for name, model in self.models.items() if not model.is_network), "")
        untrained = next((name for name, model in self.models.items() if not model.train), "")
        if untrained and self.recognition.head_power:
            raise ValueError(
                f"recognition.head_power needs the classifier of every model, and models.{untrained} is not trained: "
                "set recognition.head_power = 0"
            )
        if self.recognition.propagation and (self.recognition.power != 1.0 or self.recognition.head_power):
            raise ValueError(
                f"recognition.propagation = {self.recognition.propagation} is added to plain votes: set "
                "recognition.power = 1.0 and recognition.head_power = 0"
            )
        if external and self.recognition.head_power:
            raise ValueError(
                f"recognition.head_power needs the classifier of every model, and models.{external}.descriptors come "
                "from elsewhere: set recognition.head_power = 0"
            )
        if not self.data.photographs and self.networks:
            raise ValueError(
                f"data.photographs = false leaves models.{next(iter(self.networks))} nothing to describe: set "
                "models.<name>.descriptors in its place"
            )
        if not self.data.photographs and self.data.source != "gldv2":
            raise ValueError(
                f"data.photographs = false needs the tables of data.source = gldv2, not {self.data.source}"
            )
        return self

    @model_validator(mode="after")
    def _check_votes(self) -> Config:
        asked = {"vote": self.vote.votes, "recognition": self.recognition.votes}
        for split in ("index", "train") if self.needs_propagation else ():
            known = getattr(self.search, f"{split}_k")
            if self.propagation.neighbours > known:
                what = f"propagation.neighbours = {self.propagation.neighbours} needs as many neighbours"
                raise ValueError(f"{what}: search.{split}_k is {known}")
        asked |= {f"rerank.{name}": votes for name, votes in self.rerank.count_train_votes().items()}
        for name, votes in asked.items():
            if votes > self.search.train_k:
                raise ValueError(
                    f"{name}.votes = {votes} needs as many neighbours: search.train_k is {self.search.train_k}"
                )
        return self

    @model_validator(mode="after")
    def _check_non_landmarks(self) -> Config:
        if self.recognition.non_landmarks and self.data.source == "demo" and not self.demo.non_landmark_images:
            raise ValueError("recognition.non_landmarks needs some in the demo world: demo.non_landmark_images is 0")
        return self


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """The settings in the TOML file `path`, with `section.key=value` overrides applied on top.

    A value is read as TOML where it is one (`3`, `true`, `["knn", "sort"]`), as plain text otherwise. `run` defaults to
    the file's name. Raises PipelineError naming key, file and what is allowed.
    """
    values = read_values(path, overrides or [])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise PipelineError(
            _format_errors(error), path, "correct the setting in this file or on the command line"
        ) from None


def _format_errors(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown setting {key}; known there: {_known_keys(item['loc'][:-1])}")
        else:
            given = (
                f"setting {key} = {item['input']!r:.{SHOWN}}: " if key else ""
            )  # no key: settings that do not fit together
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{given}{message[0].lower()}{message[1:]}")
    return "\n".join(lines)


def _known_keys(location: tuple[int | str, ...]) -> str:
    model: Any = Config
    for part in location:
        if part == "models":
            model = {"any": ModelSettings}
        else:
            model = model["any"] if isinstance(model, dict) else model.model_fields[part].annotation
    return ", ".join(model.model_fields)
