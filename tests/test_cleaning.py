"""The clean train set against loops over single images; its files; candidates that a kill or a cut does not change."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from command import run
from runs import arguments_for, share_finished
from tasks import RecordedTask

from pipeline.errors import PipelineError
from pipeline.matching import clean_list, cleaning
from pipeline.matching.clean_list import (
    copy_clean_list,
    make_clean_list,
    write_candidates,
    write_corrected,
    write_other_candidates,
)
from pipeline.matching.cleaning import (
    correct_labels,
    count_supporters,
    keep_images,
    list_pairs,
    pick_other_landmarks,
    pick_same_landmark,
)
from pipeline.matching.gaps import Gaps
from pipeline.settings import CleanSettings

CPU = torch.device("cpu")


# ---- Neighbours of the same landmark -------------------------------------------------------------------------------


def naive_pick(rows, own, landmarks, count):
    picked = []
    for near, image in zip(rows.tolist(), own.tolist(), strict=True):
        same = [row for row in near if row >= 0 and landmarks[row] == landmarks[image]][:count]
        picked.append(same + [-1] * (count - len(same)))
    return picked


@pytest.mark.parametrize("images", [0, 1, 2, 9, 30])
@pytest.mark.parametrize("k", [0, 1, 9, 40])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_neighbours_of_the_same_landmark_are_those_a_loop_picks(images, k, count):
    rng = np.random.default_rng(images + 100 * k + count)
    landmarks = rng.integers(0, 3, images)
    rows = np.full((images, k), -1, np.int32)
    for image in range(images):
        near = rng.permutation(images)[: rng.integers(0, k + 1)]
        rows[image, : len(near)] = near
    own = rng.permutation(images)
    picked = pick_same_landmark(rows, own, landmarks, count)
    assert picked.tolist() == naive_pick(rows, own, landmarks, count)
    assert picked.dtype == np.int32 and picked.shape == (images, count)


def test_the_first_neighbours_of_the_landmark_stay_in_their_order():
    landmarks = np.array([5, 5, 8, 5, 8, 5])
    rows = np.int32([[4, 3, 2, 1, 5], [2, 0, -1, -1, -1], [0, 1, 3, 5, -1]])
    assert pick_same_landmark(rows, np.array([0, 1, 2]), landmarks, 2).tolist() == [[3, 1], [0, -1], [-1, -1]]


@pytest.mark.parametrize("images", [0, 1, 2, 12])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_pairs_are_those_of_a_set(images, k):
    rng = np.random.default_rng(images + 100 * k)
    others = [[other for other in range(images) if other != image] for image in range(images)]
    lists = [rng.permutation(them)[: rng.integers(0, k + 1)].astype(int).tolist() for them in others]
    neighbours = np.array([near + [-1] * (k - len(near)) for near in lists], np.int32).reshape(images, k)
    expected = sorted({(min(a, b), max(a, b)) for a, near in enumerate(lists) for b in near})
    pairs = list_pairs(neighbours)
    assert list(map(tuple, pairs.tolist())) == expected
    assert pairs.dtype == np.int64 and pairs.shape == (len(expected), 2)


def test_two_images_that_name_each_other_are_compared_once():
    assert list_pairs(np.int32([[2, 1], [0, -1], [0, -1]])).tolist() == [[0, 1], [0, 2]]


# ---- Supporters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [0, 1, 2, 9, 40])
def test_supporters_and_kept_images_are_those_of_a_loop(images):
    rng = np.random.default_rng(images)
    every = np.array([(a, b) for a in range(images) for b in range(a + 1, images)], np.int64).reshape(-1, 2)
    for _ in range(20):
        pairs = every[rng.random(len(every)) < rng.random()]
        inliers, least = rng.integers(0, 6, len(pairs)), int(rng.integers(1, 7))
        expected = [
            sum(image in pair and found >= least for pair, found in zip(pairs.tolist(), inliers, strict=True))
            for image in range(images)
        ]
        supporters = count_supporters(pairs, inliers, images, least)
        assert supporters.tolist() == expected and supporters.shape == (images,)

        landmarks, needed = rng.integers(0, 5, images) * 1000, int(rng.integers(1, 5))
        enough = [landmark for landmark, count in zip(landmarks, expected, strict=True) if count >= needed]
        kept = keep_images(landmarks, supporters, needed)
        assert kept.dtype == np.bool_
        assert kept.tolist() == [
            count >= needed and enough.count(landmark) >= 2 for landmark, count in zip(landmarks, expected, strict=True)
        ]


def test_as_many_inliers_as_asked_are_enough_and_one_fewer_is_not():
    pairs, inliers = np.array([[0, 1], [0, 2], [1, 2], [2, 3]]), np.array([30, 31, 29, 0])
    assert count_supporters(pairs, inliers, 5, min_inliers=30).tolist() == [2, 1, 1, 0, 0]


def test_the_last_image_of_a_landmark_is_dropped_with_it():
    landmarks, supporters = np.array([7, 7, 7, 9, 9, 4]), np.array([3, 2, 3, 3, 2, 9])
    assert keep_images(landmarks, supporters, 3).tolist() == [True, False, True, False, False, False]
    assert keep_images(landmarks, supporters, 2).tolist() == [True, True, True, True, True, False]


# ---- Candidates ----------------------------------------------------------------------------------------------------


def candidates_of(folder, descriptors, landmarks, shards=1000, **settings):
    write_candidates(RecordedTask(folder, shards), descriptors, landmarks, CleanSettings(**settings), CPU)
    return np.load(folder / "neighbours.npy")


def naive_candidates(descriptors, landmarks, nearest, candidates):
    products = descriptors.astype(np.float64) @ descriptors.astype(np.float64).T
    lists = []
    for image in range(len(descriptors)):
        others = [row for row in range(len(descriptors)) if row != image]
        others.sort(key=lambda row: (-products[image, row], row))
        same = [row for row in others[:nearest] if landmarks[row] == landmarks[image]][:candidates]
        lists.append(same + [-1] * (candidates - len(same)))
    return lists


def draw_train(images, seed=0):
    """Descriptors whose products are exact and often equal, and landmarks."""
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, (images, 4)).astype(np.float32) / 2, rng.integers(0, 3, images)


@pytest.mark.parametrize("images", [0, 1, 2, 25])
@pytest.mark.parametrize(("nearest", "candidates"), [(1, 1), (8, 3), (25, 25), (1000, 100)])
def test_candidates_are_those_of_a_full_sort_also_where_more_are_asked_than_there_are(
    tmp_path, images, nearest, candidates
):
    descriptors, landmarks = draw_train(images)
    found = candidates_of(tmp_path, descriptors, landmarks, nearest=nearest, candidates=candidates)
    assert found.shape == (images, candidates) and found.dtype == np.int32
    assert found.tolist() == naive_candidates(descriptors, landmarks, nearest, candidates)


def test_an_image_is_never_its_own_neighbour_and_its_exact_copy_is_where_the_published_code_dropped_rank_0(tmp_path):
    descriptors = np.float32([[1, 0], [0, 1], [1, 0], [0.6, 0.8], [1, 0]])  # 0, 2 and 4 are copies of each other
    found = candidates_of(tmp_path, descriptors, np.zeros(5, int), nearest=2, candidates=3)
    assert found[[0, 2, 4]].tolist() == [[2, 4, -1], [0, 4, -1], [0, 2, -1]]
    assert not (found == np.arange(5)[:, None]).any()


def test_a_copy_under_another_landmark_takes_one_of_the_nearest_but_is_no_candidate(tmp_path):
    descriptors, landmarks = np.float32([[1, 0], [1, 0], [0.8, 0.6]]), np.array([3, 4, 3])
    for nearest, expected in ((1, [[-1], [-1], [0]]), (2, [[2], [-1], [0]])):
        found = candidates_of(tmp_path / str(nearest), descriptors, landmarks, nearest=nearest, candidates=1)
        assert found.tolist() == expected


@pytest.mark.parametrize("shard_rows", [1, 4, 25])
def test_candidates_in_shards_are_those_in_one_piece(tmp_path, monkeypatch, shard_rows):
    descriptors, landmarks = draw_train(25)
    candidates_of(tmp_path / "whole", descriptors, landmarks, nearest=9, candidates=5)
    monkeypatch.setattr(clean_list, "SHARD_ROWS", shard_rows)
    candidates_of(tmp_path / "cut", descriptors, landmarks, nearest=9, candidates=5)
    whole, cut = ((tmp_path / name / "neighbours.npy").read_bytes() for name in ("whole", "cut"))
    assert cut == whole


def test_candidates_resume_after_the_last_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(clean_list, "SHARD_ROWS", 10)
    descriptors, landmarks = draw_train(25)
    with pytest.raises(KeyboardInterrupt):
        candidates_of(tmp_path, descriptors, landmarks, shards=2, nearest=9, candidates=5)
    assert not (tmp_path / "neighbours.npy").exists()
    searched, search = [], clean_list.search_exact

    def watched(queries, *arguments, **words):
        searched.append(len(queries))
        return search(queries, *arguments, **words)

    monkeypatch.setattr(clean_list, "search_exact", watched)
    found = candidates_of(tmp_path, descriptors, landmarks, nearest=9, candidates=5)
    assert searched == [5]
    assert found.tolist() == naive_candidates(descriptors, landmarks, 9, 5)


# ---- The list ------------------------------------------------------------------------------------------------------

TRAIN = pd.DataFrame({"id": ["d", "b", "c", "a", "f", "e", "g"], "landmark": [30, 4, 30, 30, 4, 100, 100]})
COMPARED = pd.DataFrame(
    [(0, 2, 50), (0, 3, 30), (2, 3, 12), (1, 4, 31), (5, 6, 29)], columns=["query", "row", "inliers"]
)


def test_a_clean_list_is_sorted_has_the_published_format_and_its_reasons_beside_it(tmp_path):
    counts = make_clean_list(tmp_path, TRAIN, COMPARED, CleanSettings(min_inliers=30, min_neighbours=1))
    assert (tmp_path / "train_clean.csv").read_text() == "landmark_id,images\n4,b f\n30,a c d\n"
    assert counts == {"kept": 5, "dropped": 2, "landmarks": 2}
    support = pd.read_parquet(tmp_path / "support.parquet")
    assert support["supporters"].tolist() == [2, 1, 1, 1, 1, 0, 0]
    assert support["kept"].tolist() == [True] * 5 + [False] * 2
    assert support.dtypes.astype(str).to_dict() == {"supporters": "int32", "kept": "bool"}


def test_a_landmark_with_one_image_left_is_dropped_from_the_list(tmp_path):
    compared = pd.concat([COMPARED, pd.DataFrame([(1, 6, 99), (4, 6, 99)], columns=COMPARED.columns)])
    counts = make_clean_list(tmp_path, TRAIN, compared, CleanSettings(min_inliers=30, min_neighbours=2))
    assert (
        tmp_path / "train_clean.csv"
    ).read_text() == "landmark_id,images\n4,b f\n"  # one image is left of 30 and 100
    assert counts == {"kept": 2, "dropped": 5, "landmarks": 1}
    support = pd.read_parquet(tmp_path / "support.parquet")
    assert support["supporters"].tolist() == [2, 2, 1, 1, 2, 0, 2]
    assert support["kept"].tolist() == [False, True, False, False, True, False, False]


@pytest.mark.parametrize("compared", [COMPARED, COMPARED[:0]])
def test_a_list_that_would_be_empty_is_an_error_that_names_what_to_lower(tmp_path, compared):
    with pytest.raises(PipelineError, match="none of 7 photographs") as caught:
        make_clean_list(tmp_path, TRAIN, compared, CleanSettings())
    for setting in ("clean.min_inliers", "clean.min_neighbours", "clean.source = 'none'"):
        assert setting in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_given_list_is_copied(tmp_path):
    given, folder = tmp_path / "given.csv", tmp_path / "list"
    folder.mkdir()
    given.write_text("landmark_id,images\n30,c a\n4,f\n")
    assert copy_clean_list(folder, given, TRAIN, "given") == {"kept": 3, "dropped": 4, "landmarks": 2}
    assert (folder / "train_clean.csv").read_bytes() == given.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["train_clean.csv"]


def test_without_cleaning_the_list_is_only_a_header_and_every_image_stays(tmp_path):
    counts = copy_clean_list(tmp_path, tmp_path / "nowhere.csv", TRAIN, "none")
    assert counts == {"kept": 7, "dropped": 0, "landmarks": 3}
    assert (tmp_path / "train_clean.csv").read_text() == "landmark_id,images\n"


@pytest.mark.parametrize("text", [None, "landmark_id,images\n"])
def test_a_given_list_that_is_missing_or_empty_is_an_error(tmp_path, text):
    given = tmp_path / "given.csv"
    if text is not None:
        given.write_text(text)
    with pytest.raises(PipelineError, match=r"given\.csv"):
        copy_clean_list(tmp_path / "list", given, TRAIN, "given")
    assert not (tmp_path / "list").exists()


# ---- Corrected labels ----------------------------------------------------------------------------------------------


def naive_correction(landmarks, own, pairs, inliers, settings, clearly=2):
    corrected = landmarks.copy()
    for image in range(len(landmarks)):
        found = {}
        for (dropped, kept), count in zip(pairs.tolist(), inliers.tolist(), strict=True):
            if dropped == image:
                found.setdefault(landmarks[kept], []).append(count)
        first, *rest = sorted(found, key=lambda landmark: (-max(found[landmark]), landmark)) or [None]
        if (
            first is None
            or sum(count >= settings.correct_inliers for count in found[first]) < settings.correct_neighbours
        ):
            continue
        if max(found[first]) >= clearly * max([own[image], *(max(found[landmark]) for landmark in rest)]):
            corrected[image] = first
    return corrected


@pytest.mark.parametrize("images", [0, 1, 2, 9, 40])
def test_corrected_labels_are_those_of_a_loop(images):
    rng = np.random.default_rng(images)
    changed = 0
    for _ in range(40):
        landmarks = rng.integers(0, 5, images) * 1000
        kept, own = rng.random(images) < rng.random(), rng.integers(0, 3, images)
        every = np.array(
            [
                (a, b)
                for a in range(images)
                for b in range(images)
                if kept[b] > kept[a] and landmarks[a] != landmarks[b]
            ],
            np.int64,
        ).reshape(-1, 2)
        pairs = every[rng.random(len(every)) < rng.random()]
        inliers = rng.integers(0, 6, len(pairs))
        settings = CleanSettings(correct_inliers=int(rng.integers(1, 6)), correct_neighbours=int(rng.integers(1, 4)))
        expected = naive_correction(landmarks, own, pairs, inliers, settings)
        assert correct_labels(landmarks, own, pairs, inliers, settings).tolist() == expected.tolist()
        changed += int((expected != landmarks).sum())
    assert changed or images < 9


def test_a_label_is_corrected_only_where_no_other_landmark_agrees_half_as_well():
    landmarks, pairs = np.array([7, 9, 9, 5]), np.array([[0, 1], [0, 2], [0, 3]])
    settings = CleanSettings(correct_inliers=30)
    for inliers, own, expected in (
        ((30, 29, 0), 15, 9),
        ((29, 29, 0), 0, 7),
        ((30, 29, 0), 16, 7),
        ((30, 29, 15), 0, 9),
        ((30, 29, 16), 0, 7),
        ((30, 29, 60), 0, 5),
    ):
        given = np.array([own, 99, 99, 99])
        assert correct_labels(landmarks, given, pairs, np.array(inliers), settings).tolist() == [expected, 9, 9, 5]
    two = settings.model_copy(update={"correct_neighbours": 2})
    assert correct_labels(landmarks, np.zeros(4, int), pairs, np.array([30, 29, 0]), two).tolist() == [7, 9, 9, 5]


def test_candidates_of_other_landmarks_are_the_nearest_that_were_kept_and_only_dropped_images_have_some(tmp_path):
    descriptors, landmarks = draw_train(25)
    kept = np.random.default_rng(5).random(25) < 0.6
    kept[3], missing = False, np.array([3])
    gaps = Gaps(np.union1d(missing, np.flatnonzero(kept)), np.union1d(missing, np.flatnonzero(~kept)))
    settings = CleanSettings(nearest=12, other_candidates=4)
    write_other_candidates(RecordedTask(tmp_path), descriptors, landmarks, settings, CPU, gaps)
    products = descriptors.astype(np.float64) @ descriptors.astype(np.float64).T
    for image, found in enumerate(np.load(tmp_path / "neighbours.npy").tolist()):
        near = sorted(np.flatnonzero(kept), key=lambda row: (-products[image, row], row))[:12]
        others = [row for row in near if landmarks[row] != landmarks[image]] if not kept[image] and image != 3 else []
        assert found == (others + [-1] * 4)[:4]
    rows = np.int32([[1, 2, 0, -1]])
    assert pick_other_landmarks(rows, np.array([3]), np.array([4, 5, 6, 5]), 3).tolist() == [[2, 0, -1]]


def test_corrected_images_join_the_clean_list_under_their_new_landmark(tmp_path):
    settings = CleanSettings(min_inliers=30, min_neighbours=1, correct_inliers=30)
    kept = np.array([True] * 5 + [False] * 2)
    others = pd.DataFrame([(5, 1, 70), (5, 0, 30), (6, 0, 29)], columns=COMPARED.columns)
    assert write_corrected(tmp_path, TRAIN, kept, COMPARED, others, settings) == {"corrected": 1}
    assert np.load(tmp_path / "labels.npy").tolist() == [30, 4, 30, 30, 4, 4, 100]
    assert (tmp_path / "train_clean.csv").read_text() == "landmark_id,images\n4,b e f\n30,a c d\n"


def test_a_run_trains_and_votes_with_corrected_labels(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(cleaning, "CLEARLY", 1)  # an untrained network tells no two landmarks apart
    world, finished = share_finished(tmp_path_factory)
    shutil.copytree(finished, tmp_path / "out")
    asked = ["clean.min_inliers=14", "clean.other_candidates=6", "clean.correct_inliers=5"]
    assert run(*arguments_for(world, tmp_path / "out"), *asked, "--to", 9) == 0
    folder = tmp_path / "out" / "smoke"
    labels = np.load(folder / "03_clean_train_set/corrected/labels.npy")
    given = pd.read_parquet(folder / "01_prepare_data/train.parquet")["landmark"].to_numpy()
    support = pd.read_parquet(folder / "03_clean_train_set/list/support.parquet")
    pairs = pd.read_parquet(folder / "03_clean_train_set/other_pairs/pairs.parquet")
    assert (~support["kept"][pairs["query"]]).all() and support["kept"].to_numpy()[pairs["row"]].all()
    settings = CleanSettings(min_inliers=14, correct_inliers=5)
    compared = pd.read_parquet(folder / "03_clean_train_set/pairs/pairs.parquet")
    own = [compared.loc[(compared[["query", "row"]] == image).any(axis=1), "inliers"].max() for image in range(24)]
    numbers = np.nan_to_num(own), pairs[["query", "row"]].to_numpy(), pairs["inliers"].to_numpy()
    assert labels.tolist() == naive_correction(given, *numbers, settings, 1).tolist() and (labels != given).any()
    near = np.load(folder / "06_build_knn/index_train/rows.npy")[:, :3]
    voted = pd.read_parquet(folder / "09_predict_landmarks/index.parquet")["labels"].to_numpy()
    assert (labels[near] == voted[:, None]).any(axis=1).all() and (given[near] != labels[near]).any()
