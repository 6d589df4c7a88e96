"""Folders without labels: two, one searched in itself, half-labelled ones; by a backbone that nobody trained."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from command import ROOT, run
from torch.nn import functional as F

from pipeline import layout
from pipeline.arrays import NO_LABEL
from pipeline.competition.folders import list_folders, read_folders
from pipeline.competition.junk import find_own_rows
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.network.checkpoint import load_network, save_network
from pipeline.network.delg import DIMS
from pipeline.network.landmark_network import build_untrained_network
from pipeline.network.untrained_branch import UntrainedBranch
from pipeline.query import open_run
from pipeline.report.answers import pick_found
from pipeline.settings import ModelSettings

SCENES, VIEWS = 5, 2
UNVERIFIED = "rerank.recipe=['knn', 'dba', 'alpha_qe']"
QUICK = [
    "models.lite0.backbone=resnet18", "models.lite0.weights=none", "extract.template=[[64, 64]]",
    "extract.scales=[1.0]", "search.whiten_dims=8", "runtime.device=cpu", "runtime.workers=0",
    "local.max_side_px=96", "local.scales=[1.0]", "local.max_features=60", "verify.index_k=4",
    "rerank.verify.min_inliers=1000",  # cells of random weights agree by chance
]  # fmt: skip


def write_scene(path: Path, scene: int, view: int) -> None:
    """A photograph of a random texture; the views of a scene differ in light and frame."""
    texture = np.random.default_rng(scene).integers(0, 200, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(texture, (128, 96), interpolation=cv2.INTER_CUBIC)[2 * view :, 3 * view :]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.convertScaleAbs(picture, alpha=1.0 + 0.1 * view, beta=5 * view))


def search(root: Path, outputs: Path, *more: object) -> tuple[int, Path]:
    """The exit code of the shipped configuration over a folder, and the folder of its run."""
    given = ["--config", ROOT / "configs" / "search.toml", f"data.root={root}", f"runtime.outputs={outputs}"]
    return run(*given, *QUICK, *more), outputs / "search"


def read_lists(folder: Path) -> dict[str, list[str]]:
    """The lists of retrieval.csv by query."""
    table = pd.read_csv(folder / layout.SUBMIT / "retrieval.csv", dtype=str, keep_default_na=False)
    return {name: images.split() for name, images in zip(table["id"], table["images"], strict=True)}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(the photographs, the run) of one folder that was searched in itself."""
    root = tmp_path_factory.mktemp("photographs")
    for scene in range(SCENES):
        for view in range(VIEWS):
            write_scene(root / f"album {view}" / f"scene{scene}.png", scene, view)
    write_scene(root / "loose.png", 77, 0)
    write_scene(root / "loose.jpg", 78, 0)
    write_scene(root / ".thumbnails" / "small.png", 0, 1)
    code, folder = search(root, tmp_path_factory.mktemp("outputs"))
    assert code == 0
    return root, folder


def test_in_one_folder_every_photograph_is_searched_among_all_others_and_finds_its_other_view(searched):
    _, folder = searched
    lists = read_lists(folder)
    assert len(lists) == SCENES * VIEWS + 2
    for query, images in lists.items():
        assert sorted([query, *images]) == sorted(lists), "each list holds all others once, and never the query"
    for scene in range(SCENES):
        assert lists[f"album_0_scene{scene}"][0] == f"album_1_scene{scene}"
        assert lists[f"album_1_scene{scene}"][0] == f"album_0_scene{scene}"


def test_no_step_lists_the_query_itself_also_where_it_searches_again(searched):
    _, folder = searched
    rankings = sorted((folder / layout.ranking("recipe")).glob("*.rows.npy"))
    assert len(rankings) == len(load_config(ROOT / "configs" / "search.toml").rerank.recipe)
    for path in rankings:
        rows = np.load(path)
        assert (rows != np.arange(len(rows))[:, None]).all() and ((rows >= 0).sum(axis=1) == len(rows) - 1).all()


def test_without_labels_no_landmark_is_answered_and_the_report_shows_what_was_found(searched):
    _, folder = searched
    table = pd.read_csv(folder / layout.SUBMIT / "recognition.csv", dtype=str, keep_default_na=False)
    assert len(table) == SCENES * VIEWS + 2 and set(table["landmarks"]) == {""}
    page = (folder / layout.EVALUATE / "report.html").read_text()
    assert f"{SCENES * VIEWS + 2} photographs, each compared with all others" in page
    assert "What was found" in page and "to the nearest" in page and "no landmark found" not in page


def test_such_a_run_answers_a_photograph_without_a_landmark(searched):
    root, folder = searched
    answer = open_run(folder).search(root / "album 0" / "scene1.png")
    assert (answer.landmark, answer.name, answer.is_known) == (NO_LABEL, "", None)
    assert sorted(answer.ids[:2]) == ["album_0_scene1", "album_1_scene1"] and len(answer) == SCENES * VIEWS + 2


def test_the_photographs_of_one_folder_are_inspected_and_described_once_and_compared_with_others_alone(searched):
    root, folder = searched
    listed = read_folders(root).splits
    assert listed["test"] is listed["index"] and listed["train"].ids == []
    assert "loose" in listed["index"].ids and "loose_png" in listed["index"].ids
    for name in (layout.descriptors, layout.local_features):
        index, test = (folder / name("lite0", split) / "descriptors.npy" for split in ("index", "test"))
        assert index.read_bytes() == test.read_bytes()
        manifest = json.loads((test.parent / "manifest.json").read_text())
        assert list(manifest["key"]["inputs"]) == [name("lite0", "index")]
    pairs = pd.read_parquet(folder / layout.VERIFY / "test_index" / "pairs.parquet")
    assert (pairs["query"] != pairs["row"]).all() and (pairs.groupby("query").size() == 4).all()


def test_a_second_search_of_the_same_folder_makes_nothing_again(searched, tmp_path):
    root, folder = searched
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")}
    assert search(root, folder.parent)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")} == before


def test_a_folder_is_searched_in_another(tmp_path):
    for scene in range(SCENES):
        write_scene(tmp_path / "mine" / "index" / f"{scene}.png", scene, 0)
    write_scene(tmp_path / "mine" / "test" / "q.png", 3, 1)
    code, folder = search(tmp_path / "mine", tmp_path, UNVERIFIED)
    assert code == 0
    lists = read_lists(folder)
    assert list(lists) == ["q"] and lists["q"][0] == "3" and len(lists["q"]) == SCENES
    assert "1 test and 5 index photographs" in (folder / layout.EVALUATE / "report.html").read_text()


def test_where_some_photographs_are_labelled_they_are_recognised_too(tmp_path):
    for scene in range(SCENES):
        write_scene(tmp_path / "mine" / "index" / f"{scene}.png", scene, 0)
        write_scene(tmp_path / "mine" / "test" / f"q{scene}.png", scene, 1)
    for scene, name in ((1, "Mill"), (3, "Tower")):
        write_scene(tmp_path / "mine" / "train" / name / "labelled.png", scene, 2)
    code, folder = search(tmp_path / "mine", tmp_path, UNVERIFIED, "recognition.votes=1")
    assert code == 0
    names = pd.read_csv(folder / layout.SUBMIT / "recognition_names.csv", keep_default_na=False)
    answers = dict(zip(names["id"], names["name"], strict=True))
    surest = names.sort_values("confidence", ascending=False)["id"].tolist()
    assert (answers["q1"], answers["q3"]) == ("Mill", "Tower") and set(surest[:2]) == {"q1", "q3"}
    assert [lists[0] for lists in read_lists(folder).values()] == [str(scene) for scene in range(SCENES)]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "no photographs below the folder"),
        (["notes.txt"], "no photographs below the folder"),
        (["one.jpg"], "only one photograph below the folder"),
        (["a b.jpg", "a:b.jpg", "a_b.jpg"], "both get the id a_b_jpg"),
        (["index/a.jpg"], "no folder test/"),
        (["test/a.jpg"], "no folder index/"),
        (["train/Mill/a.jpg"], "no folder index/"),
        (["index/a.jpg", "test/notes.txt"], "no photographs below test/"),
        (["index/notes.txt", "test/notes.txt"], "no photographs below index/ and test/"),
    ],
)
def test_folders_in_which_there_is_nothing_to_search_are_refused_by_name(tmp_path, paths, message):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    with pytest.raises(PipelineError, match=message):
        read_folders(tmp_path)


def test_a_folder_that_gets_labels_later_is_read_anew(tmp_path):
    (tmp_path / "album").mkdir()
    assert list_folders(tmp_path) == {"photographs/": tmp_path}
    (tmp_path / "index").mkdir()
    assert set(list_folders(tmp_path)) == {"train/", "index/", "test/"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["rerank.recipe=['knn', 'sort']"], "the step sort of the recipe recipe needs a labelled train set"),
        (["search.whiten_on=train"], "or whiten_on = 'index'"),
        (["vote.max_inliers=5"], "vote.max_inliers needs"),
        (["recognition.head_power=1.0"], "models.lite0 is not trained"),
        (["models.lite0.dims=64"], "train = false takes the backbone as it is: leave out dims"),
        (["models.more.backbone=resnet18"], "add train/<landmark>/ to data.root"),
        (["runtime.outputs={root}/out"], "lies among the photographs"),
    ],
)
def test_what_an_unlabelled_folder_cannot_have_is_refused_with_what_to_do(tmp_path, settings, named):
    (tmp_path / "a.jpg").write_bytes(b"x")
    given = [f"data.root={tmp_path}", *(setting.format(root=tmp_path) for setting in settings)]
    with pytest.raises(PipelineError) as caught:
        load_config(ROOT / "configs" / "search.toml", given)
    assert named in str(caught.value)


def test_the_gallery_goes_from_the_surest_find_to_the_least_and_shows_no_pair_twice():
    similarities, first = np.array([0.9, 0.9, 0.2, 0.5, 0.0], np.float32), np.array([1, 0, 3, 2, -1], np.int32)
    assert pick_found(similarities, first, in_itself=True) == [0, 3]  # 0 and 1 are each other's first, so are 2 and 3
    assert pick_found(similarities, first, in_itself=False) == [0, 1, 3, 2]
    same = np.array([7, 7, 7, 5, -1], np.int32)
    assert pick_found(similarities, same, in_itself=False) == [0, 3]
    assert pick_found(similarities, first, in_itself=False, count=2) == [0, 2]
    assert pick_found(similarities[:0], first[:0], in_itself=True) == []


@pytest.mark.parametrize("channels", [20, 300])
def test_untrained_cells_keep_their_cosines_and_are_ordered_by_their_norm(channels):
    maps = torch.randn(1, channels, 8, 9, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    found = UntrainedBranch(channels)(maps)
    assert found.codes.shape == (1, DIMS, 8, 9)
    assert torch.allclose(found.attention[0, 0], maps[0].norm(dim=0), atol=1e-5)
    cells, codes = (F.normalize(one[0].flatten(1), dim=0) for one in (maps, found.codes))
    errors = (cells.T @ cells - codes.T @ codes).abs().detach()
    assert errors.max() < (1e-5 if channels <= DIMS else 0.4) and errors.mean() < 0.06


def test_an_untrained_network_is_its_pooled_maps_and_comes_back_from_the_disk(tmp_path):
    model = ModelSettings(backbone="resnet18", weights="none", train=False)
    network = build_untrained_network(model, seed=1).eval()
    save_network(tmp_path, network)
    loaded, images = load_network(tmp_path, model), torch.rand(2, 3, 64, 96) * 255.0
    descriptors = loaded.embedding(images)
    assert torch.equal(descriptors, network.embedding.pool(network.embedding.backbone(images)["deep"]))
    assert descriptors.shape == (2, 512) and loaded.embedding.dims == 512 and len(loaded.landmark_ids) == 0
    with pytest.raises(PipelineError, match="dims is 0, the settings say 512"):
        load_network(tmp_path, model.model_copy(update={"train": True}))


def test_the_row_of_a_query_among_the_images_is_found_by_its_id():
    own = find_own_rows(["b", "lost", "a"], ["a", "b"])
    assert [own.values[own.offsets[n] : own.offsets[n + 1]].tolist() for n in range(3)] == [[1], [], [0]]
