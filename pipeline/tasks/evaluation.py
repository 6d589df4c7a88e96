"""Readers of what stage 12 scores and shows, and the references that its task declares for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import layout
from pipeline.artifacts import read_manifest
from pipeline.config import Config
from pipeline.console import log
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import open_split, read_images

if TYPE_CHECKING:
    from pipeline.competition.evaluation import Part
    from pipeline.report.local_report import VerifiedPairs
    from pipeline.report.measures import JudgedRanking, RankedStep
    from pipeline.report.run_report import Run


def evaluation_references(config: Config) -> list[str]:
    """What stage 12 reads. The submissions are among it so that the report is never older than they are."""
    references = [layout.REJECTED, layout.CLEAN_LIST, *(layout.images(split) for split in ("test", "index", "train"))]
    references += [layout.ranking(recipe) for recipe in config.rerank.recipes]
    references += [layout.JUDGEMENTS] if config.data.is_benchmark else [layout.RECOGNITION, layout.SUBMIT]
    if "index" in config.verified_splits:
        references += [layout.local_features(config.local_model, split) for split in ("test", "index")]
        references += [layout.verified_pairs("index")]
    return references


def read_rankings(task: TaskContext, config: Config, setup: str = "") -> dict[str, list[RankedStep]]:
    """The lists after each step of each recipe, of one setup of a benchmark, with the seconds of all setups."""
    import numpy as np

    from pipeline.report.measures import RankedStep

    rankings = {}
    for recipe, names in config.rerank.recipes.items():
        folder = task.input(layout.ranking(recipe))
        manifest = read_manifest(folder)
        seconds = manifest.facts["step_seconds"] if manifest else []
        steps = enumerate(zip(names, seconds, strict=True))
        rankings[recipe] = [
            RankedStep(name, np.load(folder / setup / f"{position}_{name}.rows.npy"), taken)
            for position, (name, taken) in steps
        ]
    return rankings


def read_solutions(task: TaskContext, config: Config) -> tuple[dict[str, Part], dict[str, Part]]:
    """The scored queries of the retrieval and of the recognition solution; none where there is no such file."""
    import pandas as pd

    from pipeline.competition.evaluation import read_recognition_parts, read_retrieval_parts

    test, index = (read_images(task, split)["id"].tolist() for split in ("test", "index"))
    unreadable = pd.read_csv(task.input(layout.REJECTED), dtype=str, keep_default_na=False)
    rejected = unreadable.loc[unreadable["split"] == "test", "id"].tolist()
    files = list_solutions(config)
    for name, path in files.items():
        if not path.is_file():
            log.info("nothing to score %s by: %s does not exist", name, path)
    retrieval = read_retrieval_parts(files["retrieval"], test, rejected, index)
    return retrieval, read_recognition_parts(files["recognition"], test, rejected)


def list_solutions(config: Config) -> dict[str, Path]:
    """Where the solution of each task of the competition would be."""
    data = config.data
    return {"retrieval": data.root / data.retrieval_solution, "recognition": data.root / data.recognition_solution}


def open_run(task: TaskContext, config: Config, judged: JudgedRanking | None) -> Run:
    """What the report shows of the run."""
    import pandas as pd

    from pipeline.report.run_report import Run

    support = task.input(layout.CLEAN_LIST) / "support.parquet"
    return Run(
        name=config.run,
        test=open_split(task, config, "test"),
        index=open_split(task, config, "index"),
        train=open_split(task, config, "train"),
        judged=judged,
        verified=_open_verified(task, config) if "index" in config.verified_splits else None,
        support=pd.read_parquet(support) if support.exists() else None,
    )


def _open_verified(task: TaskContext, config: Config) -> VerifiedPairs:
    import pandas as pd

    from pipeline.features.local_store import LocalStore
    from pipeline.report.local_report import VerifiedPairs

    queries, base = (layout.local_features(config.local_model, split) for split in ("test", "index"))
    pairs = pd.read_parquet(task.input(layout.verified_pairs("index")))
    return VerifiedPairs(pairs, LocalStore(task.input(queries)), LocalStore(task.input(base)), config.verify)
