"""What the report shows of local features: which verified pairs, which dropped images, and how it draws them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from photographs import write_photographs

from pipeline.competition.metrics import Truth
from pipeline.features.local_store import DIMENSIONS, LocalFeatures, LocalStore, pack
from pipeline.features.store import write_ragged_in_shards
from pipeline.images.split import Split
from pipeline.report.local_report import (
    SHOWN_LANDMARKS,
    SHOWN_SUPPORTERS,
    VerifiedPairs,
    pick_dropped,
    pick_pairs,
    show_dropped,
    show_pairs,
)
from pipeline.report.run_report import Run, render_report
from pipeline.settings import VerifySettings


def split_of(ids, paths, landmark=0):
    """A split of images of 120 x 80 pixels."""
    table = pd.DataFrame({"id": ids, "path": [path.name for path in paths], "landmark": landmark})
    return Split(table.assign(width=120, height=80), paths[0].parent)


def compared(*pairs):
    return pd.DataFrame(list(pairs), columns=["query", "row", "inliers"])


# ---- Pairs ---------------------------------------------------------------------------------------------------------


def test_pairs_are_picked_from_the_better_half_of_the_best_pairs_of_each_query():
    pairs = compared((0, 5, 20), (0, 6, 90), (1, 5, 70), (1, 2, 70), (2, 8, 50), (3, 1, 40), (4, 4, 0), (5, 9, 5))
    assert pick_pairs(pairs, 1) == [(0, 6)]
    assert pick_pairs(pairs, 2) == pick_pairs(pairs, 9) == [(0, 6), (1, 2)]  # of five with inliers, two; ties by row
    assert pick_pairs(pairs, 0) == []


def test_shown_pairs_are_evenly_spaced_from_the_most_inliers_to_the_median():
    pairs = compared(*((query, 100 + query, 60 - query) for query in range(20)))
    assert [query for query, _ in pick_pairs(pairs, 4)] == [0, 3, 6, 9]
    assert [query for query, _ in pick_pairs(pairs.sample(frac=1, random_state=1), 4)] == [0, 3, 6, 9]


def test_no_query_is_shown_twice_and_all_pairs_are_real():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size, count = int(rng.integers(0, 40)), int(rng.integers(1, 6))
        pairs = compared(*zip(*(rng.integers(0, 9, size) for _ in range(3)), strict=True)).drop_duplicates(
            ["query", "row"]
        )
        best = {query: group["inliers"].max() for query, group in pairs.groupby("query") if group["inliers"].max() > 0}
        picked = pick_pairs(pairs, count)
        known = {(query, row): found for query, row, found in pairs.itertuples(index=False)}
        shown = [known[pair] for pair in picked]
        assert len(picked) == min(count, max(len(best) // 2, 1), len(best))
        assert len({query for query, _ in picked}) == len(picked)
        assert shown == [best[query] for query, _ in picked] == sorted(shown, reverse=True)
        assert not best or shown[0] == max(best.values())


def test_nothing_is_shown_where_nothing_has_inliers():
    assert pick_pairs(compared((0, 1, 0), (1, 1, 0)), 4) == []
    assert pick_pairs(compared(), 4) == []


@pytest.fixture
def verified(tmp_path):
    """Two test and two index images; of the first of each 30 keypoints match, 5 are too unlike, 1 is ambiguous."""
    rng = np.random.default_rng(1)
    paths = write_photographs(tmp_path / "photos", 4).paths
    points, ones = rng.uniform(0, 100, (40, 2)).astype(np.float32), np.ones(40, np.float32)
    vectors = rng.standard_normal((4, 40, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[2, :30] = vectors[0, :30]
    vectors[2, 30:35] = 0.5 * vectors[0, 30:35] + np.sqrt(0.75) * vectors[2, 30:35]
    vectors[0, 35] = vectors[2, 35] + vectors[2, 36]
    features = [LocalFeatures(points, ones, ones, descriptors) for descriptors in vectors]
    stores = []
    for name, some in (("test", features[:2]), ("index", features[2:])):
        folder = tmp_path / name
        write_ragged_in_shards(folder, folder / "s", 2, 2, lambda at, to, some=some: pack(some[at:to], "float16"))
        stores.append(LocalStore(folder))
    settings = VerifySettings(min_similarity=0.68, max_ratio=0.9, max_iterations=50)
    pairs = VerifiedPairs(compared((0, 0, 30), (0, 1, 0), (1, 0, 0)), *stores, settings)
    return pairs, split_of(["a", "b"], paths[:2]), split_of(["c", "<d>"], paths[2:])


def test_a_pair_is_drawn_with_its_ids_and_the_counts_of_the_table(verified):
    figures = show_pairs(*verified, truth=None)
    assert [figure.caption for figure in figures] == ["a and c, 30 inliers of 30 matches"]
    assert figures[0].source.startswith("data:image/jpeg;base64,")


def test_pairs_stand_on_the_page_with_their_ids_escaped(verified):
    pairs, test, index = verified
    page = render_report(
        Run("r", test, index, index, verified=replace(pairs, pairs=compared((0, 1, 1)))), {"seconds": {}}
    )
    assert "Verified pairs" in page and page.count("<figure>") == 1
    assert "a and &lt;d&gt;, 0 inliers of 0 matches" in page and "<d>" not in page


def test_with_a_ground_truth_only_pairs_that_show_one_landmark_are_drawn(verified):
    assert len(show_pairs(*verified, truth=Truth.from_lists([[0, 1], []]))) == 1
    assert show_pairs(*verified, truth=Truth.from_lists([[1], [0]])) == []


def test_without_inliers_no_pair_is_drawn(verified):
    pairs, test, index = verified
    pairs = replace(pairs, pairs=pairs.pairs[1:])
    assert show_pairs(pairs, test, index, None) == []
    page = render_report(Run("r", test, index, index, verified=pairs), {"seconds": {}})
    assert "No pair that could be shown has 1 inliers or more" in page and "<figure>" not in page


def test_pairs_with_fewer_inliers_than_chance_gives_are_not_drawn(verified):
    pairs, test, index = verified
    assert len(show_pairs(replace(pairs, min_inliers=30), test, index, None)) == 1
    assert show_pairs(replace(pairs, min_inliers=31), test, index, None) == []


def test_a_missing_image_does_not_stop_the_report(verified):
    (verified[1].root / verified[1].table["path"].iloc[0]).unlink()
    assert show_pairs(*verified, truth=None)[0].caption.startswith("a and c, ")


# ---- What the cleaning dropped -------------------------------------------------------------------------------------


def support_of(supporters, kept):
    return pd.DataFrame({"supporters": np.array(supporters, np.int32), "kept": np.array(kept, bool)})


def test_per_landmark_the_least_supported_image_stands_beside_the_most_supported():
    landmarks = np.array([5, 5, 8, 5, 5, 8, 8, 3, 9, 9, 5])
    support = support_of([3, 1, 4, 5, 0, 3, 2, 0, 6, 6, 5], [1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1])
    # 5 keeps three images, 8 and 9 two; 9 lost none, 3 kept none.
    assert pick_dropped(landmarks, support) == [(4, [3, 10, 0]), (6, [2, 5])]


def test_few_landmarks_and_few_supporters_are_shown():
    landmarks = np.repeat(np.arange(SHOWN_LANDMARKS + 3), SHOWN_SUPPORTERS + 5)
    kept = np.arange(len(landmarks)) % (SHOWN_SUPPORTERS + 5) > 1
    picked = pick_dropped(landmarks, support_of(np.full(len(landmarks), 4), kept))
    assert [dropped for dropped, _ in picked] == [at * (SHOWN_SUPPORTERS + 5) for at in range(SHOWN_LANDMARKS)]
    assert {len(stayed) for _, stayed in picked} == {SHOWN_SUPPORTERS}


def test_where_nothing_was_dropped_or_nothing_stayed_there_is_nothing_to_show():
    for kept in ([1, 1], [0, 0]):
        assert pick_dropped(np.array([2, 2]), support_of([1, 1], kept)) == []
    assert pick_dropped(np.zeros(0, int), support_of([], [])) == []


def test_dropped_images_have_a_red_frame_and_those_kept_beside_them_a_green_one(tmp_path):
    images = write_photographs(tmp_path / "train", 9)
    train = split_of([f"i{row}" for row in range(9)], images.paths, images.labels)
    support = support_of([2] * 6 + [0, 2, 2], [1] * 6 + [0, 1, 1])
    assert show_dropped(train, support, {7: "Mill"})[0].title == "Mill"
    [strip] = show_dropped(train, support, {})
    assert strip.title == "landmark 7"
    assert [(cell.name, cell.good) for cell in strip.cells] == [("i6", False), ("i0", True), ("i3", True)]
    page = render_report(Run("r", train, train, train, support=support), {"seconds": {}})
    assert "Train photographs that the cleaning dropped" in page
    assert page.index('class="bad"') < page.index('title="i6"') < page.index('class="good"') < page.index('title="i0"')
    assert "<b>landmark 7</b>" in page and 'title="i1"' not in page
