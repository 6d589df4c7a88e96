"""Readers of what stage 12 scores, and the references that its task declares for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.artifacts import read_manifest
from pipeline.config import Config
from pipeline.console import log
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import read_images
from pipeline.tasks.train_labels import corrects_labels

if TYPE_CHECKING:
    from pipeline.competition.evaluation import Part
    from pipeline.report.measures import JudgedRanking, RankedStep


def score_references(config: Config) -> list[str]:
    """What scores are made of. The submissions are among it so that the report is never older than they are."""
    references = [layout.CLEAN_LIST, *([layout.CORRECTED] if corrects_labels(config) else [])]
    references += [*(layout.images(split) for split in ("test", "index", "train")), layout.REJECTED]
    references += [layout.ranking(recipe) for recipe in config.rerank.recipes]
    return references + ([layout.JUDGEMENTS] if config.data.is_benchmark else [layout.RECOGNITION, layout.SUBMIT])


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
    retrieval = read_retrieval_parts(files["retrieval"], test, rejected, index)
    return retrieval, read_recognition_parts(files["recognition"], test, rejected)


def read_cleaning_counts(task: TaskContext, config: Config) -> dict[str, int]:
    """How many images the cleaning kept and dropped, of how many landmarks, and the labels it corrected, if any."""
    cleaned = read_manifest(task.input(layout.CLEAN_LIST))
    counts = {name: cleaned.facts[name] for name in ("kept", "dropped", "landmarks")} if cleaned else {}
    corrected = read_manifest(task.input(layout.CORRECTED)) if corrects_labels(config) else None
    return counts | ({"corrected": corrected.facts["corrected"]} if corrected else {})


def score_answers(task: TaskContext, config: Config) -> tuple[dict[str, Any], JudgedRanking | None]:
    """The scores of a competition's answers by its solutions; without them no ranking is judged."""
    import pandas as pd

    from pipeline.competition.evaluation import score_recognition
    from pipeline.report.measures import judge_by_solution, measure_retrieval

    for name, path in list_solutions(config).items():
        if not path.is_file():
            log.info("nothing to score %s by: %s does not exist", name, path)
    retrieval, recognition = read_solutions(task, config)
    rankings, answers = read_rankings(task, config), pd.read_parquet(task.input(layout.RECOGNITION))
    scores = {
        "retrieval": measure_retrieval(rankings, retrieval),
        "recognition": score_recognition(answers["labels"].to_numpy(), answers["scores"].to_numpy(), recognition),
    }
    return scores, judge_by_solution(rankings["recipe"], retrieval["all"]) if retrieval else None


def score_benchmark(task: TaskContext, config: Config) -> tuple[dict[str, Any], JudgedRanking]:
    """The scores of a benchmark's rankings in every setup."""
    from pipeline.competition.judgement_table import read_judgements
    from pipeline.report.measures import choose_setup, judge_by_setup, measure_benchmark

    setups = read_judgements(task.input(layout.JUDGEMENTS), len(read_images(task, "test")))
    rankings = {setup: read_rankings(task, config, setup) for setup in setups}
    shown = choose_setup(setups)
    judged = judge_by_setup(rankings[shown]["recipe"], setups[shown].positives)
    return {"revisited": measure_benchmark(rankings, setups)}, judged


def list_solutions(config: Config) -> dict[str, Path]:
    """Where the solution of each task of the competition would be."""
    data = config.data
    return {"retrieval": data.root / data.retrieval_solution, "recognition": data.root / data.recognition_solution}
