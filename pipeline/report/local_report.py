"""What local features did: which surfaces they found again, and which train photographs the cleaning dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.features.local_store import LocalStore
from pipeline.matching.verification import verify_pair
from pipeline.report.gallery import Photographs, read_or_grey, render_cell
from pipeline.report.matches import render_matches
from pipeline.report.page import render_section
from pipeline.settings import VerifySettings

SHOWN_PAIRS = 4
SHOWN_LANDMARKS, SHOWN_SUPPORTERS = 6, 7
PAIRS_TEXT = (
    "A test photograph and one of the index photographs it was compared with. A coloured line ties two keypoints that "
    "match and obey one map of the whole surface; grey lines are matches that do not. The best pairs of a few queries."
)
CLEANING_TEXT = (
    "One row a landmark: in red a train photograph that was dropped, because too few others of its landmark share a "
    "surface with it; in green some of those that stayed. What is dropped carries a wrong label, or shows what no "
    "other photograph shows."
)


@dataclass(frozen=True)
class VerifiedRun:
    """The compared pairs of test and index, with what they were compared by. longer_sides: (N,) px of the index."""

    pairs: pd.DataFrame
    queries: LocalStore
    base: LocalStore
    longer_sides: NDArray[np.number]
    settings: VerifySettings


def read_verified(find: Callable[[str], Path], config: Config, index: pd.DataFrame) -> VerifiedRun | None:
    """The compared pairs of test and index with their features; None where none are. find: an input's name -> path."""
    if "index" not in config.verified_splits:
        return None
    pairs = pd.read_parquet(find("08_verify_matches/test_index:pairs.parquet"))
    queries, base = (LocalStore(find(f"07_extract_local/{config.local_model}/{split}")) for split in ("test", "index"))
    return VerifiedRun(pairs, queries, base, index[["width", "height"]].max(axis=1).to_numpy(), config.verify)


def render_pairs(run: VerifiedRun, test: Photographs, index: Photographs) -> str:
    """A section with some of the pairs that share a surface, their matched keypoints drawn."""
    figures = []
    for query, row in pick_pairs(run.pairs, SHOWN_PAIRS):
        features, other = run.queries[query], run.base[row]
        settings = run.settings
        matches, fit = verify_pair(
            features, other, settings.inlier_threshold * float(run.longer_sides[row]),
            min_similarity=settings.min_similarity,
            max_ratio=settings.max_ratio if settings.max_ratio < 1.0 else None,
            max_iterations=settings.max_iterations,
        )  # fmt: skip
        points = features.points[matches[:, 0]], other.points[matches[:, 1]]
        first, second = (
            read_or_grey(path, _size_around(shown))
            for path, shown in ((test.paths[query], features.points), (index.paths[row], other.points))
        )
        caption = f"{test.ids[query]} and {index.ids[row]}"
        figures.append(render_matches(first, second, *points, fit.inliers, caption))
    if not figures:
        return ""
    return render_section("Surfaces found again", PAIRS_TEXT, f"<div class=pairs>{''.join(figures)}</div>")


def _size_around(points: NDArray[np.floating]) -> tuple[int, int]:
    """The (width, height) of a picture that holds the points."""
    width, height = (np.ceil(points.max(axis=0, initial=0)).astype(int) + 1).tolist()
    return width, height


def pick_pairs(pairs: pd.DataFrame, count: int) -> list[tuple[int, int]]:
    """(query, row) of the best pair of `count` queries, from the clearest of all to the middling, evenly spread."""
    order = pairs.sort_values(["inliers", "query", "row"], ascending=[False, True, True])
    best = order[order["inliers"] > 0].drop_duplicates("query")
    upper = best.iloc[: max(len(best) // 2, 1)]
    chosen = upper.iloc[np.unique(np.linspace(0, max(len(upper) - 1, 0), count).astype(int))] if len(upper) else upper
    return list(zip(chosen["query"].tolist(), chosen["row"].tolist(), strict=True))


def render_cleaning(train: pd.DataFrame, support: pd.DataFrame, root: Path) -> str:
    """A section with photographs that the cleaning dropped, beside those of their landmark that stayed.

    train: the table of stage 01; support: supporters and kept of each of its rows; root: the data folder.
    """
    photographs = Photographs(train["id"].tolist(), [root / path for path in train["path"]])
    rows = []
    for dropped, stayed in pick_dropped(train["landmark"].to_numpy(), support):
        cells = [render_cell(photographs, dropped, False)] + [render_cell(photographs, row, True) for row in stayed]
        name = escape(str(train["landmark"].iloc[dropped]))
        rows.append(f"<div class=strip><b>{name}</b>{''.join(cells)}</div>")
    if not rows:
        return ""
    return render_section("What the cleaning dropped", CLEANING_TEXT, "".join(rows))


def pick_dropped(landmarks: NDArray[np.integer], support: pd.DataFrame) -> list[tuple[int, list[int]]]:
    """(dropped row, kept rows of its landmark with the most supporters first), of the landmarks that keep the most."""
    kept, supporters = support["kept"].to_numpy(), support["supporters"].to_numpy()
    picked = []
    for landmark in _by_count(landmarks[kept]):
        of_landmark = np.flatnonzero(landmarks == landmark)
        dropped = of_landmark[~kept[of_landmark]]
        if len(dropped):
            stayed = of_landmark[kept[of_landmark]]
            best = stayed[np.argsort(-supporters[stayed], kind="stable")][:SHOWN_SUPPORTERS]
            picked.append((int(dropped[np.argmin(supporters[dropped])]), best.tolist()))
    return picked[:SHOWN_LANDMARKS]


def _by_count(landmarks: NDArray[np.integer]) -> Sequence[int]:
    """The landmarks, those with the most images first, ties by number."""
    values, counts = np.unique(landmarks, return_counts=True)
    return values[np.argsort(-counts, kind="stable")].tolist()
