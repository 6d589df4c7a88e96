"""The folder of a run whose artifacts are made up: their manifests are as stages write them, nothing is trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import layout
from pipeline.artifacts import build, read_manifest
from pipeline.cache_key import CacheKey
from pipeline.settings import PhaseSettings

# As an earlier version measured it: without recall.
STEP = {"step": "knn", "seconds": 0.5, "queries": 3, "map_at_100": 0.678, "mean_precision": {"10": 0.5}}
METRICS = {"retrieval": {"recipe": [STEP]}, "recognition": {"gap": 0.345}, "seconds": {}}
IDS = ["a", "b", "c d", "e"]  # of the images of each split; b has no descriptor
PRESENT = [0, 2, 3]
TABLE = pd.DataFrame({"id": IDS, "path": [f"{one}.jpg" for one in IDS]}, dtype=str)


def publish(run, artifact, fill, inputs=(), settings=None, facts=None):
    """An artifact as a stage publishes it: `fill` writes its files to a folder."""
    digests = {}
    for reference in inputs:
        source, file = layout.split_reference(reference)
        digests[reference] = read_manifest(run / source).digest(file)
    key = CacheKey(artifact.partition("/")[0], 1, settings or {}, digests)
    with build(run / artifact, key) as (folder, about):
        about |= facts or {}
        fill(folder)


def copying(source):
    """A function that fills an artifact with the files of a folder."""
    return lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True)


def nothing(_folder):
    """Fills an artifact with no file."""


def make_run(folder: Path, network: Path) -> Path:
    """A run of one model, cnn, with its network, search and scores."""
    phase, common = PhaseSettings(epochs=17).model_dump(), {"seed": 5, "device": "cpu"}
    base = {"weights": "/home/me/secret/start.safetensors", "base": phase}
    counts = {"train": {"photographs": 4321, "rejected": 2, "landmarks": 77}}
    base_network, final_network = layout.base_network("cnn"), layout.final_network("cnn")
    publish(folder, layout.PREPARE, write_tables, settings={"source": "folders"}, facts=counts)
    publish(folder, base_network, copying(network), [layout.images("train")], common | {"model": base})
    publish(folder, layout.CLEAN_LIST, nothing, facts={"kept": 999, "dropped": 11})
    final = common | {"model": {"final": phase | {"epochs": 3}}}
    publish(folder, layout.CORRECTED, lambda made: np.save(made / "labels.npy", np.arange(4)), facts={"corrected": 5})
    publish(folder, final_network, copying(network), [base_network, layout.CORRECTED_LABELS], final)
    search(folder, {"cnn": 1.0})
    publish(folder, layout.EVALUATE, write_metrics, [layout.neighbours("test", "index")])
    return folder


def search(run, weights, whitened=False):
    """The descriptors of models, of 6, 7, … numbers, and a search that joins them, or their whitened ones."""
    settings, searched = {"scales": [0.75, 1.25], "template": "L2"}, []
    for split in ("index", "test"):
        for number, model in enumerate(weights):
            made_of = [layout.final_network("cnn"), layout.images(split)]
            publish(run, layout.descriptors(model, split), write_descriptors(number, 6 + number), made_of, settings)
        described = [layout.descriptors(model, split) for model in weights]
        if whitened:
            publish(run, layout.whitened(split), write_descriptors(9, 3), described)
        searched += [layout.whitened(split)] if whitened else described
    publish(run, layout.neighbours("test", "index"), nothing, searched, {"weights": weights})


def write_tables(folder):
    for split in ("train", "index", "test"):
        table = TABLE.assign(landmark=range(len(TABLE))) if split == "train" else TABLE
        table.to_parquet(folder / f"{split}.parquet", index=False)


def write_metrics(folder):
    (folder / "metrics.json").write_text(json.dumps(METRICS))


def write_descriptors(seed, dims):
    """A function that writes unit vectors, but for one image zeros."""
    vectors = np.random.default_rng(seed).normal(size=(len(IDS), dims)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[row for row in range(len(IDS)) if row not in PRESENT]] = 0.0
    return lambda folder: np.save(folder / "descriptors.npy", vectors)


def read_present(run, artifact):
    """The descriptors of an artifact that are not missing."""
    return np.load(run / artifact / "descriptors.npy")[PRESENT]
