"""Readers of what stage 12 scores and shows, and the references that its task declares for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.artifacts import read_manifest
from pipeline.config import Config
from pipeline.console import log
from pipeline.task_context import TaskContext
from pipeline.tasks.cleaning import choose_source
from pipeline.tasks.inputs import open_split, read_images, read_landmark_names

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.competition.evaluation import Part
    from pipeline.images.split import Split
    from pipeline.report.answers import Answers
    from pipeline.report.left_out import LeftOut
    from pipeline.report.local_report import VerifiedPairs
    from pipeline.report.measures import JudgedRanking, RankedStep
    from pipeline.report.run_report import Run


def evaluation_references(config: Config) -> list[str]:
    """What stage 12 reads. The submissions are among it so that the report is never older than they are."""
    references = [layout.CLEAN_LIST, *(layout.images(split) for split in ("test", "index", "train"))]
    references += [layout.REJECTED, *map(layout.left_out, _list_decoding(config))]
    references += [layout.ranking(recipe) for recipe in config.rerank.recipes]
    references += [layout.JUDGEMENTS] if config.data.is_benchmark else [layout.RECOGNITION, layout.SUBMIT]
    references += [layout.LANDMARK_NAMES]
    if "index" in config.verified_splits:
        references += [layout.local_features(config.local_model, split) for split in ("test", "index")]
        references += [layout.verified_pairs("index")]
    return references


def _list_decoding(config: Config) -> dict[str, str]:
    """The artifacts that photographs are decoded for after stage 01, and of which split each is."""
    trained = [name for name, model in config.models.items() if model.is_trained_here]
    works = {layout.base_network(name): "train" for name in trained}
    if choose_source(config) == "verify":
        works |= dict.fromkeys((layout.CLEAN_GLOBAL, layout.CLEAN_LOCAL), "train")
    works |= {layout.final_network(name): "train" for name in trained}
    works |= {layout.descriptors(name, split): split for name in config.models for split in config.splits}
    if config.verified_splits:
        compared = (*config.verified_splits, "test")
        works |= {layout.local_features(config.local_model, split): split for split in compared}
    return works


def _read_left_out(task: TaskContext, config: Config, splits: Sequence[Split]) -> LeftOut:
    """Every image that stage 01 refused or that later work could not read."""
    from pipeline.report.left_out import LeftOutFile, read_left_out

    files = [LeftOutFile(task.input(layout.REJECTED), layout.PREPARE)]
    for artifact, split in _list_decoding(config).items():
        files.append(LeftOutFile(task.input(layout.left_out(artifact)), artifact.partition("/")[0], split))
    return read_left_out(files, [split.tolerance for split in splits if split.tolerance is not None])


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


def read_cleaning_counts(task: TaskContext) -> dict[str, int]:
    """How many images the cleaning kept and dropped, and of how many landmarks."""
    cleaned = read_manifest(task.input(layout.CLEAN_LIST))
    return {name: cleaned.facts[name] for name in ("kept", "dropped", "landmarks")} if cleaned else {}


def score_answers(task: TaskContext, config: Config) -> tuple[dict[str, Any], JudgedRanking | None]:
    """The scores of a competition's answers by its solutions; without them no ranking is judged."""
    import pandas as pd

    from pipeline.competition.evaluation import score_recognition
    from pipeline.report.measures import judge_by_solution, measure_retrieval

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


def open_run(task: TaskContext, config: Config, judged: JudgedRanking | None) -> Run:
    """What the report shows of the run."""
    import pandas as pd

    from pipeline.report.run_report import Run

    support = task.input(layout.CLEAN_LIST) / "support.parquet"
    names = read_landmark_names(task)
    train, index, test = (open_split(task, config, split) for split in ("train", "index", "test"))
    return Run(
        name=config.run,
        test=test,
        index=index,
        train=train,
        judged=judged if config.data.photographs else None,
        answers=_read_answers(task, config, names) if judged is None and config.data.photographs else None,
        verified=_open_verified(task, config) if "index" in config.verified_splits else None,
        support=pd.read_parquet(support) if support.exists() else None,
        left_out=_read_left_out(task, config, (train, index, test)),
        names=names,
        landmarks=_measure_landmarks(task, config, judged),
    )


def _measure_landmarks(task: TaskContext, config: Config, judged: JudgedRanking | None) -> pd.DataFrame | None:
    """How each landmark fares; None without a recognition solution."""
    import pandas as pd

    from pipeline.report.landmark_table import measure_landmarks

    recognition = {} if config.data.is_benchmark else read_solutions(task, config)[1]
    if not recognition:
        return None
    labels = pd.read_parquet(task.input(layout.RECOGNITION))["labels"].to_numpy()
    return measure_landmarks(recognition["all"], labels, judged.steps[-1].precisions if judged else None)


def _read_answers(task: TaskContext, config: Config, names: dict[int, str]) -> Answers:
    """What the report shows where no solution judges."""
    import numpy as np
    import pandas as pd

    from pipeline.report.answers import Answers

    answers = pd.read_parquet(task.input(layout.RECOGNITION))
    steps, similarities = read_rankings(task, config)["recipe"], None
    if not len(read_images(task, "train")):
        first_step = task.input(layout.ranking("recipe")) / f"0_{config.rerank.recipe[0]}.scores.npy"
        similarities = np.load(first_step)[:, 0]
    labels, scores = (answers[column].to_numpy() for column in ("labels", "scores"))
    return Answers(steps, labels, scores, names, similarities, config.data.is_searched_in_itself)


def _open_verified(task: TaskContext, config: Config) -> VerifiedPairs:
    import pandas as pd

    from pipeline.features.local_store import LocalStore
    from pipeline.report.local_report import VerifiedPairs

    queries, base = (layout.local_features(config.local_model, split) for split in ("test", "index"))
    pairs = pd.read_parquet(task.input(layout.verified_pairs("index")))
    stores = LocalStore(task.input(queries)), LocalStore(task.input(base))
    return VerifiedPairs(pairs, *stores, config.verify, config.min_inliers)
