"""Where every artifact of a run lies below outputs/<run>/: the one place that names stages and their files.

A reference is an artifact's folder, "05_extract_global/cnn/test", or one file of it, "01_prepare_data:test.parquet".
Tasks declare their inputs by these references and read them by the same ones.
"""

from __future__ import annotations

PREPARE, TRAIN_BASE, CLEAN, TRAIN_FINAL = "01_prepare_data", "02_train_base", "03_clean_train_set", "04_train_final"
EXTRACT_GLOBAL, BUILD_KNN, EXTRACT_LOCAL = "05_extract_global", "06_build_knn", "07_extract_local"
VERIFY, PREDICT, RERANK = "08_verify_matches", "09_predict_landmarks", "10_rerank_retrieval"
TRAINING = (TRAIN_BASE, TRAIN_FINAL)
SUBMIT, EVALUATE = "11_write_submissions", "12_evaluate"

SETTINGS = "settings.json"  # of the run, as its last command had them

# Stage 01
REJECTED = f"{PREPARE}:rejected.csv"  # what the inspection refused; see left_out for later work
LANDMARK_NAMES = f"{PREPARE}:landmarks.csv"
GIVEN_CLEAN_LIST = f"{PREPARE}:train_clean.csv"
JUDGEMENTS = f"{PREPARE}:judgements.parquet"  # of a benchmark

# Stages 02 and 04
NETWORK_FILES = ("weights.safetensors", "network.json")
EXPORTED_FILES = ("model.safetensors", "config.json")

# Stage 03
CLEAN_LIST = f"{CLEAN}/list"
CLEAN_IDS = f"{CLEAN_LIST}:train_clean.csv"
CLEAN_GLOBAL, CLEAN_LOCAL = f"{CLEAN}/global", f"{CLEAN}/local"
CLEAN_THRESHOLD = f"{CLEAN}/threshold"
CLEAN_NEIGHBOURS = f"{CLEAN}/neighbours:neighbours.npy"
CLEAN_PAIRS = f"{CLEAN}/pairs:pairs.parquet"
CLEAN_SUPPORT = f"{CLEAN_LIST}:support.parquet"
OTHER_NEIGHBOURS = f"{CLEAN}/other_neighbours:neighbours.npy"  # of dropped images, of other landmarks
OTHER_PAIRS = f"{CLEAN}/other_pairs:pairs.parquet"
CORRECTED = f"{CLEAN}/corrected"  # the labels of train after that
CORRECTED_LABELS, CORRECTED_IDS = f"{CORRECTED}:labels.npy", f"{CORRECTED}:train_clean.csv"

# Stage 06
WHITENING = f"{BUILD_KNN}/whitening"
OVERLAP = f"{BUILD_KNN}/overlap"  # near-duplicates of test photographs in train
OVERLAP_PAIRS = f"{OVERLAP}:overlap.csv"

# Stage 09
PROPAGATE = "09_propagate_labels"  # labels through the graph of train and index
RECOGNITION = f"{PREDICT}:recognition.parquet"
CALIBRATION = f"{PREDICT}:calibration.json"  # scores to probabilities
UNKNOWN = f"{PREDICT}:unknown.json"  # the support that an answer needs

# Stage 12
REPORT = f"{EVALUATE}/report.html"


def images(split: str) -> str:
    """The table of a split's images."""
    return f"{PREPARE}:{split}.parquet"


def photograph_digests(split: str) -> str:
    """The digests of a split's photographs. They stand for the pixels, which lie outside of outputs/."""
    return f"{PREPARE}:{split}.sha256"


def base_network(model: str) -> str:
    """The network of phase 1."""
    return f"{TRAIN_BASE}/{model}"


def final_network(model: str) -> str:
    """The network of phase 2."""
    return f"{TRAIN_FINAL}/{model}"


def final_trainings(model: str, count: int) -> list[str]:
    """The networks of so many trainings of phase 2: the final one, or those that it is the mean of."""
    final = final_network(model)
    return [final] if count == 1 else [f"{final}.{number + 1}" for number in range(count)]


def descriptors(model: str, split: str) -> str:
    """The global descriptors of a split by one model."""
    return f"{EXTRACT_GLOBAL}/{model}/{split}"


def whitened(split: str) -> str:
    """The descriptors of a split by all models, joined and whitened."""
    return f"{BUILD_KNN}/whitened/{split}"


def neighbours(queries: str, base: str) -> str:
    """The nearest neighbours of one split in another."""
    return f"{BUILD_KNN}/{queries}_{base}"


def attention_threshold(model: str) -> str:
    """The attention that a local feature has to exceed."""
    return f"{EXTRACT_LOCAL}/{model}/threshold"


def local_features(model: str, split: str) -> str:
    """The local features of a split."""
    return f"{EXTRACT_LOCAL}/{model}/{split}"


def verified_pairs(split: str) -> str:
    """The matches and inliers of test images with images of a split."""
    return f"{VERIFY}/test_{split}:pairs.parquet"


def votes(split: str) -> str:
    """The landmark and confidence of each image of a split by soft voting."""
    return f"{PREDICT}:{split}.parquet"


def ranking(recipe: str) -> str:
    """The rankings after each step of a recipe."""
    return f"{RERANK}/{recipe}"


def retrieval_file(compressed: bool) -> str:
    """The retrieval submission."""
    return f"{SUBMIT}/retrieval.csv" + ".gz" * compressed


def left_out(artifact: str) -> str:
    """The images that the work of an artifact left out because they could not be read."""
    return f"{artifact}:rejected.csv"


def split_reference(reference: str) -> tuple[str, str]:
    """(the artifact, the file of it; "" = the whole artifact) of a reference."""
    artifact, _, name = reference.partition(":")
    return artifact, name
