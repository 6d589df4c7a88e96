"""The settings of every stage: one class per section of a configuration, with types, ranges and defaults.

The settings of the ranking steps stand in the modules of the steps (pipeline/ranking).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pipeline.catalogue import AUGMENTATIONS, HEADS, POOLINGS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]  # 32: the stride of the deepest feature map
TemplateName = Literal["SS", "SS2", "S", "S2", "SM2", "M", "M2", "L", "L2"]  # sizes in images/batches.py
Template = TemplateName | Annotated[list[tuple[Side, Side]], Field(min_length=1)]
Scale = Annotated[float, Field(gt=0.0, le=4.0)]
SPLITS = ("train", "index", "test")  # of every data set
NON_LANDMARK = "non_landmark"  # the split of photographs known to show no landmark, where there is one
BENCHMARKS = ("revisited", "holidays")  # sources with judgements of pairs instead of a competition's rules


class Settings(BaseModel):
    """A section of the configuration. Unknown keys are errors, and values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def one_of(names: Iterable[str]) -> AfterValidator:
    """A validator that refuses a name that is not in the catalogue."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"choose one of {', '.join(names)}")
        return name

    return AfterValidator(check)


class DataSettings(Settings):
    """Where the photographs are and what is accepted as one."""

    source: Literal["gldv2", "folders", "demo", "revisited", "holidays"] = "gldv2"
    root: Path = Path("data/gldv2")
    layout: Literal["auto", "nested", "flat"] = "auto"  # a/b/c/abc….jpg or abc….jpg; auto looks at the first ids
    max_bad_fraction: Fraction = 0.01  # of a split; more unreadable files than this stop stage 01
    strict_decode: bool = False  # decode every pixel in stage 01, not the header alone
    min_side_px: Positive = 8
    max_side_px: Positive = 20_000
    max_pixels: Positive = 100_000_000  # width x height; a larger picture is refused before it is decoded
    retrieval_solution: str = "retrieval_solution.csv"  # in root; without it stage 12 reports counts alone
    recognition_solution: str = "recognition_solution.csv"
    ground_truth: str = ""  # revisited: its file in root; empty: the only gnd_*.pkl there
    train_root: Path | None = None  # benchmarks: a labelled train set, in GLDv2's format
    distractors: Path | None = None  # benchmarks: a folder of further photographs behind the database, as R1M

    @property
    def is_benchmark(self) -> bool:
        """Whether photographs are judged pair by pair, in setups of their own, and nothing is handed in."""
        return self.source in BENCHMARKS

    @property
    def has_train(self) -> bool:
        """Whether there are labelled photographs."""
        return not self.is_benchmark or self.train_root is not None

    @property
    def clean_root(self) -> Path | None:
        """Where a clean list would lie beside its train set."""
        return self.train_root if self.is_benchmark else self.root

    @property
    def prepare_settings(self) -> dict[str, Any]:
        """What of this changes the tables of stage 01: not where things are, nor what only stage 12 reads."""
        elsewhere = {"root", "retrieval_solution", "recognition_solution"}
        own = {"ground_truth", "train_root", "distractors"} if not self.is_benchmark else set()
        return self.model_dump(mode="json", exclude=elsewhere | own)


class DemoSettings(Settings):
    """The size and the difficulty of the demo world."""

    landmarks: Annotated[int, Field(ge=2)] = 40
    train_images: Annotated[int, Field(ge=8)] = 900
    index_images: Annotated[int, Field(ge=4)] = 700
    test_images: Annotated[int, Field(ge=4)] = 240
    longest_side_px: Annotated[int, Field(ge=96, le=1024)] = 288
    wrong_label_fraction: Fraction = 0.1  # of train: another landmark's label, or a picture of no landmark
    distractor_fraction: Fraction = 0.3  # of index and of test: pictures of no landmark
    tail_exponent: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7  # images a landmark ~ rank^-exponent
    non_landmark_images: Count = 0  # pictures known to show no landmark: a split of their own

    @property
    def world_settings(self) -> dict[str, Any]:
        """What of this changes the world: a world without non-landmarks knows of none."""
        return self.model_dump(exclude=set() if self.non_landmark_images else {"non_landmark_images"})


class PhaseSettings(Settings):
    """One phase of training."""

    epochs: Count = 5  # 0: the network goes on as it came
    stop_after: Count = 0  # epochs that are run of these, on the schedule of all; 0: all
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    backbone_lr_scale: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0  # 0: backbone frozen, its BatchNorm too
    min_learning_rate: Annotated[float, Field(ge=0.0)] = 3e-6
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-5
    head: Annotated[str, one_of(HEADS)] = "arcface"
    margin: Annotated[float, Field(ge=0.0, lt=1.5)] = 0.3  # arcface, subcenter_arcface: radians; cosface: cosine
    min_margin: Annotated[float, Field(ge=0.0)] | None = None  # of the commonest landmark: margin is the rarest's then
    scale: Annotated[float, Field(gt=0.0)] = 30.0  # of the heads with a margin
    sub_centres: Positive = 3  # directions a landmark, of subcenter_arcface
    template: Template = "S2"  # the (width, height) of each aspect-ratio group, by name or as a list
    large_epochs: Count = 0  # of epochs, the last: at large_template, the backbone's BatchNorm frozen
    large_template: Template = "SM2"
    augment: Annotated[str, one_of(AUGMENTATIONS)] = "soft"
    freeze_batchnorm: bool = False
    validation_fraction: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05  # of train, held back
    checkpoint_steps: Positive = 500
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> PhaseSettings:
        for name in ("large_epochs", "stop_after"):
            if getattr(self, name) > self.epochs:
                raise ValueError(f"{name} = {getattr(self, name)} of {self.epochs} epochs")
        if self.min_margin is not None and not HEADS[self.head].margin:
            with_margin = ", ".join(name for name, traits in HEADS.items() if traits.margin)
            raise ValueError(f"min_margin needs a head with a margin: {with_margin}; {self.head} has none")
        if self.min_margin is not None and self.min_margin > self.margin:
            raise ValueError(f"min_margin = {self.min_margin} is above margin = {self.margin}")
        return self

    @property
    def epochs_run(self) -> int:
        """How many epochs are run."""
        return self.stop_after or self.epochs

    def is_large(self, epoch: int) -> bool:
        """Whether this epoch, counted from 0, is one of the large ones."""
        return epoch >= self.epochs - self.large_epochs


class ModelSettings(Settings):
    """One embedding network; several of them are an ensemble."""

    backbone: str = "resnet101"
    weights: str = "imagenet"  # none, imagenet, or a path to .safetensors / state-dict weights
    pooling: Annotated[str, one_of(POOLINGS)] = "gem"
    gem_power: Annotated[float, Field(ge=1.0, le=20.0)] = 3.0  # of gem: where the learnable exponent starts
    dims: Annotated[int, Field(ge=2)] = 512
    local: bool = True  # DELG's branch for local features, trained along
    checkpoint: Path | None = None  # a network of another run, outputs/<run>/04_train_final/<model>: no training
    weight: Annotated[float, Field(gt=0.0)] = 1.0  # of its vectors in the ensemble: squared in the cosine
    base: PhaseSettings = PhaseSettings()
    final: PhaseSettings = PhaseSettings()

    @property
    def architecture_settings(self) -> dict[str, Any]:
        """What a network that was trained before is held against."""
        return self.model_dump(include={"backbone", "pooling", "dims", "local"})

    @property
    def weights_file(self) -> Path | None:
        """The file that the backbone's weights come from, when they come from one."""
        return None if self.weights in ("none", "imagenet") else Path(self.weights)


class ExtractSettings(Settings):
    """Global descriptors."""

    template: Template = "L2"
    max_side_px: Annotated[int, Field(ge=0, le=4096)] = 0  # above 0: of a photograph at scale 1, in place of template
    scales: Annotated[list[Scale], Field(min_length=1)] = [0.75, 1.0, 1.25]
    batch_size: Positive = 16
    shard_rows: Positive = 4096  # what a kill can cost at most
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def descriptor_settings(self) -> dict[str, Any]:
        """What of this changes the descriptors."""
        unused = {"template"} if self.max_side_px else {"max_side_px"}
        return self.model_dump(exclude={"batch_size", "shard_rows"} | unused)


class SearchSettings(Settings):
    """Nearest neighbours."""

    index_k: Positive = 100  # neighbours of a test image in index
    train_k: Positive = 10  # neighbours of a test or index image in train
    graph_k: Positive = 50  # neighbours of an index image in index, where a step walks from image to image
    index_factory: str = "Flat"  # Flat = exact search; else any faiss index_factory string
    nprobe: Positive = 16  # inverted lists visited by an approximate index (faiss's nprobe)
    whiten_dims: Count = 0  # components that PCA, fitted on train, leaves of the joined descriptors at most; 0 = off
    whiten_power: Annotated[float, Field(ge=0.0, le=0.5)] = 0.25  # of the variances: 0.5 evens all out, 0 = plain PCA


class LocalSettings(Settings):
    """Local features, of the base network for cleaning and of the final one for verification."""

    model: str = ""  # whose local features are compared; empty: the first model that has a local branch
    max_side_px: Annotated[int, Field(ge=32, le=4096)] = 1024  # at scale 1; smaller photographs stay as they are
    scales: Annotated[list[Scale], Field(min_length=1)] = [0.25, 0.35355339, 0.5, 0.70710678, 1.0, 1.41421356, 2.0]
    max_features: Positive = 1000  # of a photograph, those with the most attention
    attention_quantile: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5  # of all cells: what a feature has to exceed
    calibration_photographs: Positive = 256  # of train, by which that quantile becomes a threshold
    suppression_cells: Annotated[int, Field(ge=0, le=8)] = 0  # a feature outdoes those so near in its map; 0 = off
    storage: Literal["float16", "int8", "bits"] = "float16"
    batch_size: Positive = 8
    shard_rows: Positive = 512
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def threshold_settings(self) -> dict[str, Any]:
        """What of this changes the threshold of attention."""
        names = {"max_side_px", "scales", "precision", "attention_quantile", "calibration_photographs"}
        return self.model_dump(include=names)

    @property
    def feature_settings(self) -> dict[str, Any]:
        """What of this changes the features, the threshold given."""
        names = {"max_side_px", "scales", "precision", "max_features", "suppression_cells", "storage"}
        return self.model_dump(include=names)


class VerifySettings(Settings):
    """Which photographs are compared by their local features, and how."""

    index_k: Positive = 100  # of a test image's neighbours in index
    train_k: Positive = 10  # and of those in train
    min_similarity: Annotated[float, Field(ge=-1.0, lt=1.0)] = 0.0  # cosine of two descriptors that match
    max_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # distance to the nearest / to the second; 1 = no test
    inlier_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02  # greatest residual, as a share of the longer side
    max_iterations: Positive = 1000  # RANSAC iterations per pair
    min_inliers: Count = 0  # the step verify counts fewer than this as none
    shard_pairs: Positive = 8192  # what a kill can cost at most

    @property
    def pair_settings(self) -> dict[str, Any]:
        """What of this changes the inliers of a pair."""
        return self.model_dump(include={"min_similarity", "max_ratio", "inlier_threshold", "max_iterations"})

    def first(self, split: str) -> int:
        """How many neighbours of a test image in this split are compared."""
        return {"index": self.index_k, "train": self.train_k}[split]


class CleanSettings(Settings):
    """The clean train set."""

    source: Literal["auto", "verify", "given", "none"] = "auto"  # auto: given when data.root has one, else verify
    nearest: Positive = 1000  # neighbours of a train image among which those of its landmark are looked for
    candidates: Positive = 100  # of these, at most so many are compared
    min_inliers: Positive = 30  # that make two photographs show the same
    min_neighbours: Positive = 3  # that an image needs to stay

    @property
    def kept_settings(self) -> dict[str, Any]:
        """What of this says which photographs stay, once they are compared."""
        return self.model_dump(include={"min_inliers", "min_neighbours"})


class VoteSettings(Settings):
    """Landmarks of index and test images by soft voting."""

    votes: Positive = 3
    sharpness: Annotated[float, Field(ge=1.0)] = 1.0  # more say for nearer neighbours; 1: each its cosine, as published
    max_inliers: Count = 0  # a test image's votes weigh similarity + min(inliers, this) / this; 0 = similarity alone


class RecognitionSettings(Settings):
    """The recognition answer."""

    votes: Positive = 3
    max_inliers: Count = 0  # a vote weighs similarity + min(inliers, this) / this; 0 = similarity alone
    power: Annotated[float, Field(gt=0.0)] = 1.0  # of the similarity in a vote; negative ones count 0 unless it is 1
    head_power: Annotated[float, Field(ge=0.0)] = 0.0  # of the head's cosine, which a label's votes are times; 0 = off
    non_landmarks: bool = False  # similarity to photographs of no landmark counts against a vote and an answer …
    penalty_train_k: Positive = 5  # … of so many nearest ones of the train image that votes …
    penalty_test_k: Positive = 10  # … and of the test image
    ban_above: Count = 0  # a label predicted for more test images than this is a non-landmark; 0 = no ban

    @property
    def answer_settings(self) -> dict[str, Any]:
        """What of this changes the answer."""
        return self.model_dump(exclude=set() if self.non_landmarks else {"penalty_train_k", "penalty_test_k"})


class SubmitSettings(Settings):
    """The submission files."""

    gzip: bool = False


class RuntimeSettings(Settings):
    """How the work is done; no answer depends on it."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1 …
    workers: Annotated[int, Field(ge=-1)] = -1  # loader processes; -1 = one a core
    outputs: Path = Path("outputs")
