"""A finished run that answers photographs: the index side is read once, the steps are those of the stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import layout
from pipeline.arrays import NO_LABEL, NONE, AnyIntegers, Doubles, Floats, Integers, Rows, Vectors, round_similarity
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.features.local_store import LocalFeatures
from pipeline.images.split import Split
from pipeline.matching.geometry import Affine
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.matching.products import pair_products
from pipeline.query.answer import NOT_COMPARED, Answer
from pipeline.query.index_side import IndexSide
from pipeline.query.photographs import Describer, inspect_files
from pipeline.ranking.evidence import DescriptorPair, Evidence, LabelledNeighbours, PropagatedLabels, VerifiedPairs
from pipeline.ranking.prediction import (
    Classifier,
    NonLandmarks,
    RecognitionEvidence,
    answer_recognition,
    vote_landmarks,
)
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import State, apply_step, continue_from
from pipeline.ranking.recognition import Recognition, ban_by_frequency
from pipeline.ranking.registry import STEPS
from pipeline.ranking.unknown import UnknownThreshold, answer_support
from pipeline.ranking.voting import Votes
from pipeline.report.answers import name_landmark
from pipeline.settings import NON_LANDMARK
from pipeline.task_context import TaskContext
from pipeline.tasks.inputs import read_landmark_names

SHOWN = 10  # images of a list that are compared with the photograph, to say why they are there


@dataclass(frozen=True)
class _Asked:
    """Q photographs as the steps see them. by_train, by_index: the inliers that the settings ask for, if they do."""

    vectors: Floats
    features: list[LocalFeatures]
    near_index: Neighbours
    near_train: LabelledNeighbours
    train_rows: Rows
    by_train: PairTable | None
    by_index: PairTable | None
    propagated: PropagatedLabels | None


@dataclass(frozen=True)
class _Answered:
    """What the steps make of them. inliers: (Q, K) of the first images of each list, NOT_COMPARED for the others."""

    votes: Votes
    recognition: Recognition
    support: Doubles
    ranking: Ranking
    inliers: Integers


class OpenedRun:
    """A run opened for questions. See `pipeline.query.open_run`.

    images: its splits index and train. threshold: the support that an answer needs. names: of landmarks, if they have
    some.
    """

    def __init__(self, task: TaskContext, config: Config):
        self.config, self.names = config, read_landmark_names(task)
        self.threshold = UnknownThreshold(**json.loads(task.input(layout.UNKNOWN).read_text()))
        self._describer = Describer(task, config)
        self._side = IndexSide(task, config, self._describer)
        self.images = self._side.images
        self._predicted = pd.read_parquet(task.input(layout.RECOGNITION))["labels"].to_numpy()
        self._moved: dict[int, Vectors] = {}
        self._moved = self._move_index()

    def search(self, photograph: str | Path, compared: int = SHOWN) -> Answer:
        """The answer for one photograph. Raises PipelineError for a file that is no whole photograph.

        compared: images at the top of the list that are verified, beside those that the settings ask for.
        """
        asked, refused = inspect_files([Path(photograph)], self.config.data)
        for path, reason in refused.items():
            raise PipelineError(f"this photograph cannot be used: {reason}", path, "give another file")
        return self.search_split(asked, compared)[0]

    def search_split(self, photographs: Split, compared: int = SHOWN) -> list[Answer]:
        """The answers for the photographs of a split, as `inspect_files` makes one."""
        if not len(photographs):
            return []
        described = self._describer.describe(photographs)
        asked = self._find(described.vectors, self._describer.extract(photographs))
        answered = self._answer(asked, self._describer.classifiers(described), compared)
        return [self._explain(asked, answered, at, path) for at, path in enumerate(photographs.paths)]

    def name_landmark(self, landmark: int) -> str:
        """The landmark as a person reads it; empty for NO_LABEL."""
        return name_landmark(landmark, self.names) if landmark != NO_LABEL else ""

    def match(self, answer: Answer, position: int) -> tuple[LocalFeatures, AnyIntegers, Affine]:
        """The features of an image of the list, its matches (m, 2) with the photograph, and the map with its inliers.

        Raises ValueError where the run has no local features.
        """
        if answer.features is None:
            raise ValueError("this run has no local features")
        return self._side.compared["index"].match(answer.features, int(answer.rows[position]))

    def _find(self, vectors: Floats, features: list[LocalFeatures]) -> _Asked:
        near_index, near_train = (self._side.search(vectors, base) for base in ("index", "train"))
        verify = self.config.verify
        by_index = by_train = None
        if VerifiedPairs in self.config.rerank.needs(self.config.rerank.recipe):
            by_index = self._compare(features, near_index.rows[:, : verify.index_k], "index")
        if "train" in self.config.verified_splits:
            by_train = self._compare(features, near_train.rows[:, : verify.train_k], "train")
        labelled, propagated = self._side.label(near_train), self._side.propagate([near_train, near_index], by_train)
        return _Asked(vectors, features, near_index, labelled, near_train.rows, by_train, by_index, propagated)

    def _compare(self, features: list[LocalFeatures], rows: Rows, split: str) -> PairTable:
        return self._side.compared[split].compare(features, rows, self._describer.device)

    def _answer(self, asked: _Asked, classifiers: list[Classifier], compared: int) -> _Answered:
        inliers = asked.by_train.look_up(asked.train_rows) if asked.by_train is not None else None
        votes = vote_landmarks(asked.near_train, self.config.vote, inliers)
        recognition = self._recognise(asked, classifiers)
        support = answer_support(asked.near_train, recognition.labels, self.config.recognition.votes)
        *_, last = self._rank(asked, votes)
        ranking = last.ranking.top(self.config.rerank.top_k)
        return _Answered(votes, recognition, support, ranking, self._count_inliers(asked, ranking.rows, compared))

    def _recognise(self, asked: _Asked, classifiers: list[Classifier]) -> Recognition:
        settings, non_landmarks = self.config.recognition, None
        if settings.non_landmarks:
            non_landmarks = NonLandmarks(self._side.search(asked.vectors, NON_LANDMARK), self._side.read_likeness())
        near = Neighbours(asked.train_rows, asked.near_train.similarities)
        evidence = RecognitionEvidence(
            near, self._side.landmarks, asked.by_train, classifiers, non_landmarks, asked.propagated
        )
        answer = answer_recognition(evidence, settings.model_copy(update={"ban_above": 0}))
        # How often a landmark is predicted is a matter of the test set, of which a single photograph knows nothing.
        scores = ban_by_frequency(answer.labels, answer.scores, self._predicted, settings.ban_above)
        return Recognition(answer.labels, scores)

    def _rank(self, asked: _Asked, votes: Votes) -> Iterator[State]:
        """The state after each step of the recipe."""
        settings, near = self.config.rerank, asked.near_index
        evidence = Evidence(*self._side.list_evidence(asked.vectors, asked.near_train, votes))
        if asked.propagated is not None:
            evidence = evidence.replace(asked.propagated)
        if asked.by_index is not None:
            evidence = evidence.replace(VerifiedPairs(asked.by_index, self.config.verify.index_k))
        state = State(Ranking(near.rows, near.similarities, len(self.images["index"])), evidence)
        for position, name in enumerate(settings.recipe):
            if position in self._moved:
                moved = DescriptorPair(state.evidence.get(DescriptorPair).queries, self._moved[position])
                state = continue_from(moved, state, self._side.search_again)
            else:
                state = apply_step(name, state, settings, self._side.search_again)
            yield state

    def _move_index(self) -> dict[int, Vectors]:
        """The index as steps of the recipe move it, by their position: found once, since no query changes it."""
        moving = [STEPS[name].moves_index for name in self.config.rerank.recipe]
        if not any(moving):
            return {}
        nothing = self._find(np.zeros((0, self._side.vectors["index"].shape[1]), np.float32), [])
        states = enumerate(self._rank(nothing, vote_landmarks(nothing.near_train, self.config.vote)))
        return {position: state.evidence.get(DescriptorPair).index for position, state in states if moving[position]}

    def _count_inliers(self, asked: _Asked, rows: Rows, compared: int) -> Integers:
        """The inliers of the first images of each list, (Q, K), NOT_COMPARED for the others."""
        counted = np.full(rows.shape, NOT_COMPARED, np.int64)
        if asked.features and compared > 0:
            first = rows[:, :compared]
            counted[:, :compared] = self._compare(asked.features, first, "index").look_up(first)
        return counted

    def _explain(self, asked: _Asked, answered: _Answered, at: int, path: Path) -> Answer:
        ranking, least = answered.ranking, self.threshold.min_support
        rows = ranking.rows[at][ranking.rows[at] != NONE]
        label, support = int(answered.recognition.labels[at]), float(answered.support[at])
        voted = answered.votes.labels[at]
        pairs = np.full(len(rows), at), np.arange(len(rows))
        listed = np.asarray(self._side.vectors["index"][rows], np.float32)
        return Answer(
            photograph=path,
            landmark=label,
            name=self.name_landmark(label),
            confidence=float(answered.recognition.scores[at]),
            support=support,
            is_known=None if least is None else support >= least,
            ids=self.images["index"].table["id"].iloc[rows].tolist(),
            rows=rows,
            scores=ranking.scores[at][: len(rows)],
            similarities=round_similarity(pair_products(asked.vectors, listed, *pairs)).astype(np.float32),
            same_landmark=(self._side.votes.labels[rows] == voted) & (voted != NO_LABEL),
            inserted=~np.isin(rows, asked.near_index.rows[at]),
            inliers=answered.inliers[at][: len(rows)],
            features=asked.features[at] if asked.features else None,
        )
