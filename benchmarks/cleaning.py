"""Cleaning against the ground truth: the wrong labels that a finished run removed and the right ones that it kept.

    python -m benchmarks.cleaning outputs/demo data/demo
    python -m benchmarks.cleaning outputs/photos /my/photos

Reads train_truth.csv (id,landmark_id; empty = no landmark), which nothing else does. Besides the list of the run, it
prints what other thresholds would have kept, given the same verified pairs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.competition.train_clean import read_clean_ids
from pipeline.matching.cleaning import count_supporters, keep_images

NEIGHBOURS, INLIERS = (1, 2, 3), (12, 15, 18, 20, 22, 25, 30, 40)


def read_right(train: pd.DataFrame, root: Path) -> np.ndarray:
    """(N,) whether each train image has its true label."""
    truth = pd.read_csv(root / "train_truth.csv", dtype=str, keep_default_na=False).set_index("id")["landmark_id"]
    return truth.reindex(train["id"]).to_numpy() == train["landmark"].astype(str).to_numpy()


def format_fractions(kept: np.ndarray, right: np.ndarray) -> str:
    """The fractions of wrong labels removed and of right ones kept, as text."""
    return f"removes {(~kept)[~right].mean():6.1%} of the wrong, keeps {kept[right].mean():6.1%} of the right"


def tell_corrections(run: Path, train: pd.DataFrame, root: Path) -> str:
    """What became of the labels that the run corrected, as text."""
    corrected = np.load(run / "03_clean_train_set" / "corrected" / "labels.npy")
    truth = pd.read_csv(root / "train_truth.csv", dtype=str, keep_default_na=False).set_index("id")["landmark_id"]
    true, given = truth.reindex(train["id"]).to_numpy(), train["landmark"].to_numpy()
    changed = corrected != given
    righted = changed & (true == corrected.astype(str))
    return (
        f"labels corrected {changed.sum()}: {righted.sum()} rightly, {(changed & (true == given.astype(str))).sum()} "
        f"were right, {(changed & (true == '')).sum()} show no landmark"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="outputs/<run>")
    parser.add_argument("root", type=Path, help="the data folder, with train_truth.csv")
    asked = parser.parse_args()

    train = pd.read_parquet(asked.run / "01_prepare_data" / "train.parquet")
    right = read_right(train, asked.root)
    kept = train["id"].isin(read_clean_ids(asked.run / "03_clean_train_set" / "list" / "train_clean.csv")).to_numpy()
    print(f"{(~right).sum()} wrong labels of {len(right)}; the run's list {format_fractions(kept, right)}")
    if (asked.run / "03_clean_train_set" / "corrected").exists():
        print(tell_corrections(asked.run, train, asked.root))

    table = pd.read_parquet(asked.run / "03_clean_train_set" / "pairs" / "pairs.parquet")
    pairs, inliers = table[["query", "row"]].to_numpy(), table["inliers"].to_numpy()
    for neighbours in NEIGHBOURS:
        for least in INLIERS:
            supporters = count_supporters(pairs, inliers, len(train), least)
            chosen = keep_images(train["landmark"].to_numpy(), supporters, neighbours)
            print(f"min_neighbours {neighbours}  min_inliers {least:3d}  {format_fractions(chosen, right)}")


if __name__ == "__main__":
    main()
