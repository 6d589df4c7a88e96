"""Descriptors from elsewhere: checked, put in the order of the data, and as good as a run's own."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run
from tasks import RecordedTask

from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.features.external import locate_ids, normalise_rows, open_matrix, write_external_descriptors

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("train", "index", "test")
PLAIN = ["rerank.baselines={}", "recognition.max_inliers=0"]
TINY = ["demo.landmarks=4", "demo.train_images=24", "demo.index_images=16", "demo.test_images=8"]
UNTRAINED = ["models.cnn.local=false", *(f"models.cnn.{phase}.epochs=0" for phase in ("base", "final"))]


def write_split(folder, split="index", vectors=None, ids=("a", "b", "c"), ending="txt"):
    """A matrix and its ids; without vectors, random ones."""
    folder.mkdir(exist_ok=True)
    vectors = np.random.default_rng(1).normal(size=(len(ids), 4)) if vectors is None else vectors
    np.save(folder / f"{split}.npy", vectors.astype(np.float32) if vectors.dtype == np.float64 else vectors)
    path, table = folder / f"{split}_ids.{ending}", pd.DataFrame({"id": list(ids)}, dtype=str)
    if ending == "txt":
        path.write_text("".join(f"{one}\n" for one in ids))
    elif ending == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return np.load(folder / f"{split}.npy")


def take(folder, into, ids, rejected=(), split="index", splits=("index",)):
    """The descriptors.npy that is written for these ids."""
    write_external_descriptors(RecordedTask(into), folder, split, splits, list(ids), set(rejected))
    return np.load(into / "descriptors.npy")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("ending", ["txt", "csv", "parquet"])
def test_rows_come_in_the_order_of_the_data_with_unit_length(tmp_path, dtype, ending):
    rng = np.random.default_rng(3)
    known = [f"{number:04d}" for number in range(40)]
    vectors = write_split(tmp_path / "given", "index", rng.normal(size=(40, 5)).astype(dtype), known, ending)
    asked = rng.permutation(known)[:17]
    found = take(tmp_path / "given", tmp_path / "work", asked)
    naive = np.stack([vectors[known.index(one)].astype(np.float64) for one in asked])
    naive /= np.linalg.norm(naive, axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, naive.astype(np.float32))


def test_rows_of_unit_length_are_kept_bit_for_bit():
    vectors = np.random.default_rng(2).normal(size=(500, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert normalise_rows(vectors, ["x"] * 500, Path("x")).tobytes() == vectors.tobytes()


def test_shards_change_no_byte(tmp_path, monkeypatch):
    write_split(tmp_path / "given", ids=[str(number) for number in range(30)])
    asked = [str(number) for number in range(29, -1, -1)]
    whole = take(tmp_path / "given", tmp_path / "whole", asked)
    monkeypatch.setattr("pipeline.features.external.SHARD_ROWS", 7)
    assert take(tmp_path / "given", tmp_path / "parts", asked).tobytes() == whole.tobytes()


def test_a_split_without_photographs_needs_no_matrix_and_has_the_width_of_the_others(tmp_path):
    write_split(tmp_path / "given", "index")
    assert take(tmp_path / "given", tmp_path / "work", [], split="train", splits=SPLITS).shape == (0, 4)


def test_ids_that_are_missing_or_twice_are_counted_and_named_and_extra_ones_are_left_out(tmp_path, caplog):
    write_split(tmp_path / "given", ids=[*"abcdefg", "gone", "more"])
    matrix = open_matrix(tmp_path / "given", "index")
    with pytest.raises(PipelineError, match=r"no descriptor of 6 ids \('1', '2', '3', '4', '5', …\), of 8 photographs"):
        locate_ids([*"123456", "a", "b"], matrix)
    assert locate_ids(["b", "a", *"cdefg"], matrix, {"gone"}).tolist() == [1, 0, 2, 3, 4, 5, 6]
    assert "no photograph of the data has 1 ids ('more')" in caplog.text
    write_split(tmp_path / "given", ids=["a", "b", "a"])
    with pytest.raises(PipelineError, match=r"1 ids \('a'\) have more than one row"):
        take(tmp_path / "given", tmp_path / "work", "ab")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rows_that_are_zero_or_not_finite_are_refused_with_their_ids(tmp_path, value):
    vectors = np.ones((3, 4), np.float16)
    vectors[1] = value
    write_split(tmp_path / "given", vectors=vectors)
    with pytest.raises(PipelineError, match=r"1 ids \('b'\) are zero or not finite"):
        take(tmp_path / "given", tmp_path / "work", "abc")
    assert take(tmp_path / "given", tmp_path / "other", "ac", rejected="b").shape == (2, 4)


def test_what_is_no_matrix_with_ids_is_refused_with_what_to_write(tmp_path):
    given, expected = tmp_path / "given", {
        "2 ids for the 3 rows": lambda: (given / "index_ids.txt").write_text("a\nb\n"),
        "no ids of index": lambda: (given / "index_ids.txt").unlink(),
        "2 files of ids": lambda: (given / "index_ids.csv").write_text("id\na\n"),
        "no column 'id'": lambda: (given / "index_ids.txt").rename(given / "index_ids.csv"),
        r"float64\(3, 4\) are no descriptors": lambda: np.save(given / "index.npy", np.ones((3, 4))),
        r"float32\(3,\) are no descriptors": lambda: np.save(given / "index.npy", np.ones(3, np.float32)),
        "this is no array": lambda: (given / "index.npy").write_bytes(b"\x93NUMPY"),
        "an archive of arrays": lambda: np.savez((given / "index.npy").open("wb"), np.ones(3)),
        "dimensions: index.npy has 4, test.npy has 7": lambda: write_split(given, "test", np.ones((3, 7))),
        "without index.npy, test.npy": lambda: (given / "index.npy").unlink(),
    }  # fmt: skip
    for what, damage in expected.items():
        shutil.rmtree(given, ignore_errors=True)
        write_split(given)
        damage()
        with pytest.raises(PipelineError, match=what):
            take(given, tmp_path / "work", "abc", splits=("index", "test"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["recognition.max_inliers=9"], "recognition.max_inliers needs a network.*set recognition.max_inliers = 0"),
        (["rerank.recipe=['knn','verify']"], "the step verify needs a network.*leave the step out"),
        (["clean.source=verify"], "clean.source = verify needs a network.*set clean.source = auto"),
        (["recognition.head_power=1"], "head_power needs the classifier of every model.*models.mine.descriptors"),
        (["local.model=mine"], "local.model = mine has no local features: its descriptors came from elsewhere"),
        (["models.mine.dims=64"], "descriptors stand in place of a network: leave out dims"),
        (["data.photographs=false", "models.cnn.dims=8"], "data.photographs = false leaves models.cnn nothing"),
        (["data.photographs=false", "data.source=folders"], "data.photographs = false needs the tables"),
    ],
)
def test_what_needs_a_network_is_refused_when_the_settings_are_read(tmp_path, settings, expected):
    (tmp_path / "mine.toml").write_text("[models.mine]\ndescriptors = 'there'\n")
    assert load_config(tmp_path / "mine.toml").local_model == ""
    with pytest.raises(PipelineError) as refused:
        load_config(tmp_path / "mine.toml", settings)
    assert re.search(expected, str(refused.value), re.DOTALL)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """An untrained run on the smoke world, the world's folder, and its descriptors as somebody else would give them."""
    folder = tmp_path_factory.mktemp("own")
    world, given = folder / "world", folder / "given"
    arguments = ["--config", ROOT / "configs/smoke.toml", f"data.root={world}", f"runtime.outputs={folder}"]
    assert run(*arguments, *TINY, *PLAIN, *UNTRAINED) == 0
    outputs, rng = folder / "smoke", np.random.default_rng(5)
    for split in SPLITS:
        ids = pd.read_parquet(outputs / f"01_prepare_data/{split}.parquet")["id"].to_numpy()
        vectors, order = np.load(outputs / f"05_extract_global/cnn/{split}/descriptors.npy"), rng.permutation(len(ids))
        write_split(given, split, vectors[order], ids[order])
    return outputs, world, given


def mine(toml, world, given, *more):
    """The exit code of a run on descriptors from elsewhere; its outputs lie beside the configuration."""
    toml.write_text(f"[data]\nsource = 'gldv2'\nroot = '{world}'\n[models.mine]\ndescriptors = '{given}'\n")
    return run("--config", toml, f"runtime.outputs={toml.parent}", *more)


def submissions(outputs):
    return [(outputs / f"11_write_submissions/{name}.csv").read_bytes() for name in ("retrieval", "recognition")]


def test_a_runs_own_descriptors_from_elsewhere_give_the_same_submissions_without_photographs(own, tmp_path):
    outputs, world, given = own
    tables = tmp_path / "tables"
    shutil.copytree(world, tables, ignore=shutil.ignore_patterns("*.jpg", "manifest.json"))
    assert mine(tmp_path / "mine.toml", tables, given, "data.photographs=false", "runtime.device=cpu") == 0
    assert submissions(tmp_path / "mine") == submissions(outputs)
    page = (tmp_path / "mine/12_evaluate/report.html").read_text()
    assert "mAP@100" in page and "data:image" not in page
    assert not list((tmp_path / "mine").glob("0[247]_*"))


def test_descriptors_from_elsewhere_are_joined_with_a_network_and_whitened(own, tmp_path):
    outputs, world, given = own
    more = ["search.whiten_dims=8", "recognition.max_inliers=0", "models.cnn.backbone=resnet18", *UNTRAINED]
    more += ["models.cnn.weights=none", "models.cnn.dims=64", "extract.scales=[1.0]", "runtime.device=cpu"]
    more += ["extract.template=[[96, 64], [64, 64], [64, 96]]"]
    assert mine(tmp_path / "both.toml", world, given, *more, "--to", 9) == 0
    whitened = np.load(tmp_path / "both/06_build_knn/whitened/test/descriptors.npy")
    assert whitened.shape == (8, 8)
    alone = np.load(tmp_path / "both/05_extract_global/mine/test/descriptors.npy")
    assert alone.tobytes() == np.load(outputs / "05_extract_global/cnn/test/descriptors.npy").tobytes()
