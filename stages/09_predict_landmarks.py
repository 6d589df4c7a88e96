"""Stage 09: the landmark of every index and test photograph by soft voting, and the recognition answer."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.config import Config
from pipeline.console import log
from pipeline.runner import Context, Stage, Task, main
from pipeline.settings import NON_LANDMARK


def tasks(config: Config) -> list[Task]:
    """One artifact."""
    settings: dict[str, Any] = {"vote": config.vote.model_dump(), "recognition": config.recognition.answer_settings}
    inputs = ["06_build_knn/index_train", "06_build_knn/test_train", "01_prepare_data:train.parquet"]
    if "train" in config.verified_splits:
        inputs.append("08_verify_matches/test_train:pairs.parquet")
    if config.recognition.non_landmarks:
        inputs += [f"06_build_knn/{split}_{NON_LANDMARK}" for split in ("test", "train")]
    if config.recognition.head_power:
        settings["weights"] = {name: model.weight for name, model in config.models.items()}
        inputs += [f"04_train_final/{name}" for name in config.models]
        inputs += [f"05_extract_global/{name}/test" for name in config.models]
    return [Task("09_predict_landmarks", predict_landmarks, settings, tuple(inputs))]


def predict_landmarks(context: Context) -> None:
    """Write index.parquet, test.parquet (label, confidence) and recognition.parquet (label, score), rows as in 01."""
    import numpy as np
    import pandas as pd

    from pipeline.ranking.prediction import answer_recognition, vote_landmarks

    landmarks = pd.read_parquet(context.input("01_prepare_data:train.parquet"))["landmark"].to_numpy()
    for split in ("index", "test"):
        votes = vote_landmarks(context.input, context.config.vote, split, landmarks)
        pd.DataFrame(votes._asdict()).to_parquet(context.folder / f"{split}.parquet", index=False)
        voted = votes.labels >= 0
        context.facts[split] = {"photographs": len(voted), "with_landmark": int(voted.sum())}
        log.info("%s: %d landmarks predicted", split, len(np.unique(votes.labels[voted])))
    answer = answer_recognition(context.input, context.config, landmarks)
    pd.DataFrame(answer._asdict()).to_parquet(context.folder / "recognition.parquet", index=False)


STAGE = Stage("09_predict_landmarks", version=1, tasks=tasks)

if __name__ == "__main__":
    sys.exit(main(STAGE.name))
