"""The settings of every stage: one class per section of a configuration, with types, ranges and defaults.

The settings of the ranking steps stand in the modules of the steps (pipeline/ranking).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pipeline.catalogue import AUGMENTATIONS, HEADS, POOLINGS, PUBLISHED

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]  # 32: the stride of the deepest feature map
TemplateName = Literal["SS", "SS2", "S", "S2", "SM2", "M", "M2", "L", "L2"]  # sizes in images/batches.py
Template = TemplateName | Annotated[list[tuple[Side, Side]], Field(min_length=1)]
Scale = Annotated[float, Field(gt=0.0, le=4.0)]
SPLITS = ("train", "index", "test")  # of every data set
Precision = Literal["auto", "float32", "bfloat16"]
NON_LANDMARK = "non_landmark"  # the optional split of images known to show no landmark
GRAPH, GRAPH_SPLITS = "graph", ("train", "index")  # the images that labels spread among, one split after the other
BENCHMARKS = ("revisited", "holidays")  # sources that are graded per query and image, without submissions


def check_path(path: Path) -> Path:
    """The path. Raises ValueError for one that no file system can hold."""
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > 255 or len(os.fsencode(path)) > 4000:
        raise ValueError(f"no path is so long: {len(str(path))} characters, {longest} bytes in one name")
    return path


SomePath = Annotated[Path, AfterValidator(check_path)]


class Settings(BaseModel):
    """A section of the configuration. Unknown keys are errors, and values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def one_of(names: Iterable[str]) -> AfterValidator:
    """A validator that refuses a name that is not in the catalogue."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"choose one of {', '.join(names)}")
        return name

    return AfterValidator(check)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name of thousands of characters, a folder that may not be read: the work says so
        return False


def has_no_splits(root: Path) -> bool:
    """Whether a folder has none of train/, index/ and test/."""
    return not any(_is_folder(root / split) for split in SPLITS)


class DataSettings(Settings):
    """Where the photographs are and what is accepted as one."""

    source: Literal["gldv2", "folders", "demo", "revisited", "holidays"] = "gldv2"  # data/README.md has the forms
    root: SomePath = Path("data/gldv2")  # the folder of the data set
    photographs: bool = True  # false: only the tables are there, and all descriptors come from elsewhere
    layout: Literal["auto", "nested", "flat"] = "auto"  # a/b/c/abc….jpg or abc….jpg; auto: by the first ids
    max_bad_fraction: Fraction = 0.01  # share of a split's files that may be rejected before stage 01 stops
    strict_decode: Literal["auto"] | bool = "auto"  # decode every pixel in stage 01; auto: below 4,000 million pixels
    check_archives: bool = False  # compare archives below root with the MD5 lists beside them, before anything is read
    min_side_px: Positive = 8  # images with a shorter side are rejected
    max_side_px: Positive = 20_000  # images with a longer side are rejected
    max_pixels: Positive = 100_000_000  # width x height; larger images are rejected before they are decoded
    follow_links: bool = False  # whether links below root may lead out of it; root itself may always be a link
    retrieval_solution: str = "retrieval_solution.csv"  # file in root; without it stage 12 reports only counts
    recognition_solution: str = "recognition_solution.csv"  # file in root, likewise
    ground_truth: str = ""  # revisited: the file in root; empty: the only gnd_*.pkl there
    train_root: SomePath | None = None  # benchmarks: a labelled train set, in GLDv2's format
    distractors: SomePath | None = None  # benchmarks: a folder of images added to the database, such as R1M
    # train photographs that are not used: a CSV with a column train or id, such as overlap.csv of another run
    leave_out: SomePath | None = None

    @property
    def is_benchmark(self) -> bool:
        """True for ROxford, RParis, Holidays: graded per query–image pair under one or more protocols."""
        return self.source in BENCHMARKS

    @property
    def has_train(self) -> bool:
        """Whether there is a labelled train set. Plain folders are looked at: they may lack train/."""
        if self.source == "folders":
            return not _is_folder(self.root) or _is_folder(self.root / "train")  # stage 01 reports a missing root
        return not self.is_benchmark or self.train_root is not None

    @property
    def is_searched_in_itself(self) -> bool:
        """Whether every image is a query and a database image at once: plain folders without train/, index/, test/."""
        return self.source == "folders" and _is_folder(self.root) and has_no_splits(self.root)

    @property
    def clean_root(self) -> Path | None:
        """The folder that a clean list would be in, beside its train set."""
        return self.train_root if self.is_benchmark else self.root

    @property
    def prepare_settings(self) -> dict[str, Any]:
        """The settings that affect the tables of stage 01 (part of the cache key)."""
        elsewhere = {"root", "retrieval_solution", "recognition_solution", "leave_out"}  # the list enters by content
        own = {"ground_truth", "train_root", "distractors"} if not self.is_benchmark else set()
        unset = {"follow_links"} if not self.follow_links else set()
        unset |= {"photographs"} if self.photographs else set()
        return self.model_dump(mode="json", exclude=elsewhere | own | unset)


class DemoSettings(Settings):
    """The size and the difficulty of the demo world."""

    landmarks: Annotated[int, Field(ge=2)] = 40  # buildings in the world
    train_images: Annotated[int, Field(ge=8)] = 900  # size of the train split
    index_images: Annotated[int, Field(ge=4)] = 700  # size of the index split
    test_images: Annotated[int, Field(ge=4)] = 240  # size of the test split
    longest_side_px: Annotated[int, Field(ge=96, le=1024)] = 288  # of every image
    wrong_label_fraction: Fraction = 0.1  # share of train with another landmark's label, or showing no landmark
    distractor_fraction: Fraction = 0.3  # share of index and of test that shows no landmark
    tail_exponent: Annotated[float, Field(ge=0.0, le=2.0)] = (
        0.7  # images per landmark are proportional to rank^-exponent
    )
    non_landmark_images: Count = 0  # size of the split of images known to show no landmark; 0 = no such split

    @property
    def world_settings(self) -> dict[str, Any]:
        """The settings that affect the world (part of the cache key)."""
        return self.model_dump(exclude=set() if self.non_landmark_images else {"non_landmark_images"})


class PhaseSettings(Settings):
    """One phase of training."""

    epochs: Count = 5  # 0 = skip this phase; weights pass through unchanged
    stop_after: Count = 0  # epochs that are run, on the schedule of all epochs; 0 = all
    batch_size: Annotated[int, Field(ge=2)] = 32  # images per optimiser step
    accumulate: Positive = 1  # parts of a batch that are computed one after another, so that it fits into less memory
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3  # at the first step
    backbone_lr_scale: Annotated[float, Field(ge=0.0, le=1.0)] = (
        1.0  # factor for the backbone; 0 = frozen, its BatchNorm too
    )
    trained_blocks: Count = 0  # last blocks of the backbone that are trained, the others are frozen; 0 = all
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = (
        1.0  # factor of the learning rate from each block of the backbone to the one before it
    )
    gradient_checkpointing: bool = False  # compute activations again instead of keeping them; for models of timm
    average_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # of the weights' moving average; 0 = the weights
    keep: Literal["last", "best"] = "last"  # weights of the last epoch, or of the one that validates best
    min_learning_rate: Annotated[float, Field(ge=0.0)] = 3e-6  # at the end of the cosine schedule
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9  # of SGD
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-5  # of SGD
    head: Annotated[str, one_of(HEADS)] = "arcface"  # classification head
    margin: Annotated[float, Field(ge=0.0, lt=1.5)] = 0.3  # arcface, subcenter_arcface: radians; cosface: cosine
    min_margin: Annotated[float, Field(ge=0.0)] | None = (
        None  # margin of the most frequent landmark; `margin` is then the rarest's
    )
    scale: Annotated[float, Field(gt=0.0)] = 30.0  # of the logits, for heads with a margin
    sub_centres: Positive = 3  # weight vectors per landmark, for subcenter_arcface
    template: Template = "S2"  # (width, height) of each aspect-ratio bucket, by name or as a list
    large_epochs: Count = 0  # last epochs at large_template, with the backbone's BatchNorm frozen
    large_template: Template = "SM2"  # buckets of the large epochs
    augment: Annotated[str, one_of(AUGMENTATIONS)] = "soft"  # preset of random changes to train images
    augment_copies: Count = 0  # changed copies of each image, which the epochs take in turn; 0 = another every epoch
    freeze_batchnorm: bool = False  # of the backbone, statistics and weights
    validation_fraction: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05  # share of the phase's train images held out
    checkpoint_steps: Positive = 500  # optimiser steps between two saved training states
    precision: Precision = (
        "auto"  # of the backbone; auto: bfloat16 where the hardware multiplies it; float32 for what a CPU trains
    )

    @model_validator(mode="after")
    def _check(self) -> PhaseSettings:
        for name in ("large_epochs", "stop_after"):
            if getattr(self, name) > self.epochs:
                raise ValueError(f"{name} = {getattr(self, name)} of {self.epochs} epochs")
        if self.keep == "best" and not self.validation_fraction:
            raise ValueError("keep = best needs images to validate on: set validation_fraction above 0")
        if self.backbone_lr_scale == 0.0 and (self.trained_blocks or self.gradient_checkpointing):
            raise ValueError("backbone_lr_scale = 0 freezes all: leave out trained_blocks and gradient_checkpointing")
        if self.augment_copies and self.large_epochs:
            raise ValueError("augment_copies keeps the size of every image: it excludes large_epochs")
        if self.min_margin is not None and not HEADS[self.head].margin:
            with_margin = ", ".join(name for name, traits in HEADS.items() if traits.margin)
            raise ValueError(f"min_margin needs a head with a margin: {with_margin}; {self.head} has none")
        if self.min_margin is not None and self.min_margin > self.margin:
            raise ValueError(f"min_margin = {self.min_margin} is above margin = {self.margin}")
        return self

    @property
    def epochs_run(self) -> int:
        """The number of epochs that are run."""
        return self.stop_after or self.epochs

    def is_large(self, epoch: int) -> bool:
        """Whether this epoch, counted from 0, uses large_template."""
        return epoch >= self.epochs - self.large_epochs


class ModelSettings(Settings):
    """One embedding network; several of them are an ensemble."""

    backbone: str = "resnet101"  # name of the network, see docs/network.md; timm/<name> for any model of timm
    weights: str = "imagenet"  # none, imagenet (as published), or a file or Hugging Face folder of weights
    class_token: bool = False  # whether a transformer's class token is joined to its pooled patches
    pooling: Annotated[str, one_of(POOLINGS)] = "gem"  # of the deep feature map
    gem_power: Annotated[float, Field(ge=1.0, le=20.0)] = 3.0  # initial value of the learnable exponent of gem
    dims: Annotated[int, Field(ge=2)] = 512  # of the descriptor
    local: bool = True  # whether DELG's branch for local features is trained too
    train: bool = True  # false: the backbone as it is, pooled, without a projection; its cells are the local features
    checkpoint: SomePath | None = None  # folder of a trained network to use instead of training
    # folder of descriptors that other code made, in place of a network (docs/howto.md)
    descriptors: SomePath | None = None
    weight: Annotated[float, Field(gt=0.0)] = 1.0  # of its descriptors in the ensemble; counts squared in the cosine
    # trainings of phase 2, with different random numbers, the mean of whose weights is the final network
    averaged_trainings: Positive = 1
    base: PhaseSettings = PhaseSettings()  # phase 1, on the noisy train set
    final: PhaseSettings = PhaseSettings()  # phase 2, on the clean train set

    @model_validator(mode="after")
    def _check_descriptors(self) -> ModelSettings:
        unused = sorted(self.model_fields_set - {"descriptors", "weight"})
        if self.descriptors is not None and unused:
            raise ValueError(f"descriptors stand in place of a network: leave out {', '.join(unused)}")
        return self

    @model_validator(mode="after")
    def _check_untrained(self) -> ModelSettings:
        unused = sorted(self.model_fields_set & {"dims", "checkpoint", "base", "final", "averaged_trainings"})
        if not self.train and unused:
            raise ValueError(f"train = false takes the backbone as it is: leave out {', '.join(unused)}")
        return self

    @property
    def is_network(self) -> bool:
        """Whether this model describes images; else its descriptors came from elsewhere."""
        return self.descriptors is None

    @property
    def is_trained_here(self) -> bool:
        """Whether this run trains the network."""
        return self.is_network and self.checkpoint is None and self.train

    @property
    def has_local(self) -> bool:
        """Whether this model is a network with local features."""
        return self.is_network and self.local

    @property
    def architecture_settings(self) -> dict[str, Any]:
        """The settings that a network on disk has to match; dims 0 = no projection."""
        settings = self.model_dump(include={"backbone", "pooling", "dims", "local"} | self._class_token)
        return settings if self.train else settings | {"dims": 0}

    @property
    def untrained_settings(self) -> dict[str, Any]:
        """The settings that affect a network that is not trained (part of the cache key)."""
        return self.model_dump(include={"backbone", "weights", "pooling", "gem_power", "local"} | self._class_token)

    @property
    def _class_token(self) -> set[str]:
        return {"class_token"} if self.class_token else set()

    @property
    def weights_path(self) -> Path | None:
        """The file or folder of the backbone's weights, where `weights` is one."""
        return None if self.weights in ("none", *PUBLISHED) else Path(self.weights)


class ExtractSettings(Settings):
    """Global descriptors."""

    template: Template = "L2"  # (width, height) of each aspect-ratio bucket, by name or as a list
    max_side_px: Annotated[int, Field(ge=0, le=4096)] = 0  # if > 0, the longer side at scale 1, instead of template
    scales: Annotated[list[Scale], Field(min_length=1)] = [0.75, 1.0, 1.25]  # over which descriptors are averaged
    mirror: bool = False  # whether they are averaged over mirrored copies too
    batch_size: Positive = 16  # images per batch on a GPU
    shard_rows: Positive = 4096  # images that a kill can cost at most
    precision: Precision = "auto"  # of the backbone; auto: bfloat16 where the hardware multiplies it

    @property
    def descriptor_settings(self) -> dict[str, Any]:
        """The settings that affect the descriptors (part of the cache key)."""
        unused = {"template"} if self.max_side_px else {"max_side_px"}
        unused |= set() if self.mirror else {"mirror"}
        return self.model_dump(exclude={"batch_size", "shard_rows"} | unused)


class SearchSettings(Settings):
    """Nearest neighbours."""

    index_k: Positive = 100  # neighbours of a test image in index
    train_k: Positive = 10  # neighbours of a test or index image in train
    graph_k: Positive = 50  # neighbours of an index image in index, for steps that need this graph
    index_factory: str = "Flat"  # Flat = exact search; else any faiss index_factory string
    nprobe: Positive = 16  # inverted lists visited by an approximate index (faiss's nprobe)
    whiten_dims: Count = 0  # PCA components kept of the joined descriptors, at most; 0 = no whitening
    whiten_power: Annotated[float, Field(ge=0.0, le=0.5)] = (
        0.25  # exponent of the variances: 0.5 = full whitening, 0 = plain PCA
    )
    overlap_similarity: Annotated[float, Field(ge=0.0, le=1.0)] = (
        0.9  # from which a test and a train photograph are listed as near-duplicates
    )
    whiten_on: Literal["train", "index"] = "train"  # the split that the whitening is fitted on; it needs no labels


class LocalSettings(Settings):
    """Local features, of the base network for cleaning and of the final one for verification."""

    model: str = ""  # the model whose local features are used; empty: the first that has a local branch
    max_side_px: Annotated[int, Field(ge=32, le=4096)] = 1024  # longer side at scale 1; smaller images keep theirs
    # pyramid scales at which features are extracted
    scales: Annotated[list[Scale], Field(min_length=1)] = [0.25, 0.35355339, 0.5, 0.70710678, 1.0, 1.41421356, 2.0]
    max_features: Positive = 1000  # per image, those with the most attention
    attention_quantile: Annotated[float, Field(ge=0.0, lt=1.0)] = (
        0.5  # of all cells; a feature has to exceed its attention
    )
    calibration_photographs: Positive = 256  # train images that turn this quantile into a threshold
    suppression_cells: Annotated[int, Field(ge=0, le=8)] = (
        0  # radius of non-maximum suppression in the feature map; 0 = off
    )
    storage: Literal["float16", "int8", "bits"] = "float16"  # of the descriptors on disk
    batch_size: Positive = 8  # images per batch on a GPU
    shard_rows: Positive = 512  # images that a kill can cost at most
    precision: Precision = "auto"  # of the backbone; auto: bfloat16 where the hardware multiplies it

    @property
    def threshold_settings(self) -> dict[str, Any]:
        """The settings that affect the attention threshold (part of the cache key)."""
        names = {"max_side_px", "scales", "precision", "attention_quantile", "calibration_photographs"}
        return self.model_dump(include=names)

    @property
    def feature_settings(self) -> dict[str, Any]:
        """The settings that affect the features for a given threshold (part of the cache key)."""
        names = {"max_side_px", "scales", "precision", "max_features", "suppression_cells", "storage"}
        return self.model_dump(include=names)


class VerifySettings(Settings):
    """Which photographs are compared by their local features, and how."""

    index_k: Positive = 100  # neighbours of a test image in index that are verified
    train_k: Positive = 10  # neighbours of a test image in train that are verified
    min_similarity: Annotated[float, Field(ge=-1.0, lt=1.0)] = (
        0.0  # cosine that two matching descriptors reach at least
    )
    max_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = (
        1.0  # ratio test: distance to the nearest / second nearest; 1 = no test
    )
    inlier_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02  # greatest residual, as a share of the longer side
    max_iterations: Positive = 1000  # RANSAC iterations per pair
    shard_pairs: Positive = 8192  # pairs that a kill can cost at most

    @property
    def pair_settings(self) -> dict[str, Any]:
        """The settings that affect the inliers of a pair (part of the cache key)."""
        return self.model_dump(include={"min_similarity", "max_ratio", "inlier_threshold", "max_iterations"})

    def first(self, split: str) -> int:
        """The number of neighbours of a test image in this split that are verified."""
        return {"index": self.index_k, "train": self.train_k}[split]


class CleanSettings(Settings):
    """The clean train set."""

    source: Literal["auto", "verify", "given", "none"] = (
        "auto"  # auto: the given list where there is one, else by verification
    )
    nearest: Positive = 1000  # neighbours of a train image that are searched for its landmark
    candidates: Positive = 100  # of these, the most that are verified
    min_inliers: Positive = 30  # inliers with which an image supports another
    min_neighbours: Positive = 3  # supporting images that an image needs to be kept
    # nearest kept images of other landmarks that a dropped image is verified with; 0 = no label is corrected
    other_candidates: Count = 0
    correct_inliers: Positive = 40  # inliers with which one of them supports its landmark for the dropped image
    correct_neighbours: Positive = 1  # supporting images that give a dropped image their landmark

    @property
    def kept_settings(self) -> dict[str, Any]:
        """The settings that decide which verified images are kept (part of the cache key)."""
        return self.model_dump(include={"min_inliers", "min_neighbours"})

    @property
    def correct_settings(self) -> dict[str, Any]:
        """The settings that decide which labels are corrected (part of the cache key)."""
        return self.model_dump(include={"correct_inliers", "correct_neighbours"})


class VoteSettings(Settings):
    """Landmarks of index and test images by soft voting."""

    votes: Positive = 3  # nearest train images that vote
    sharpness: Annotated[float, Field(ge=1.0)] = 1.0  # exponent that favours nearer neighbours; 1 = as published
    max_inliers: Count = 0  # a test image's votes weigh similarity + min(inliers, this) / this; 0 = only similarity


class PropagationSettings(Settings):
    """Labels spread through the graph of train and index, for the step propagation and recognition.propagation."""

    neighbours: Positive = 8  # of every image in the graph
    sharpness: Annotated[float, Field(ge=1.0)] = 12.0  # exponent that favours nearer neighbours; 1 = plain cosines
    alpha: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.75  # share that an image passes on of what it has
    inlier_weight: Annotated[float, Field(ge=0.0)] = (
        3.0  # an edge weighs 1 + this * share of max_inliers; 0 = no inliers
    )
    max_inliers: Positive = 70  # inliers from which more make no difference
    kept_labels: Positive = 16  # labels of an image, the strongest


class RecognitionSettings(Settings):
    """The recognition answer."""

    votes: Positive = 3  # nearest train images that vote
    max_inliers: Count = 0  # a vote weighs similarity + min(inliers, this) / this; 0 = only similarity
    power: Annotated[float, Field(gt=0.0)] = 1.0  # exponent of the similarity; negative ones count 0 unless it is 1
    head_power: Annotated[float, Field(ge=0.0)] = 0.0  # votes are multiplied by (classifier cosine) ** this; 0 = off
    non_landmarks: bool = False  # whether similarity to non-landmark images lowers votes and answers
    penalty_train_k: Positive = 5  # nearest non-landmark images of a voting train image
    penalty_test_k: Positive = 10  # nearest non-landmark images of a test image
    propagation: Annotated[float, Field(ge=0.0)] = 0.0  # weight of the propagated labels beside the votes; 0 = off
    ban_above: Count = 0  # labels predicted for more test images than this are banned; 0 = no ban

    @property
    def answer_settings(self) -> dict[str, Any]:
        """The settings that affect the answer (part of the cache key)."""
        unused = set() if self.non_landmarks else {"penalty_train_k", "penalty_test_k"}
        return self.model_dump(exclude=unused | (set() if self.propagation else {"propagation"}))


class SubmitSettings(Settings):
    """The submission files."""

    gzip: bool = False  # whether the files are compressed


class ReportSettings(Settings):
    """The size of the report."""

    queries: Annotated[int, Field(ge=0, le=100)] = 4  # of each kind with photographs: about 0.2 MB each
    listed: Count = 100_000  # test images that its search knows: about 0.1 MB per 1,000; queries.csv has all


class RuntimeSettings(Settings):
    """How the work is done. On a CPU no answer depends on it; a GPU or compile change the last bits of descriptors."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1 …
    compile: bool = False  # networks by torch.compile: minutes at the start of a stage, then faster on most GPUs
    workers: Annotated[int, Field(ge=-1)] = -1  # loader processes; -1 = one per core, at most 16
    outputs: SomePath = Path("outputs")  # folder of all runs
    tensorboard: bool = False  # whether training writes scalars to <run>/tensorboard; needs the package of that name
