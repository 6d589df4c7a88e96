"""The ranking steps by name: what each needs, its settings, and the recipes that are made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pipeline.catalogue import LIST_LENGTH
from pipeline.settings import Fraction, Name, Positive, Settings

Step = Literal[
    "knn", "verify", "sort", "insert", "soft", "label_vector", "label_score",
    "aqe", "alpha_qe", "dba", "diffusion", "graph_traversal", "k_reciprocal", "superglobal",
]  # fmt: skip
READS_SIMILARITIES = ("soft", "label_score", "diffusion", "graph_traversal")  # of the lists: not after …
ADDS_OTHER_SCORES = ("insert", "label_vector", "graph_traversal")  # … what adds images with other scores to them
NEEDS_DESCRIPTORS = ("soft", "label_score", "aqe", "alpha_qe", "dba", "k_reciprocal", "superglobal")
NEEDS_TRAIN_NEIGHBOURS = ("label_vector", "label_score")
NEEDS_LABELS = ("sort", "insert", "soft", "label_vector", "label_score")  # of a train set
NEEDS_GRAPH = ("dba", "diffusion", "graph_traversal")  # neighbours of the index in itself


def _check_recipe(steps: list[str]) -> list[str]:
    if steps[0] != "knn" or "knn" in steps[1:]:
        raise ValueError("a recipe starts with knn, and has it once")
    for place, step in enumerate(steps):
        before = [other for other in steps[:place] if other in ADDS_OTHER_SCORES]
        if step in READS_SIMILARITIES and before:
            raise ValueError(f"{step} reads similarities: it comes before {before[0]}, which lists images with others")
    return steps


def _check_baselines(baselines: dict[str, list[str]]) -> dict[str, list[str]]:
    if "recipe" in baselines:
        raise ValueError("recipe is the name of the submission's own: choose another for the baseline")
    return baselines


Recipe = Annotated[list[Step], Field(min_length=1), AfterValidator(_check_recipe)]


class AverageExpansionSettings(Settings):
    """The step aqe: the query becomes the mean of itself and its nearest images."""

    k: Positive = 5


class AlphaExpansionSettings(Settings):
    """The step alpha_qe: the same, each image weighted by its cosine to a power."""

    k: Positive = 10
    alpha: Annotated[float, Field(ge=0.0)] = 3.0


class DatabaseSettings(Settings):
    """The step dba: every index image moves towards its nearest, then the queries search again."""

    k: Positive = 5
    alpha: Annotated[float, Field(ge=0.0)] = 3.0
    supervised: bool = False  # towards images that soft voting gives the same landmark, alone


class DiffusionSettings(Settings):
    """The step diffusion."""

    truncate: Positive = 1000  # images of a list among which it spreads
    first_k: Positive = 10  # where it starts
    gamma: Annotated[float, Field(gt=0.0)] = 3.0
    alpha: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    iterations: Positive = 20
    tolerance: Annotated[float, Field(gt=0.0)] = 1e-6


class TraversalSettings(Settings):
    """The step graph_traversal (EGT)."""

    threshold: float = float("inf")  # an edge above it is followed at once; inf: always the single best
    explore_k: Positive = 50


class KReciprocalSettings(Settings):
    """The step k_reciprocal, inside a shortlist."""

    first: Positive = 100
    k1: Positive = 20
    k2: Positive = 6
    weight: Fraction = 0.3  # of the original distance


class SuperGlobalSettings(Settings):
    """The step superglobal, inside a shortlist."""

    first: Positive = 100
    neighbours: Positive = 9
    beta: Annotated[float, Field(ge=0.0)] = 0.15


class SoftSettings(Settings):
    """The step soft: sort and insert in one formula."""

    bonus: Annotated[float, Field(ge=0.0)] = 1.0
    penalty: Annotated[float, Field(ge=0.0)] = 0.1


class LabelVectorSettings(Settings):
    """The step label_vector."""

    votes: Positive = 5


class LabelScoreSettings(Settings):
    """The step label_score: soft with all landmarks that an image's neighbours name in place of one."""

    votes: Positive = 5
    sharpness: Annotated[float, Field(ge=1.0)] = 10.0  # more say for nearer neighbours; 1: each its cosine
    alpha: Annotated[float, Field(ge=0.0)] = 3.0


class RerankSettings(Settings):
    """The recipe of the submission, the recipes measured beside it, and the settings of their steps."""

    recipe: Recipe = Field(default=["knn", "sort", "insert"])
    baselines: Annotated[dict[Name, Recipe], AfterValidator(_check_baselines)] = Field(default={})
    top_k: Positive = LIST_LENGTH  # of every list; a competition takes no more
    min_confidence: Annotated[float, Field(ge=0.0, le=2.0)] = 0.6  # query's plus image's, to be inserted

    aqe: AverageExpansionSettings = AverageExpansionSettings()
    alpha_qe: AlphaExpansionSettings = AlphaExpansionSettings()
    dba: DatabaseSettings = DatabaseSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    graph_traversal: TraversalSettings = TraversalSettings()
    k_reciprocal: KReciprocalSettings = KReciprocalSettings()
    superglobal: SuperGlobalSettings = SuperGlobalSettings()
    soft: SoftSettings = SoftSettings()
    label_vector: LabelVectorSettings = LabelVectorSettings()
    label_score: LabelScoreSettings = LabelScoreSettings()

    def settings_of(self, steps: list[Step]) -> dict[str, Any]:
        """What of this changes the ranking by these steps."""
        own = {step: getattr(self, step).model_dump(mode="json") for step in steps if hasattr(self, step)}
        return own | {"top_k": self.top_k} | ({"min_confidence": self.min_confidence} if "insert" in steps else {})

    @property
    def recipes(self) -> dict[str, list[Step]]:
        """The submission's recipe, called recipe, and its baselines, by name."""
        return {"recipe": self.recipe, **self.baselines}
