"""Votes, tau, k and the like, chosen on the public half of the solutions and reported on the private half too.

    python -m benchmarks.tune --config configs/demo.toml
    python -m benchmarks.tune --config configs/photos.toml data.root=/my/photos --recipe recipe --recipe knn,soft

Works on what a finished run left: the lists of stage 06, the inliers of stage 08, the votes counted again for every
setting. Nothing is written. Only settings that act after the search are tuned, so each trial takes milliseconds; what
to try is in knobs.py. The private half is scored once, when everything is chosen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.knobs import RECOGNITION, RETRIEVAL, Values, list_choices, read_values, tune, with_values
from pipeline import layout
from pipeline.artifacts import read_manifest
from pipeline.competition.evaluation import (
    Part,
    read_recognition_parts,
    read_retrieval_parts,
    score_recognition,
    score_retrieval,
)
from pipeline.config import Config, load_config
from pipeline.console import run_guarded
from pipeline.errors import PipelineError
from pipeline.ranking.evidence import LandmarkVotes
from pipeline.ranking.prediction import answer_recognition
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import State, apply_step
from pipeline.ranking.recognition import Recognition
from pipeline.runner import DEFAULT_CONFIG, Pipeline, load_stages
from pipeline.task_context import TaskContext
from pipeline.tasks.evidence import open_search, read_evidence
from pipeline.tasks.inputs import read_images, read_neighbours
from pipeline.tasks.prediction import read_recognition_evidence, vote_split

LAST_READ = 9  # stage


# ---- What a setting answers -----------------------------------------------------------------------------------------


class FinishedRun(TaskContext):
    """What a finished run left, read when it is asked for, under any settings."""

    def __init__(self, config: Config):
        super().__init__(config.runtime.outputs.absolute() / config.run)
        self.config = config

    def input(self, reference: str) -> Path:
        """The path of an artifact, or of a file of one. Raises PipelineError where the run has not made it."""
        artifact, name = layout.split_reference(reference)
        if not self.has(artifact):
            hint = f"./run_all.sh with the same settings and --to {int(artifact[:2])}, or --recipe for one without it"
            raise PipelineError(f"the run has no {artifact}", self.folder / artifact, hint)
        return self.folder / artifact / name

    def has(self, artifact: str) -> bool:
        """Whether the run has made this artifact."""
        return read_manifest(self.folder / artifact) is not None

    def list_ids(self) -> tuple[list[str], list[str]]:
        """The ids of the test images by row, and of those rejected."""
        rejected = pd.read_csv(self.input(layout.REJECTED), dtype=str, keep_default_na=False)
        ids = read_images(self, "test")["id"].tolist()
        return ids, rejected.loc[rejected["split"] == "test", "id"].tolist()


class Retrieval:
    """Rankings of a run's lists under any settings that act after the search."""

    def __init__(self, run: FinishedRun, steps: Collection[str]):
        config = run.config
        near = read_neighbours(run, "test", "index")
        ranking = Ranking(near.rows, near.similarities, len(read_images(run, "index")))
        kinds = config.rerank.needs(list(steps)) - {LandmarkVotes}  # votes are counted again for every setting
        self.start = State(ranking, read_evidence(run, config, kinds))
        self.search = open_search(run, config, kinds)
        self._vote = cache(lambda split, votes: vote_split(run, config.model_copy(update={"vote": votes}), split))

    def ranker(self, config: Config, steps: Sequence[str]) -> Callable[[Config], np.ndarray]:
        """A function from settings to the rows (Q, top_k) that these steps list.

        The steps before the first that reads a tuned setting run once.
        """
        tuned = {step for knob in RETRIEVAL for step in knob.steps}
        first = next((position for position, step in enumerate(steps) if step in tuned), len(steps))
        start = self._apply(config, steps[:first], self.start)
        return lambda changed: self._apply(changed, steps[first:], start).ranking.top(changed.rerank.top_k).rows

    def _apply(self, config: Config, steps: Sequence[str], state: State) -> State:
        votes = LandmarkVotes(*(self._vote(split, config.vote) for split in ("test", "index")))
        state = State(state.ranking, state.evidence.replace(votes))
        for step in steps:
            state = apply_step(step, state, config.rerank, self.search)
        return state


# ---- The report -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """answer: from settings to what is scored; score: of an answer, on the queries of one half."""

    title: str
    answer: Callable[[Config], Any]
    score: Callable[[Any, Part], float]
    halves: Mapping[str, Part]


def report(question: Question, config: Config, choices: Mapping[str, Iterable[Any]]) -> str:
    """The configured and the tuned settings with their scores on both halves, and the lines for the TOML file."""
    public, start, begun = question.halves["public"], read_values(config, choices), time.perf_counter()

    def score_public(values: Values) -> float:
        return question.score(question.answer(with_values(config, values)), public)

    chosen, tried = tune(start, choices, score_public)
    lines = [f"{question.title}  ({tried} settings in {time.perf_counter() - begun:.1f} s)"]
    sizes = (f"{half} ({len(part.queries)})" for half, part in question.halves.items())
    lines.append(f"  {'':12}{''.join(f'{size:<16}' for size in sizes)}".rstrip())
    for name, values in (("configured", start), ("tuned", chosen)):
        answer = question.answer(with_values(config, values))
        scores = "".join(f"{question.score(answer, part):<16.4f}" for part in question.halves.values())
        lines.append(f"  {name:12}{scores}{', '.join(f'{key} = {value}' for key, value in values.items())}")
    changed = [f"    {key} = {value}" for key, value in chosen.items() if value != start[key]]
    return "\n".join([*lines, *(["  for the TOML file:", *changed] if changed else ["  nothing to change"]), ""])


def score_map(rows: np.ndarray, part: Part) -> float:
    """mAP@100 on the queries of one half."""
    return float(score_retrieval(rows, {"half": part})["map_at_100_half"])  # type: ignore[arg-type]


def score_gap(answer: Recognition, part: Part) -> float:
    """GAP on the queries of one half."""
    return float(score_recognition(answer.labels, answer.scores, {"half": part})["gap_half"])  # type: ignore[arg-type]


def answer(run: FinishedRun, config: Config) -> Recognition:
    """The recognition answer of a run under these settings."""
    return answer_recognition(read_recognition_evidence(run, config), config.recognition)


def choose_halves(parts: Mapping[str, Part], path: Path) -> dict[str, Part]:
    """The public and the private half of a solution. Raises PipelineError where one has nothing to score."""
    halves = {half: parts[half] for half in ("public", "private") if half in parts and len(parts[half].truth.values)}
    if len(halves) < 2:
        hint = "tuning needs the solution file, with Usage Public for some queries and Private for others"
        raise PipelineError(f"nothing to score in {'both halves' if not halves else 'one half'}", path, hint)
    return halves


def warn_of_stale(config: Config) -> None:
    """Name what these settings and this code would make again: the figures are of what is there."""
    pipeline = Pipeline(config, load_stages())
    for stage in (stage for stage in pipeline.stages if stage.number <= LAST_READ):
        for artifact, reasons in pipeline.explain(stage).items():
            own = [reason for reason in reasons if not reason.endswith(" is stale") and reason != "not built yet"]
            if own:
                print(f"note: {artifact} is used as it is, though {own[0]}", file=sys.stderr)


def choose_recipes(config: Config, asked: Sequence[str]) -> dict[str, Sequence[str]]:
    """The recipes asked for by name, or all. Raises PipelineError for a name that is none."""
    known = config.rerank.recipes
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise PipelineError(
            f"there is no recipe {unknown[0]}", "--recipe", f"choose from {', '.join(known)}, or write steps: knn,soft"
        )
    return {name: known[name] for name in asked or known}


def work(asked: argparse.Namespace) -> None:
    """Tune what is asked for, recipe by recipe and then the recognition, and print it."""
    baselines = {text.replace(",", "_"): text.split(",") for text in asked.recipe if "," in text}
    config = load_config(asked.config, asked.settings + [f"rerank.baselines.{n}={s}" for n, s in baselines.items()])
    recipes = choose_recipes(config, [text.replace(",", "_") for text in asked.recipe])
    run, root = FinishedRun(config), config.data.root
    warn_of_stale(config)
    ids = run.list_ids()

    path = root / config.data.retrieval_solution
    halves = choose_halves(read_retrieval_parts(path, *ids, read_images(run, "index")["id"].tolist()), path)
    retrieval = Retrieval(run, {step for steps in recipes.values() for step in steps})
    for name, steps in recipes.items():
        question = Question(f"{name}: {' > '.join(steps)}, mAP@100", retrieval.ranker(config, steps), score_map, halves)
        print(report(question, config, list_choices(config, RETRIEVAL, steps)), flush=True)

    path = root / config.data.recognition_solution
    halves = choose_halves(read_recognition_parts(path, *ids), path)
    needs = {
        "recognition.max_inliers": [layout.split_reference(layout.verified_pairs("train"))[0]],
        "recognition.head_power": [layout.final_network(name) for name in config.models],
    }
    knobs = [knob for knob in RECOGNITION if all(run.has(artifact) for artifact in needs.get(knob.key, []))]
    question = Question("recognition, GAP", partial(answer, run), score_gap, halves)
    print(report(question, config, list_choices(config, knobs)))


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="TOML file (default: %(default)s)")
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="NAME", help="or its steps: knn,soft (default: all)"
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="settings to override")
    asked = parser.parse_intermixed_args()
    return run_guarded(lambda: work(asked))


if __name__ == "__main__":
    sys.exit(main())
