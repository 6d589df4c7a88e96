"""How well inliers separate pairs that show one surface from pairs of different landmarks, on the demo world.

    python -m benchmarks.surfaces [--run outputs/demo]

Takes the local features of a finished run (./run_all.sh), draws pairs of test and index images that show one side
of one landmark, and pairs of different landmarks, and prints the area under the ROC curve of their inliers, for each
format that descriptors can be stored in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from pipeline.config import load_config
from pipeline.demo_world.world import plan_demo_world
from pipeline.features.local_store import LocalFeatures, LocalStore, decode_descriptors, encode_descriptors
from pipeline.matching.verification import MatchOptions, verify_pairs


def recode(features: LocalFeatures, storage: str) -> LocalFeatures:
    """The features after storage in a format and decoding."""
    return features._replace(descriptors=decode_descriptors(encode_descriptors(features.descriptors, storage)))


def draw_pairs(shown: pd.DataFrame, other: pd.DataFrame, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) rows of both tables that show the same side of one landmark, and as many of different landmarks."""
    rng = np.random.default_rng(seed)
    landmarks, views = (np.equal.outer(shown[name].to_numpy(), other[name].to_numpy()) for name in ("landmark", "view"))
    real = np.logical_and.outer(shown["landmark"].to_numpy() >= 0, other["landmark"].to_numpy() >= 0)
    same, different = np.argwhere(landmarks & views & real), np.argwhere(~landmarks & real)
    same, different = (pairs[rng.permutation(len(pairs))[:count]] for pairs in (same, different))
    return same, different[: len(same)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--config", type=Path, default=Path("configs/demo.toml"))
    parser.add_argument("--pairs", type=int, default=1000, help="of each kind, at most")
    asked = parser.parse_args()

    config = load_config(asked.config)
    plan = plan_demo_world(config.demo, config.seed).photographs.set_index("id")
    tables = [pd.read_parquet(asked.run / "01_prepare_data" / f"{split}.parquet") for split in ("test", "index")]
    shown, other = (plan.loc[table["id"]].reset_index() for table in tables)
    same, different = draw_pairs(shown, other, asked.pairs, seed=1)
    pairs = np.concatenate([same, different])
    truth = np.arange(len(pairs)) < len(same)
    limits = config.verify.inlier_threshold * tables[1][["width", "height"]].max(axis=1).to_numpy()[pairs[:, 1]]
    options = MatchOptions(config.verify.min_similarity)
    stores = [LocalStore(asked.run / "07_extract_local" / config.local_model / split) for split in ("test", "index")]
    print(f"{len(same)} pairs of one surface, {len(different)} of different landmarks")
    for storage in ("float16", "int8", "bits"):
        queries, base = (
            {row: recode(store[row], storage) for row in set(rows.tolist())}
            for store, rows in zip(stores, pairs.T, strict=True)
        )
        inliers = verify_pairs(queries, base, pairs, limits, options).inliers
        print(
            f"{storage:8s} area under the ROC curve {roc_auc_score(truth, inliers):.4f}   inliers: median "
            f"{np.median(inliers[truth]):.0f} and {np.median(inliers[~truth]):.0f}, "
            f"99th percentile of different landmarks {np.percentile(inliers[~truth], 99):.0f}"
        )


if __name__ == "__main__":
    main()
