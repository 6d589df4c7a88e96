"""What the local features did: verified pairs with their matches, and the train images that the cleaning dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.competition.metrics import Truth
from pipeline.features.local_store import LocalFeatures, LocalStore
from pipeline.images.decode import Size
from pipeline.images.split import Split
from pipeline.matching.verification import MatchOptions, verify_pair
from pipeline.report.answers import name_landmark
from pipeline.report.gallery import Strip, id_of, path_of, show_image
from pipeline.report.inline_images import read_or_grey
from pipeline.report.matches import HEIGHT_PX, Figure, MatchedImages, show_matches
from pipeline.settings import VerifySettings

SHOWN_PAIRS = 4
SHOWN_LANDMARKS, SHOWN_SUPPORTERS = 6, 7


@dataclass(frozen=True)
class VerifiedPairs:
    """The verified pairs of test and index images, a table of query, row and inliers, and what gave the inliers.

    min_inliers: fewer may be chance, and are not shown.
    """

    pairs: pd.DataFrame
    queries: LocalStore
    base: LocalStore
    settings: VerifySettings
    min_inliers: int = 1


def show_pairs(verified: VerifiedPairs, test: Split, index: Split, truth: Truth | None) -> list[Figure]:
    """Some of the verified pairs with their matches; with a ground truth only pairs that show one landmark.

    Without that limit the clearest pairs of the demo would be portraits of two strangers.
    """
    pairs = verified.pairs if truth is None else _keep_relevant(verified.pairs, truth)
    pairs = pairs[pairs["inliers"] >= verified.min_inliers]
    return [draw_pair(verified, test, index, pair) for pair in pick_pairs(pairs, SHOWN_PAIRS)]


def draw_pair(
    verified: VerifiedPairs, test: Split, index: Split, pair: tuple[int, int], height_px: int = HEIGHT_PX
) -> Figure:
    """A pair of (test row, index row) with its matches, as stage 08 found them."""
    query, row = pair
    first, second = verified.queries[query], verified.base[row]
    longer_side = int(index.table[["width", "height"]].iloc[row].max())
    threshold_px = verified.settings.inlier_threshold * float(longer_side)
    matches, transform = verify_pair(first, second, threshold_px, MatchOptions.from_settings(verified.settings))
    matched = MatchedImages(
        read_or_grey(path_of(test, query), _size_around(first)),
        read_or_grey(path_of(index, row), _size_around(second)),
        first.points[matches[:, 0]],
        second.points[matches[:, 1]],
        transform.inliers,
    )
    return show_matches(matched, f"{id_of(test, query)} and {id_of(index, row)}", height_px)


def pick_pairs(pairs: pd.DataFrame, count: int) -> list[tuple[int, int]]:
    """(query, row) of `count` queries' best pairs, evenly spaced from the one with the most inliers to the median."""
    order = pairs.sort_values(["inliers", "query", "row"], ascending=[False, True, True])
    best = order[order["inliers"] > 0].drop_duplicates("query")
    upper = best.iloc[: max(len(best) // 2, 1)]
    chosen = upper.iloc[np.unique(np.linspace(0, max(len(upper) - 1, 0), count).astype(int))] if len(upper) else upper
    return list(zip(chosen["query"].tolist(), chosen["row"].tolist(), strict=True))


def show_dropped(train: Split, support: pd.DataFrame, names: Mapping[int, str]) -> list[Strip]:
    """A strip per landmark: a train image that was dropped, then images of the landmark that were kept.

    support: supporters and kept of each train image. names: of landmarks, where they have some.
    """
    landmarks = train.table["landmark"].to_numpy()
    strips = []
    for dropped, kept in pick_dropped(landmarks, support):
        cells = [show_image(train, dropped, good=False), *(show_image(train, row, good=True) for row in kept)]
        strips.append(Strip(name_landmark(int(landmarks[dropped]), names), "", cells))
    return strips


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


def _keep_relevant(pairs: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    relevant = pd.DataFrame({"query": np.repeat(np.arange(len(truth)), truth.counts), "row": truth.values})
    return pairs.merge(relevant, on=["query", "row"])


def _size_around(features: LocalFeatures) -> Size:
    """The size of an image that contains the keypoints."""
    width, height = (np.ceil(features.points.max(axis=0, initial=0)).astype(int) + 1).tolist()
    return width, height


def _by_count(landmarks: NDArray[np.integer]) -> list[int]:
    """The landmarks, those with the most images first, ties by number."""
    values, counts = np.unique(landmarks, return_counts=True)
    return values[np.argsort(-counts, kind="stable")].tolist()
