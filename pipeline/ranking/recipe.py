"""Recipes: the names of ranking steps, checked by the registry and applied one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, create_model

from pipeline.arrays import Vectors
from pipeline.catalogue import LIST_LENGTH
from pipeline.competition.junk import mark_junk
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.evidence import DescriptorPair, Evidence, Junk, TrainNeighbours
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.registry import STEPS
from pipeline.settings import Name, Positive, Settings, one_of

Search = Callable[[Vectors, Vectors, int], Neighbours]  # (queries, index, k) -> the nearest index images


# ---- Settings -------------------------------------------------------------------------------------------------------


def check_recipe(recipe: list[str]) -> list[str]:
    """The recipe. Raises ValueError where it does not start with knn, or a step cannot follow another."""
    if recipe[0] != "knn" or "knn" in recipe[1:]:
        raise ValueError("a recipe starts with knn, and has it once")
    for position, name in enumerate(recipe):
        before = [other for other in recipe[:position] if STEPS[other].adds_other_scores]
        if STEPS[name].reads_similarities and before:
            raise ValueError(f"{name} reads similarities: it comes before {before[0]}, which lists images with others")
    return recipe


def _check_baselines(baselines: dict[str, list[str]]) -> dict[str, list[str]]:
    if "recipe" in baselines:
        raise ValueError("recipe is the name of the submission's own: choose another for the baseline")
    return baselines


Recipe = Annotated[list[Annotated[str, one_of(STEPS)]], Field(min_length=1), AfterValidator(check_recipe)]
_StepSections: Any = create_model(
    "_StepSections",
    __base__=Settings,
    **{step.name: (step.settings, step.settings()) for step in STEPS.values() if step.settings.model_fields},  # type: ignore[call-overload]
)


class RerankSettings(_StepSections):
    """The recipe of the submission, the baselines measured beside it, and a section of settings for each step."""

    recipe: Recipe = Field(default=["knn", "sort", "insert"])  # names of the submission's ranking steps, in order
    # further recipes, measured beside it
    baselines: Annotated[dict[Name, Recipe], AfterValidator(_check_baselines)] = Field(default={})
    top_k: Positive = LIST_LENGTH  # length of every list; a competition accepts no more

    def of_step(self, name: str) -> Settings:
        """The settings of one step."""
        return getattr(self, name, Settings())

    def needs(self, recipe: Sequence[str]) -> set[type]:
        """The kinds of evidence that the steps of a recipe need."""
        return {kind for name in recipe for kind in STEPS[name].needs(self.of_step(name))}

    def key_settings(self, recipe: Sequence[str]) -> dict[str, Any]:
        """The settings that affect the rankings of this recipe (part of the cache key)."""
        own = {name: self.of_step(name).model_dump(mode="json") for name in recipe if hasattr(self, name)}
        return {"recipe": list(recipe), "top_k": self.top_k, "steps": own}

    def count_train_votes(self) -> dict[str, int]:
        """How many train neighbours each step that reads them asks for, by its name; only steps of the recipes."""
        names = {name for recipe in self.recipes.values() for name in recipe}
        reading = sorted(name for name in names if TrainNeighbours in STEPS[name].needs(self.of_step(name)))
        return {name: getattr(self.of_step(name), "votes") for name in reading}  # noqa: B009 (no field of Settings)

    @property
    def recipes(self) -> dict[str, list[str]]:
        """The submission's recipe, called recipe, and its baselines, by name."""
        return {"recipe": self.recipe, **self.baselines}


# ---- Running --------------------------------------------------------------------------------------------------------


class StepResult(NamedTuple):
    """A step of a recipe: its name, the ranking after it, cut to top_k, and the seconds that it took."""

    step: str
    ranking: Ranking
    seconds: float


class State(NamedTuple):
    """The whole lists between two steps, and the evidence that the next step reads."""

    ranking: Ranking
    evidence: Evidence


def run_recipe(recipe: Sequence[str], start: State, settings: RerankSettings, search: Search) -> Iterator[StepResult]:
    """The result of every step in turn, starting from the nearest neighbours.

    A step gets the whole lists of the step before it, also where they are longer than top_k, and the descriptors as the
    steps before it have moved them; the neighbours of the index in itself stay those of the original descriptors.
    Raises ValueError where the evidence lacks what a step needs.
    """
    state = start
    for name in recipe:
        begun = time.perf_counter()
        state = apply_step(name, state, settings, search)
        yield StepResult(name, state.ranking.top(settings.top_k), time.perf_counter() - begun)


def apply_step(name: str, state: State, settings: RerankSettings, search: Search) -> State:
    """The lists after one step, without junk, and the evidence for the steps after it.

    No step gets junk: what a step that searches again brings back is removed after it.
    """
    step, own, (ranking, evidence) = STEPS[name], settings.of_step(name), state
    result = step.apply(ranking, own, settings.top_k, *(evidence.get(kind) for kind in step.needs(own)))
    return continue_from(result, state, search)


def continue_from(result: Ranking | DescriptorPair, state: State, search: Search) -> State:
    """The state after a step that gave this result; where it moved descriptors, the queries search again."""
    ranking, evidence = state
    if isinstance(result, DescriptorPair):
        evidence = evidence.replace(result)
        near = search(result.queries, result.index, ranking.rows.shape[1])
        result = Ranking(near.rows, near.similarities, len(result.index))
    junk = evidence.get(Junk).rows
    if junk is not None:
        result = result.without(mark_junk(result.rows, junk))
    return State(result, evidence)
