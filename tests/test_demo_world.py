"""The demo world: the same bytes whatever the workers and interruptions, and tables that say what the images show."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.demo_world.camera import Camera, Mesh, Texture, rasterise
from pipeline.demo_world.distractor import DISTRACTORS
from pipeline.demo_world.view import NO_LANDMARK, VIEWS, render_image
from pipeline.demo_world.world import DemoPlan, image_path, plan_demo_world, share_out, write_demo_world
from pipeline.settings import DemoSettings

TINY = DemoSettings(landmarks=3, train_images=12, index_images=6, test_images=5, longest_side_px=96)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A CSV file as the pipeline reads it: all text, empty cells kept."""
    return pd.read_csv(folder / name, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def tiny_plan() -> DemoPlan:
    return plan_demo_world(TINY, seed=5)


@pytest.fixture(scope="module")
def tiny_world(tiny_plan: DemoPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_demo_world(tiny_plan, folder, workers=2)
    return folder


def test_one_worker_and_two_write_the_same_bytes(tiny_plan: DemoPlan, tiny_world: Path, tmp_path: Path) -> None:
    write_demo_world(tiny_plan, tmp_path, workers=1)
    assert read_folder(tmp_path) == read_folder(tiny_world)


def test_a_run_that_was_cut_short_resumes_where_it_was(tiny_plan: DemoPlan, tiny_world: Path, tmp_path: Path) -> None:
    whole = read_folder(tiny_world)
    images = [name for name in whole if name.endswith(".jpg")]
    for name in images[1:]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(whole[name])
    (tmp_path / images[1]).write_bytes(b"somebody's own file")
    seen: list[int] = []
    write_demo_world(tiny_plan, tmp_path, workers=1, on_progress=seen.append)
    assert seen == [len(images) - 1, len(images)]
    assert read_folder(tmp_path) == whole | {images[1]: b"somebody's own file"}


def test_every_planned_photograph_is_a_file_and_no_other_file_is_there(tiny_plan: DemoPlan, tiny_world: Path) -> None:
    rows = zip(tiny_plan.photographs["split"], tiny_plan.photographs["id"], strict=True)
    planned = {image_path(tiny_world, split, name) for split, name in rows}
    assert {path for path in tiny_world.rglob("*") if path.is_file()} == planned | {
        tiny_world / name for name in tiny_plan.tables
    }


def test_images_have_the_longest_side_and_are_not_blank(tiny_world: Path) -> None:
    for path in tiny_world.rglob("*.jpg"):
        image = cv2.imread(str(path))
        assert image is not None
        assert max(image.shape[:2]) == TINY.longest_side_px
        assert image.std() > 4, path


def test_the_views_of_a_landmark_differ_and_repeat_exactly() -> None:
    images = [cv2.resize(render_image(3, 1, view, 7, 96), (32, 32)).astype(float) for view in VIEWS]
    for k, image in enumerate(images):
        assert image.std() > 8
        assert all(np.abs(image - other).mean() > 5 for other in images[:k])
    first, again = (render_image(3, 1, "front", 7, 96) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("kind", DISTRACTORS)
def test_every_kind_of_stranger_can_be_drawn_in_any_size(kind: str) -> None:
    for number, side in enumerate((96, 130, 200)):
        image = render_image(1, NO_LANDMARK, kind, number, side)
        assert image.dtype == np.uint8
        assert max(image.shape[:2]) == side
        assert image.std() > 2


def test_the_splits_have_the_sizes_of_the_settings() -> None:
    settings = DemoSettings()
    photographs = plan_demo_world(settings, seed=1).photographs
    assert photographs.groupby("split").size().to_dict() == {
        "train": settings.train_images,
        "index": settings.index_images,
        "test": settings.test_images,
    }
    strangers = photographs[photographs["landmark"] == NO_LANDMARK].groupby("split").size()
    assert strangers["index"] == round(settings.distractor_fraction * settings.index_images)
    assert strangers["test"] == round(settings.distractor_fraction * settings.test_images)
    shown = photographs[(photographs["split"] == "train") & (photographs["landmark"] != NO_LANDMARK)]
    assert shown.groupby("landmark").size().min() >= 2
    assert shown["landmark"].nunique() == settings.landmarks


def test_ids_are_unique_and_look_like_those_of_gldv2() -> None:
    photographs = plan_demo_world(DemoSettings(), seed=1).photographs
    assert photographs["id"].is_unique
    assert photographs["seed"].is_unique
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in photographs["id"])


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_the_stated_fraction_of_training_labels_is_wrong(fraction: float) -> None:
    settings = DemoSettings(wrong_label_fraction=fraction)
    tables = plan_demo_world(settings, seed=2).tables
    truth, noisy = tables["train_truth.csv"]["landmark_id"], tables["train.csv"]["landmark_id"]
    assert (truth != noisy).sum() == round(fraction * settings.train_images)
    assert set(noisy) <= set(tables["landmarks.csv"]["landmark_id"])
    assert (truth == "").sum() == round(fraction * settings.train_images) // 2


def test_the_solutions_name_existing_images_of_the_right_landmark(tiny_plan: DemoPlan, tiny_world: Path) -> None:
    landmark = dict(zip(tiny_plan.photographs["id"], tiny_plan.photographs["landmark"], strict=True))
    index = set(read_table(tiny_world, "index.csv")["id"])
    retrieval, recognition = (
        read_table(tiny_world, "retrieval_solution.csv"),
        read_table(tiny_world, "recognition_solution.csv"),
    )
    assert list(retrieval["id"]) == list(read_table(tiny_world, "test.csv")["id"]) == list(recognition["id"])
    for query, images, usage in retrieval.itertuples(index=False):
        if usage == "Ignored":
            assert images == "None"
            assert landmark[query] == NO_LANDMARK
        else:
            assert set(images.split()) == {name for name in index if landmark[name] == landmark[query]}
    assert set(recognition["Usage"]) <= {"Public", "Private"}
    known = set(read_table(tiny_world, "landmarks.csv")["landmark_id"])
    for query, label, _ in recognition.itertuples(index=False):
        assert label in known if landmark[query] != NO_LANDMARK else label == ""


def test_about_a_third_of_the_queries_are_public() -> None:
    usage = plan_demo_world(DemoSettings(test_images=3000), seed=4).tables["retrieval_solution.csv"]["Usage"]
    assert abs((usage == "Public").sum() / usage.isin(["Public", "Private"]).sum() - 1 / 3) < 0.04


def test_another_seed_is_another_world() -> None:
    first, second = plan_demo_world(TINY, seed=1), plan_demo_world(TINY, seed=2)
    assert not set(first.photographs["id"]) & set(second.photographs["id"])
    assert first.tables["landmarks.csv"]["name"].tolist() != second.tables["landmarks.csv"]["name"].tolist()
    one, other = (render_image(seed, 0, "front", 1, 96) for seed in (1, 2))
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("strangers", [0.0, 1.0])
def test_two_landmarks_with_and_without_strangers_make_a_world(strangers: float, tmp_path: Path) -> None:
    settings = DemoSettings(
        landmarks=2, train_images=8, index_images=4, test_images=4, distractor_fraction=strangers, longest_side_px=96
    )
    write_demo_world(plan_demo_world(settings, seed=1), tmp_path, workers=1)
    assert len(list(tmp_path.rglob("*.jpg"))) == 16
    ignored = read_table(tmp_path, "retrieval_solution.csv")["Usage"] == "Ignored"
    assert ignored.all() if strangers else not ignored.any()


def test_a_plan_of_a_hundred_thousand_keeps_every_promise_about_counts() -> None:
    settings = DemoSettings(landmarks=1500, train_images=60_000, index_images=30_000, test_images=12_000)
    plan = plan_demo_world(settings, seed=1)
    assert plan.photographs["id"].is_unique
    assert len(plan.tables["train.csv"]) == 60_000
    assert plan.tables["landmarks.csv"]["name"].is_unique


@pytest.mark.parametrize(("total", "landmarks", "least"), [(0, 3, 1), (2, 3, 1), (7, 3, 2), (100, 7, 2), (50, 50, 1)])
def test_shares_add_up_fall_with_rank_and_keep_their_floor(total: int, landmarks: int, least: int) -> None:
    counts = share_out(total, landmarks, 0.7, least)
    assert counts.sum() == total
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= min(least, total // landmarks)


def test_the_nearer_face_hides_the_farther_whatever_the_order() -> None:
    camera = Camera.looking_at((0, -10, 0), (0, 0, 0), 40.0, (32, 32))
    square = np.array([(-2, 0, 2), (2, 0, 2), (2, 0, -2), (-2, 0, -2)])
    near, far = Texture.from_colour((255, 0, 0)), Texture.from_colour((0, 0, 255))
    behind = square + np.array([0, 5, 0])
    for order in (((square, near), (behind, far)), ((behind, far), (square, near))):
        mesh = Mesh()
        for corners, texture in order:
            mesh.add_face(corners, texture)
        canvas = rasterise(mesh, camera)
        assert canvas.colour[16, 16, :3].tolist() == [255, 0, 0]
        assert canvas.inverse_depth[16, 16] == pytest.approx(0.1)
        assert canvas.face[0, 0] == -1


def test_a_face_seen_from_behind_is_not_drawn() -> None:
    mesh = Mesh()
    mesh.add_face([(2, 0, 2), (-2, 0, 2), (-2, 0, -2), (2, 0, -2)], Texture.from_colour((255, 0, 0)))
    assert (rasterise(mesh, Camera.looking_at((0, -10, 0), (0, 0, 0), 40.0, (32, 32))).face == -1).all()


def test_images_of_no_landmark_come_beside_a_world_that_stays_as_it_was(tiny_plan: DemoPlan) -> None:
    more = plan_demo_world(TINY.model_copy(update={"non_landmark_images": 7}), seed=5)
    count = len(tiny_plan.photographs)
    pd.testing.assert_frame_equal(more.photographs[:count], tiny_plan.photographs)
    added = more.photographs[count:]
    assert (added["split"] == "non_landmark").all() and (added["landmark"] == NO_LANDMARK).all()
    assert set(added["view"]) <= set(DISTRACTORS)
    assert more.photographs["seed"].is_unique and more.photographs["id"].is_unique
    table = more.tables.pop("non_landmark.csv")
    assert table.columns.tolist() == ["id"] and table["id"].tolist() == added["id"].tolist()
    assert list(more.tables) == list(tiny_plan.tables)
    for name, same in tiny_plan.tables.items():
        pd.testing.assert_frame_equal(more.tables[name], same)


def test_a_world_without_images_of_no_landmark_has_the_settings_it_always_had() -> None:
    assert "non_landmark_images" not in TINY.world_settings
    assert TINY.model_copy(update={"non_landmark_images": 7}).world_settings["non_landmark_images"] == 7


def test_no_image_of_no_landmark_is_one_of_another_split() -> None:
    settings = DemoSettings(landmarks=2, train_images=8, index_images=4, test_images=4, distractor_fraction=1.0,
                            non_landmark_images=8, longest_side_px=96)  # fmt: skip
    photographs = plan_demo_world(settings, seed=1).photographs
    strangers = photographs[photographs["landmark"] == NO_LANDMARK]
    kind = str(strangers["view"].iloc[0])  # the same kind for all, so that only the seeds tell them apart
    images = {render_image(1, NO_LANDMARK, kind, int(number), 96).tobytes() for number in strangers["seed"]}
    assert len(images) == len(strangers) == 16
