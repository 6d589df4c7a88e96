"""Stage 09: the landmark of every index and test photograph by soft voting, and the recognition answer."""

from __future__ import annotations

import sys

from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main

PAIRS = "08_verify_matches/test_train:pairs.parquet"


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    settings = {"vote": config.vote.model_dump(), "recognition": config.recognition.model_dump()}
    inputs = ["06_build_knn/index_train", "06_build_knn/test_train", "01_prepare_data:train.parquet"]
    inputs += [PAIRS] if "train" in config.verified_splits else []
    return [Task("09_predict_landmarks", predict_landmarks, settings, tuple(inputs))]


def predict_landmarks(context: Context) -> None:
    """Write index.parquet, test.parquet (label, confidence) and recognition.parquet (label, score), rows as in 01."""
    import numpy as np
    import pandas as pd

    from pipeline.matching.pair_table import PairTable
    from pipeline.ranking.recognition import recognise, weigh_votes
    from pipeline.ranking.voting import neighbour_labels, soft_vote

    landmarks = pd.read_parquet(context.input("01_prepare_data:train.parquet"))["landmark"].to_numpy()
    settings = context.config
    for split in ("index", "test"):
        found = context.input(f"06_build_knn/{split}_train")
        similarities, rows = np.load(found / "similarities.npy"), np.load(found / "rows.npy")
        labels = neighbour_labels(rows, landmarks)
        votes = soft_vote(similarities, labels, settings.vote.votes, settings.vote.sharpness)
        pd.DataFrame(votes._asdict()).to_parquet(context.folder / f"{split}.parquet", index=False)
        voted = votes.labels >= 0
        context.facts[split] = {"photographs": len(voted), "with_landmark": int(voted.sum())}
        log.info("%s: %d landmarks predicted", split, len(np.unique(votes.labels[voted])))
    weights, recognition = similarities, settings.recognition
    if recognition.max_inliers:
        weights = weigh_votes(weights, PairTable.read(context.input(PAIRS)).look_up(rows), recognition.max_inliers)
    answer = recognise(weights, labels, votes=recognition.votes, ban_above=recognition.ban_above)
    pd.DataFrame(answer._asdict()).to_parquet(context.folder / "recognition.parquet", index=False)


STAGE = Stage("09_predict_landmarks", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
