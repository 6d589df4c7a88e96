"""The answers for some photographs as one HTML page that contains its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.images.decode import decode_photograph
from pipeline.query.answer import Answer
from pipeline.query.opened_run import OpenedRun
from pipeline.report.gallery import HEIGHT_PX, QUERY_HEIGHT_PX, path_of
from pipeline.report.inline_images import make_thumbnail
from pipeline.report.matches import Figure, MatchedImages, show_matches
from pipeline.report.run_report import render_template

PAGE_ANSWERS = 50  # photographs on a page: about 10 MB
DRAWN = 2  # matched images that are drawn for a photograph


@dataclass(frozen=True)
class ShownImage:
    """An index image of a list: its id, itself as a data URI, and why it is there."""

    name: str
    source: str
    reason: str


@dataclass(frozen=True)
class ShownAnswer:
    """A photograph as a data URI, what it shows, its list, and matches with the images that have the most inliers."""

    name: str
    source: str
    verdict: str
    images: Sequence[ShownImage]
    figures: Sequence[Figure]


def render_answers(run: OpenedRun, answers: Sequence[Answer], k: int) -> str:
    """The page: the first `k` images of each list, for at most PAGE_ANSWERS photographs."""
    shown = [_show(run, answer, k) for answer in answers[:PAGE_ANSWERS]]
    left = len(answers) - len(shown)
    return render_template("query.html", title=f"Cairn: {run.config.run}", answers=shown, left=left)


def describe_verdict(run: OpenedRun, answer: Answer) -> str:
    """What the photograph shows, in a sentence."""
    if not answer.name:
        return "no landmark: no train photograph has a vote"
    guess = f"{answer.name}, confidence {answer.confidence:.3f}"
    if answer.is_known is None:
        return f"{guess} (the run had too few train photographs to tell unknown landmarks)"
    least = run.threshold.min_support
    if answer.is_known:
        return f"{guess} (support {answer.support:.3f}, at least {least:.3f} is needed)"
    return f"unknown: the best guess, {guess}, has a support of {answer.support:.3f}, and {least:.3f} is needed"


def _show(run: OpenedRun, answer: Answer, k: int) -> ShownAnswer:
    index = run.images["index"]
    images = [
        ShownImage(answer.ids[at], make_thumbnail(path_of(index, int(answer.rows[at])), HEIGHT_PX), answer.explain(at))
        for at in range(min(k, len(answer)))
    ]
    source, figures = make_thumbnail(answer.photograph, QUERY_HEIGHT_PX), _draw_matches(run, answer, k)
    return ShownAnswer(answer.photograph.name, source, describe_verdict(run, answer), images, figures)


def _draw_matches(run: OpenedRun, answer: Answer, k: int) -> list[Figure]:
    """Matches with the images that have the most inliers, of those that have enough not to be chance."""
    least = run.config.min_inliers
    best = sorted(range(min(k, len(answer))), key=lambda at: -int(answer.inliers[at]))
    return [_draw(run, answer, at) for at in best[:DRAWN] if answer.inliers[at] >= least]


def _draw(run: OpenedRun, answer: Answer, at: int) -> Figure:
    assert answer.features is not None  # there are inliers
    image, matches, transform = run.match(answer, at)
    matched = MatchedImages(
        decode_photograph(answer.photograph),
        decode_photograph(path_of(run.images["index"], int(answer.rows[at]))),
        answer.features.points[matches[:, 0]],
        image.points[matches[:, 1]],
        transform.inliers,
    )
    return show_matches(matched, f"{answer.photograph.name} and {answer.ids[at]}")
