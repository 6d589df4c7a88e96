"""The scores of one submission file as a table for a console."""

from __future__ import annotations

from typing import cast

from pipeline.competition.scoring import Scored
from pipeline.report.page import format_table

HALVES = ("public", "private")
ROWS = {
    "retrieval": {"map_at_100": "mAP@100"},
    "recognition": {"gap": "GAP", "gap_landmarks_only": "GAP, landmarks only", "top1": "top-1 accuracy"},
}
POSITIONS = {"mean_position": "first hit, mean place", "median_position": "first hit, median place"}


def describe_score(scored: Scored) -> str:
    """The scores over both halves of the leaderboard and over each; a half that the solution does not have is empty.

    Mean precisions and positions are over both.
    """
    rows = [[title, *(_number(scored, key + half) for half in ("", *(f"_{half}" for half in HALVES)))]
            for key, title in ROWS[scored.task].items()]  # fmt: skip
    if scored.task == "retrieval":
        precisions = cast(dict[str, float], scored.scores["mean_precision"])
        rows += [[f"mean precision at {k}", f"{value:.6f}", "", ""] for k, value in precisions.items()]
        rows += [[title, f"{scored.scores[key]:g}", "", ""] for key, title in POSITIONS.items()]
    count = f"{scored.answered} of {scored.queries} scored queries are answered"
    return f"{count}\n\n{format_table((scored.task, 'both', *HALVES), rows)}"


def _number(scored: Scored, key: str) -> str:
    return f"{scored.scores[key]:.6f}" if key in scored.scores else ""
