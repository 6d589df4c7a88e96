"""Readers of what the report of stage 12 shows beside scores, and the references that its task declares for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import layout
from pipeline.cache_key import flatten_settings
from pipeline.config import Config
from pipeline.ranking import evidence
from pipeline.settings import ModelSettings
from pipeline.task_context import TaskContext
from pipeline.tasks.evaluation import read_rankings, read_solutions
from pipeline.tasks.inputs import (
    open_split,
    read_images,
    read_landmark_names,
    read_neighbours,
    read_votes,
)
from pipeline.tasks.train_labels import choose_source, label_references, read_labels

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.competition.evaluation import Part
    from pipeline.competition.metrics import Truth
    from pipeline.images.split import Split
    from pipeline.ranking.calibration import Calibration
    from pipeline.ranking.recognition import Recognition
    from pipeline.report.answers import Answers
    from pipeline.report.confidence import Answered
    from pipeline.report.left_out import LeftOut
    from pipeline.report.local_report import VerifiedPairs
    from pipeline.report.measures import JudgedRanking
    from pipeline.report.misses import Reading
    from pipeline.report.run_report import Run

OF_THE_PLACE = ("run", "runtime.", "data.root")  # settings that say where and on what a run was made


def report_references(config: Config) -> list[str]:
    """What `open_run` reads beside what scores are made of."""
    references = [layout.CALIBRATION] * (not config.data.is_benchmark)
    references += [layout.LANDMARK_NAMES, *map(layout.left_out, _list_decoding(config))]
    if config.data.has_train:
        references += [
            layout.votes("test"),
            layout.votes("index"),
            layout.neighbours("test", "train"),
            layout.OVERLAP_PAIRS,
            *label_references(config),
        ]
    if "index" in config.verified_splits:
        references += [layout.local_features(config.local_model, split) for split in ("test", "index")]
        references += [layout.verified_pairs("index")]
    return references + list(_list_histories(config).values())


def _list_histories(config: Config) -> dict[str, str]:
    """The history of each phase that this run trains, by title."""
    found = {}
    for name, model in _list_trained(config).items():
        trainings = layout.final_trainings(name, model.averaged_trainings)
        titles = ["final"] if len(trainings) == 1 else [f"final, training {at + 1}" for at in range(len(trainings))]
        phases = [("base", "base", layout.base_network(name))]
        phases += [("final", title, artifact) for title, artifact in zip(titles, trainings, strict=True)]
        for phase, title, artifact in phases:
            if getattr(model, phase).epochs:
                found[f"{name}, {title}"] = f"{artifact}:history.csv"
    return found


def _list_trained(config: Config) -> dict[str, ModelSettings]:
    return {name: model for name, model in config.models.items() if model.is_trained_here}


def _list_decoding(config: Config) -> dict[str, str]:
    """The artifacts that photographs are decoded for after stage 01, and of which split each is."""
    trained = _list_trained(config)
    works = {layout.base_network(name): "train" for name in trained}
    if choose_source(config) == "verify":
        works |= dict.fromkeys((layout.CLEAN_GLOBAL, layout.CLEAN_LOCAL), "train")
    for name, model in trained.items():
        works |= dict.fromkeys(layout.final_trainings(name, model.averaged_trainings), "train")
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


def open_run(task: TaskContext, config: Config, judged: JudgedRanking | None) -> Run:
    """What the report shows of the run."""
    import pandas as pd

    from pipeline.report.overlap_report import read_overlap
    from pipeline.report.query_table import tabulate_queries
    from pipeline.report.run_report import Run

    support = task.input(layout.CLEAN_LIST) / "support.parquet"
    train, index, test = (open_split(task, config, split) for split in ("train", "index", "test"))
    known, has_photographs = _read_known(task, config, len(test)), config.data.photographs
    return Run(
        name=config.run,
        test=test,
        index=index,
        train=train,
        judged=judged if has_photographs else None,
        answers=_read_answers(task, config, known) if judged is None and has_photographs else None,
        verified=_open_verified(task, config) if "index" in config.verified_splits else None,
        support=pd.read_parquet(support) if support.exists() else None,
        left_out=_read_left_out(task, config, (train, index, test)),
        names=known.names,
        landmarks=_measure_landmarks(known, judged),
        reading=_read_votes(task, config, known) if config.data.has_train and has_photographs else None,
        votes=config.vote.votes,
        queries=tabulate_queries(test, judged, known.recognition, known.right, known.calibration),
        recognition=_judge_recognition(known),
        histories={title: pd.read_csv(task.input(file)) for title, file in _list_histories(config).items()},
        overlap=read_overlap(task.input(layout.OVERLAP_PAIRS)) if config.data.has_train else None,
        overlap_similarity=config.search.overlap_similarity,
        changed=list_changed(config),
        models=[_describe_model(name, model) for name, model in config.models.items()],
        evidence={name: _list_stages(config, name) for recipe in config.rerank.recipes.values() for name in recipe},
        settings=config.report,
    )


@dataclass(frozen=True)
class _Known:
    """What is known of recognition: names of landmarks, the answers by test row, the solution, it by test row, and how
    probable an answer is."""

    names: dict[int, str]
    recognition: Recognition | None
    part: Part | None
    right: Truth | None
    calibration: Calibration


def _read_known(task: TaskContext, config: Config, count: int) -> _Known:
    """names: of landmarks. A benchmark asks nothing of recognition."""
    import numpy as np
    import pandas as pd

    from pipeline.competition.metrics import Truth
    from pipeline.ranking.calibration import Calibration
    from pipeline.ranking.recognition import Recognition

    names = read_landmark_names(task)
    if config.data.is_benchmark:
        return _Known(names, None, None, None, Calibration(None))
    table = pd.read_parquet(task.input(layout.RECOGNITION))
    answers = Recognition(table["labels"].to_numpy(), table["scores"].to_numpy())
    calibration = Calibration(**json.loads(task.input(layout.CALIBRATION).read_text(encoding="utf-8")))
    part = read_solutions(task, config)[1].get("all")
    if part is None:
        return _Known(names, answers, None, None, calibration)
    queries = np.repeat(part.queries, part.truth.counts)
    right = Truth.from_pairs(queries[queries >= 0], part.truth.values[queries >= 0], count)
    return _Known(names, answers, part, right, calibration)


def list_changed(config: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that are not the defaults, section.key -> (value, default), without those of the place."""
    values = flatten_settings(config.model_dump(mode="json"))
    models = {name: ModelSettings() for name in config.models}
    defaults = flatten_settings(Config(run=config.run, models=models).model_dump(mode="json"))
    return {
        name: (value, defaults.get(name))
        for name, value in values.items()
        if value != defaults.get(name) and not name.startswith(OF_THE_PLACE)
    }


def _list_stages(config: Config, step: str) -> set[str]:
    """The stages that only the evidence of a step needs; all steps need those up to the search."""
    kinds = config.rerank.needs([step])
    verified = {layout.EXTRACT_LOCAL, layout.VERIFY} if evidence.VerifiedPairs in kinds else set()
    return verified | ({layout.PREDICT} if evidence.LandmarkVotes in kinds else set())


def _describe_model(name: str, model: ModelSettings) -> str:
    if not model.is_network:
        return f"The descriptors {name} came from elsewhere"
    if not model.train:
        return f"The network {name} is {model.backbone} as it is"
    trained = "was trained before" if model.checkpoint else f"trained for {model.base.epochs_run} epochs"
    more = f" and {model.final.epochs_run} on the clean set" if model.final.epochs and not model.checkpoint else ""
    return f"The network {name} is {model.backbone}, {model.dims} dimensions, {trained}{more}"


def _read_votes(task: TaskContext, config: Config, known: _Known) -> Reading:
    from pipeline.report.misses import Reading

    near = read_neighbours(task, "test", "train", mapped=True)
    of_test, of_index = (read_votes(task, split).labels for split in ("test", "index"))
    landmarks = read_labels(task, config)
    return Reading(of_test, of_index, near.rows, near.similarities, landmarks, known.names, known.right)


def _judge_recognition(known: _Known) -> Answered | None:
    from pipeline.report.confidence import judge_answers

    if known.part is None or known.recognition is None:
        return None
    return judge_answers(known.recognition.labels, known.recognition.scores, known.part, known.calibration)


def _measure_landmarks(known: _Known, judged: JudgedRanking | None) -> pd.DataFrame | None:
    """How each landmark fares; None without a recognition solution."""
    from pipeline.report.landmark_table import measure_landmarks

    if known.part is None or known.recognition is None:
        return None
    return measure_landmarks(known.part, known.recognition.labels, judged.steps[-1].precisions if judged else None)


def _read_answers(task: TaskContext, config: Config, known: _Known) -> Answers:
    """What the report shows where no solution judges."""
    import numpy as np

    from pipeline.report.answers import Answers

    assert known.recognition is not None  # only a benchmark has none, and there a ranking is judged
    steps, similarities = read_rankings(task, config)["recipe"], None
    if not len(read_images(task, "train")):
        first_step = task.input(layout.ranking("recipe")) / f"0_{config.rerank.recipe[0]}.scores.npy"
        similarities = np.load(first_step)[:, 0]
    return Answers(steps, *known.recognition, known.names, similarities, config.data.is_searched_in_itself)


def _open_verified(task: TaskContext, config: Config) -> VerifiedPairs:
    import pandas as pd

    from pipeline.features.local_store import LocalStore
    from pipeline.report.local_report import VerifiedPairs

    queries, base = (layout.local_features(config.local_model, split) for split in ("test", "index"))
    pairs = pd.read_parquet(task.input(layout.verified_pairs("index")))
    stores = LocalStore(task.input(queries)), LocalStore(task.input(base))
    return VerifiedPairs(pairs, *stores, config.verify, config.min_inliers)
