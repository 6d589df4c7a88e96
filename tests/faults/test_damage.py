"""Damaged photographs: found where it is cheap, left out where they are found late, and named in both cases."""

import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import time
from pathlib import Path

import damaged_files as files
import numpy as np
import pandas as pd
import pytest
import torch
from tasks import RecordedTask, TrainingTask
from test_stages import run

from pipeline.competition.dataset import SplitListing
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.features import global_descriptors, local_features
from pipeline.features.ensemble import JoinedDescriptors
from pipeline.features.global_descriptors import write_descriptors
from pipeline.features.local_batches import LocalExtractor, LocalNetwork
from pipeline.features.local_features import write_local_features, write_threshold
from pipeline.features.local_store import LocalStore
from pipeline.features.present_rows import PresentRows
from pipeline.features.whitening import fit_whitening
from pipeline.images import survey
from pipeline.images.batch_loader import load_batches
from pipeline.images.batches import PlannedBatch
from pipeline.images.inspection import Limits, Tolerance, inspect_photograph
from pipeline.images.loaded_batch import LoadedBatch
from pipeline.images.rejection import Rejections, read_rejected
from pipeline.images.split import Split
from pipeline.images.survey import survey_splits
from pipeline.matching.gaps import Gaps
from pipeline.matching.knn import SearchOptions, search
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.training import train_and_save
from pipeline.network.training_set import TrainingSet
from pipeline.network.training_state import TrainingSetup
from pipeline.ranking.registry import STEPS
from pipeline.settings import DataSettings, ExtractSettings, LocalSettings, ModelSettings, PhaseSettings

LIMITS = Limits(min_side_px=8, max_side_px=20_000, max_pixels=100_000_000)
CPU = torch.device("cpu")
COUNTS = {"train": 18, "index": 9, "test": 5}
SPOILT = {"train": 4, "index": 2, "test": 3}  # rows


# ---- The inspection -------------------------------------------------------------------------------------------------


def inspect(folder, name, content, decode):
    (folder / name).write_bytes(content)
    return inspect_photograph(folder / name, LIMITS, decode)


@pytest.mark.parametrize("name", files.FOUND_BY_ENDS)
def test_damage_at_the_ends_of_a_file_is_found_without_decoding(tmp_path, name):
    content, reason = files.FOUND_BY_ENDS[name]
    found = inspect(tmp_path, name, content, decode=False)
    assert reason in found.reason and found.reason and found.width == 0


@pytest.mark.parametrize("name", files.FOUND_BY_DECODING)
def test_damage_between_the_ends_is_found_by_decoding(tmp_path, name):
    content, reason = files.FOUND_BY_DECODING[name]
    assert inspect(tmp_path, name, content, decode=False).reason == ""
    assert reason in inspect(tmp_path, name, content, decode=True).reason


@pytest.mark.parametrize("name", files.SOUND)
def test_what_only_looks_odd_is_accepted(tmp_path, name):
    found = inspect(tmp_path, name, files.SOUND[name], decode=True)
    upright = files.SIZE[::-1] if name == "rotated.jpg" else files.SIZE
    assert (found.reason, found.width, found.height, found.bytes) == ("", *upright, len(files.SOUND[name]))


def test_what_is_no_readable_file_has_a_reason_and_blocks_nothing(tmp_path):
    def give_up(*_):
        raise TimeoutError("a pipe is waited for")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    for name, reason in files.write_unreadable(tmp_path).items():
        assert reason in inspect_photograph(tmp_path / name, LIMITS).reason
    signal.alarm(0)
    assert inspect_photograph(tmp_path / "nowhere.jpg", LIMITS).reason == "no such file"


def test_only_the_ends_of_a_large_file_are_read(tmp_path, monkeypatch):
    path, read = tmp_path / "large.jpg", []
    path.write_bytes(files.encode(size=(1600, 1200), quality=98))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: read.append(count) or pread(file, count, at))
    assert inspect_photograph(path, LIMITS).reason == ""
    assert sum(read) < path.stat().st_size / 4


def listing(folder, count, damaged=()):
    """A folder of `count` photographs, of which some are cut: their split."""
    folder.mkdir()
    for row in range(count):
        content = files.jpeg(row % 7)
        (folder / f"{row}.jpg").write_bytes(files.cut_in_half(content) if row in damaged else content)
    names = [f"{row}.jpg" for row in range(count)]
    return SplitListing([str(row) for row in range(count)], names)


def survey_of(task, folder, split, **settings):
    return survey_splits(task, folder, {"index": split}, DataSettings(**settings))["index"]


def test_too_many_damaged_files_stop_the_inspection_within_a_second_per_thousand(tmp_path):
    split = listing(tmp_path / "data", 2_000, damaged=range(0, 2_000, 50))
    task, begun = RecordedTask(tmp_path / "task"), time.process_time()
    with pytest.raises(PipelineError, match=r"21 of the first \d+ of 2000 files of index") as caught:
        survey_of(task, tmp_path / "data", split)
    assert time.process_time() - begun < 2.0
    assert caught.value.exit_code == 3 and "restore these files" in caught.value.hint
    assert sum(task.told) < 1_500, "it does not look further than it must"
    listed = pd.read_csv(tmp_path / "task" / "rejected.csv", dtype=str)
    assert len(listed) >= 21 and set(listed["id"]) <= {str(row) for row in range(0, 2_000, 50)}


def test_a_killed_inspection_resumes_after_its_last_shard_and_looks_again_at_what_it_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "SHARD", 10)
    monkeypatch.setattr(survey, "CHUNK", 5)
    data = tmp_path / "data"
    split = listing(data, 35, damaged=(3, 8, 31))
    whole = survey_of(RecordedTask(tmp_path / "whole"), data, split, max_bad_fraction=0.5, strict_decode=False)
    with pytest.raises(KeyboardInterrupt):  # in the third shard
        survey_of(RecordedTask(tmp_path / "task", 5), data, split, max_bad_fraction=0.5, strict_decode=False)
    looked = []

    def note(path, **limits):
        looked.append(path.name)
        return inspect_photograph(path, **limits)

    monkeypatch.setattr(survey, "inspect_photograph", note)
    task = RecordedTask(tmp_path / "task")
    again = survey_of(task, data, split, max_bad_fraction=0.5, strict_decode=False)
    assert looked == ["3.jpg", "8.jpg", *(f"{row}.jpg" for row in range(20, 35))]
    assert again[0].equals(whole[0]) and again[1].equals(whole[1]) and sum(task.told) == 35
    (data / "8.jpg").write_bytes(files.jpeg())  # repaired, while what was found about it is stored
    repaired = survey_of(RecordedTask(tmp_path / "task"), data, split, max_bad_fraction=0.5, strict_decode=False)
    assert repaired[1]["id"].tolist() == ["3", "31"] and "8" in repaired[0]["id"].tolist()


@pytest.mark.parametrize(
    ("asked", "limit", "decoded"),
    [("auto", 10**9, True), ("auto", 10**4, False), (True, 0, True), (False, 10**9, False)],
)
def test_small_sets_are_decoded_and_large_ones_by_setting_and_the_log_says_what_was_not(
    tmp_path, monkeypatch, caplog, asked, limit, decoded
):
    monkeypatch.setattr(survey, "DECODED_PIXELS", limit)
    split, task = listing(tmp_path / "data", 4), RecordedTask(tmp_path / "task")
    (tmp_path / "data" / "2.jpg").write_bytes(files.FOUND_BY_DECODING["zeros.jpg"][0])
    with caplog.at_level(logging.INFO, logger="cairn.images"):
        _, bad = survey_of(task, tmp_path / "data", split, strict_decode=asked, max_bad_fraction=0.5)
    assert bad["id"].tolist() == ["2"] * decoded
    assert ("not their 0 million pixels" in caplog.text) != decoded
    assert task.facts["checked"] == ("pixels" if decoded else "headers and ends")


# ---- The loader, and work on a split --------------------------------------------------------------------------------


@pytest.fixture
def split(tmp_path):
    """12 images of three landmarks, of which no more than a quarter may be bad; rows 2 and 7 are."""
    listed = listing(tmp_path / "images", 12)
    width, height = files.SIZE
    table = pd.DataFrame({"id": listed.ids, "path": listed.paths, "width": width, "height": height})
    table = table.assign(left=0.0, top=0.0, right=float(width), bottom=float(height), landmark=np.arange(12) % 3)
    for row in (2, 7):
        files.spoil(tmp_path / "images" / f"{row}.jpg")
    return Split(table, tmp_path / "images", Tolerance("train", 12, 0, 0.25))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_hands_on_unreadable_images_as_values(split, workers):
    plan = [PlannedBatch(np.array(rows), (64, 32)) for rows in ([1, 2, 3], [7], [8])]
    told = []
    batches = list(load_batches(split.paths, plan, workers=workers, on_bad=lambda *one: told.append(one)))
    assert [batch.rows.tolist() for batch in batches] == [[1, 3], [], [8]]
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 3, 32, 64), (0, 3, 32, 64), (1, 3, 32, 64)]
    assert [row for row, _ in told] == [2, 7] and "not an image" in told[0][1]
    with pytest.raises(PipelineError, match="not an image") as caught:
        list(load_batches(split.paths, plan, workers=workers))
    assert caught.value.exit_code == 3 and str(caught.value.where).endswith("2.jpg")


def test_an_image_replaced_by_one_smaller_than_its_box_is_a_value_too(split):
    boxes, told = np.array([(90.0, 80.0, 110.0, 90.0)] * 12), []
    split.paths[5].write_bytes(files.encode(size=(48, 40)))
    plan = [PlannedBatch(np.array([4, 5]), (32, 32))]
    (batch,) = load_batches(split.paths, plan, boxes=boxes, on_bad=lambda *one: told.append(one))
    assert batch.rows.tolist() == [4] and told == [(5, "48 x 40 px: smaller than its box")]


MODEL = ModelSettings(backbone="efficientnet_lite0", weights="none", dims=8)
PHASE = PhaseSettings(
    epochs=2, batch_size=4, learning_rate=0.01, template=[(64, 64)], validation_fraction=0.2, checkpoint_steps=1,
    precision="float32",
)  # fmt: skip


def published(folder, split, phase=PHASE, **options):
    """The files that a training of `split` publishes."""
    task = TrainingTask(folder, **options)
    train_and_save(task, TrainingSetup(MODEL, phase, 3, CPU), TrainingSet.from_split(split))
    return {name: (folder / name).read_bytes() for name in ("weights.safetensors", "history.csv", "rejected.csv")}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_landmark_network(build_embedding(MODEL, 0), PHASE, np.arange(3), 0, True, np.full(3, 4)).eval()


def test_training_leaves_unreadable_images_out_and_repeats_after_any_kill(split, tmp_path):
    whole = published(tmp_path / "whole", split)
    assert pd.read_csv(tmp_path / "whole" / "rejected.csv")["row"].tolist() == [2, 7]
    assert published(tmp_path / "loaded", split, workers=1) == whole

    class Killed(Exception):
        pass

    def kill(done, steps, loss, rate):
        if done in (2, 4, 6):  # the last: nothing is read after it that could be found to be bad again
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            published(tmp_path / "killed", split, on_step=kill)
    assert published(tmp_path / "killed", split) == whole


def test_a_batch_of_which_one_image_is_left_is_no_step(split, tmp_path):
    pairs = PHASE.model_copy(update={"batch_size": 2, "validation_fraction": 0.0, "epochs": 1})
    published(tmp_path / "run", split, pairs)  # BatchNorm would refuse a batch of one
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert history[1].startswith("1,6,")  # the schedule counts the step


def test_training_stops_when_nothing_of_an_epoch_can_be_read(split, tmp_path):
    for path in split.paths:
        path.unlink()
    tolerant = dataclasses.replace(split, tolerance=Tolerance("train", 12, 0, 1.0))
    with pytest.raises(PipelineError, match="not one photograph of epoch 1") as caught:
        published(tmp_path / "run", tolerant)
    assert caught.value.exit_code == 3


EXTRACT = ExtractSettings(template=[(64, 64)], scales=[1.0], shard_rows=3, precision="float32")
LOCAL = LocalSettings(max_side_px=64, scales=[1.0], max_features=9, shard_rows=3, precision="float32")


def describe(task, network, split):
    write_descriptors(task, network.embedding, split, EXTRACT, CPU)
    return (task.folder / "descriptors.npy").read_bytes(), (task.folder / "rejected.csv").read_bytes()


def extract(task, network, split):
    extractor = LocalExtractor(LocalNetwork(network), LOCAL, CPU)
    wanted = np.arange(12) != 5
    write_local_features(task, extractor, split, wanted, -1.0)
    return (task.folder / "points.npy").read_bytes(), (task.folder / "rejected.csv").read_bytes()


@pytest.mark.parametrize("work", [describe, extract])
def test_extraction_leaves_unreadable_images_out_and_repeats_after_any_kill(split, tmp_path, network, work, caplog):
    caplog.set_level(logging.WARNING, logger="cairn.images")
    task = RecordedTask(tmp_path / "whole")
    whole = work(task, network, split)
    rejected = pd.read_csv(tmp_path / "whole" / "rejected.csv", dtype=str)
    assert rejected[["row", "id", "path"]].values.tolist() == [["2", "2", "2.jpg"], ["7", "7", "7.jpg"]]
    assert rejected["reason"].str.contains("not an image").all()
    assert task.facts["rejected"]["count"] == 2 and task.facts["rejected"]["first"][1]["id"] == "7"
    assert "2.jpg is left out: not an image" in caplog.text
    for shards in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            work(RecordedTask(tmp_path / "killed", shards), network, split)
    assert work(RecordedTask(tmp_path / "killed"), network, split) == whole


def test_the_descriptors_of_unreadable_images_are_zero_and_the_others_unchanged(split, tmp_path, network):
    describe(RecordedTask(tmp_path / "damaged"), network, split)
    sound = [row for row in range(12) if row not in (2, 7)]
    describe(RecordedTask(tmp_path / "sound"), network, split.take(np.array(sound)))
    damaged, alone = (np.load(tmp_path / name / "descriptors.npy") for name in ("damaged", "sound"))
    assert not damaged[[2, 7]].any() and damaged.shape == (12, 8)
    np.testing.assert_array_equal(damaged[sound], alone)


def test_unreadable_images_have_no_local_features_and_no_say_in_the_threshold(split, tmp_path, network):
    extract(RecordedTask(tmp_path / "local"), network, split)
    store = LocalStore(tmp_path / "local")
    assert [row for row in range(12) if not len(store[row].points)] == [2, 5, 7]
    extractor = LocalExtractor(LocalNetwork(network), LOCAL, CPU)
    write_threshold(RecordedTask(tmp_path / "damaged"), extractor, split, seed=1)
    sound = split.take(np.array([row for row in range(12) if row not in (2, 7)]))
    write_threshold(RecordedTask(tmp_path / "sound"), extractor, sound, seed=1)
    found = [json.loads((tmp_path / name / "threshold.json").read_text()) for name in ("damaged", "sound")]
    assert found[0] == found[1] and found[0]["photographs"] == 10
    assert read_rejected([tmp_path / "damaged"]).tolist() == [2, 7]


def test_over_the_limit_the_work_stops_and_resumes_once_the_files_are_restored(split, tmp_path, network):
    sound = dataclasses.replace(split, tolerance=Tolerance("train", 14, 2, 0.25))  # two more were rejected before
    content, status = {}, split.paths[10].stat()
    files.restore(split.paths[7], files.jpeg(0), status)
    for row in (10,):
        content[row] = files.spoil(split.paths[row])
    with pytest.raises(PipelineError) as caught:
        describe(RecordedTask(tmp_path / "run"), network, sound)
    said = str(caught.value)
    assert caught.value.exit_code == 3 and "2 photographs of train can no longer be read" in said
    assert "10.jpg: not an image" in said and "2 were rejected when the data was prepared" in said
    assert "restore these files" in said and "raise data.max_bad_fraction" in said
    assert Path(caught.value.where).read_text().count("\n") == 3  # the list is there
    files.restore(split.paths[10], content[10], status)
    resumed = describe(RecordedTask(tmp_path / "run"), network, sound)
    assert resumed == describe(RecordedTask(tmp_path / "fresh"), network, sound)
    assert read_rejected([tmp_path / "run"]).tolist() == [2]


def test_a_restored_image_is_used_by_the_run_that_left_it_out_before_it_was_killed(split, tmp_path, network):
    with pytest.raises(KeyboardInterrupt):
        describe(RecordedTask(tmp_path / "run", 3), network, split)  # both bad images are in finished shards
    for row in (2, 7):
        split.paths[row].write_bytes(files.jpeg(row))
    describe(RecordedTask(tmp_path / "run"), network, split)
    assert np.load(tmp_path / "run" / "descriptors.npy").any(axis=1).all()
    assert (tmp_path / "run" / "rejected.csv").read_text() == "row,id,path,reason\n"


@pytest.mark.parametrize(
    ("module", "function", "work"),
    [(global_descriptors, "embed_batch", describe), (local_features, "extract_batch", extract)],
)
def test_a_batch_of_which_nothing_can_be_read_reaches_no_network(
    split, tmp_path, network, module, function, work, monkeypatch
):
    for path in split.paths[3:6]:  # a whole shard, and so a whole batch
        path.unlink(missing_ok=True)
    given, real = [], getattr(module, function)

    def count(subject, images, *rest, **settings):
        given.append(len(images.images if isinstance(images, LoadedBatch) else images))
        return real(subject, images, *rest, **settings)

    monkeypatch.setattr(module, function, count)
    work(RecordedTask(tmp_path / "run"), network, dataclasses.replace(split, tolerance=Tolerance("train", 12, 0, 1.0)))
    assert given and min(given) > 0 and sum(given) == 7


# ---- The search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat"])
def test_a_search_among_those_with_a_descriptor_is_that_of_a_smaller_set(factory):
    random = np.random.default_rng(1)
    vectors = random.standard_normal((40, 6)).astype(np.float32)
    vectors[[3, 20, 39]] = 0.0
    present, gaps = np.delete(np.arange(40), [3, 20, 39]), Gaps(np.array([3, 20, 39]), np.array([3, 20, 39]))

    def find(queries, base, k, exclude=None):
        return search(queries, base, k, SearchOptions(factory, nprobe=2), exclude)

    found = gaps.search(find, vectors, vectors, 37, np.arange(40))
    small = find(vectors[present], vectors[present], 37, np.arange(37))
    assert (found.rows[[3, 20, 39]] == -1).all() and not found.similarities[[3, 20, 39]].any()
    np.testing.assert_array_equal(found.rows[present], np.where(small.rows < 0, -1, present[small.rows]))
    np.testing.assert_array_equal(found.similarities[present], small.similarities)
    part = gaps.within(15, 25)
    np.testing.assert_array_equal(
        part.search(find, vectors[15:25], vectors, 37, np.arange(15, 25)).rows, found.rows[15:25]
    )


def test_nobody_finds_anything_where_no_image_has_a_descriptor():
    vectors = np.zeros((3, 4), np.float32)
    found = Gaps(np.arange(1), np.arange(3)).search(search, vectors, vectors, 2)
    assert (found.rows == -1).all() and found.rows.shape == (3, 2)


def test_an_image_that_one_model_could_not_read_has_no_joined_descriptor():
    one, other = (np.eye(3, dtype=np.float32) for _ in range(2))
    other[1] = 0.0
    joined = JoinedDescriptors([one, other], [1.0, 0.5])[:]
    assert not joined[1].any() and np.isfinite(joined).all() and joined[0].any()


# ---- Whole runs -----------------------------------------------------------------------------------------------------


def configuration(folder):
    steps = [name for name in STEPS if name not in ("knn", "sort", "insert")]
    baselines = "\n".join(f'{step} = ["knn", "{step}"]' for step in steps)
    phase = "epochs = 1\nbatch_size = 6\nlearning_rate = 0.01\ntemplate = [[64, 64]]\nvalidation_fraction = 0.2"
    path = folder / "mine.toml"
    path.write_text(
        f"""
[data]
source = "folders"
root = "{folder / "data"}"
[models.cnn]
backbone = "efficientnet_lite0"
weights = "none"
dims = 16
[models.cnn.base]
{phase}
[models.cnn.final]
{phase}
[extract]
template = [[64, 64]]
scales = [1.0]
shard_rows = 4
[local]
max_side_px = 64
scales = [1.0]
max_features = 30
calibration_photographs = 6
shard_rows = 4
[search]
graph_k = 5
[clean]
source = "verify"
min_inliers = 1
min_neighbours = 1
[recognition]
max_inliers = 20
[rerank.baselines]
{baselines}
[runtime]
device = "cpu"
workers = 0
"""
    )
    return path


def write_world(folder):
    """Folders of photographs, so small that every split has one that is missed."""
    for split, count in COUNTS.items():
        for row in range(count):
            path = folder / split / (f"{row % 3}" if split == "train" else "") / f"{row:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                files.encode(row % 3, quality=90) if split == "train" else files.encode(row % 4, quality=85)
            )


def contents(outputs, below="."):
    """The bytes of all published files, without those that hold times and paths."""
    return {
        str(path.relative_to(outputs)): path.read_bytes()
        for path in sorted((outputs / below).rglob("*"))
        if path.is_file()
        and path.name not in ("manifest.json", "log.txt", "settings.json")
        and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """A run in which one photograph of each split is damaged after stage 01: (arguments, outputs, their ids)."""
    folder = tmp_path_factory.mktemp("late")
    write_world(folder / "data")
    arguments = ["--config", configuration(folder), "data.max_bad_fraction=0.3"]
    assert run(*arguments, f"runtime.outputs={folder / 'first'}", "--to", 1) == 0
    tables = {
        split: pd.read_parquet(folder / "first" / "mine" / "01_prepare_data" / f"{split}.parquet") for split in COUNTS
    }
    for split, row in SPOILT.items():
        files.spoil(folder / "data" / tables[split]["path"][row])
    shutil.copytree(folder / "first", folder / "second")
    assert run(*arguments, f"runtime.outputs={folder / 'first'}", "--to", 11) == 0
    return arguments, folder / "first" / "mine", {split: tables[split]["id"][row] for split, row in SPOILT.items()}


def rejected_rows(outputs, artifact):
    return read_rejected([outputs / artifact]).tolist()


def test_every_stage_that_reads_a_damaged_photograph_lists_it(late):
    _, outputs, ids = late
    assert (outputs / "01_prepare_data" / "rejected.csv").read_text() == "split,id,path,reason\n"
    assert rejected_rows(outputs, "02_train_base/cnn") == [SPOILT["train"]]
    assert rejected_rows(outputs, "03_clean_train_set/global") == [SPOILT["train"]]
    for split, row in SPOILT.items():
        assert rejected_rows(outputs, f"05_extract_global/cnn/{split}") == [row]
        facts = json.loads((outputs / f"05_extract_global/cnn/{split}/manifest.json").read_text())["facts"]
        assert facts["rejected"]["count"] == 1 and facts["rejected"]["first"][0]["id"] == ids[split]
    assert rejected_rows(outputs, "07_extract_local/cnn/test") == [SPOILT["test"]]
    assert (outputs / "log.txt").read_text().count("is left out: not an image") >= 5


def test_the_report_and_the_console_name_what_was_left_out_after_stage_01_too(late, tmp_path, capsys):
    arguments, outputs, _ = late
    shutil.copytree(outputs, tmp_path / "mine")
    assert run(*arguments, f"runtime.outputs={tmp_path}") == 0
    said = capsys.readouterr().err
    metrics = json.loads((tmp_path / "mine" / "12_evaluate" / "metrics.json").read_text())
    page = (tmp_path / "mine" / "12_evaluate" / "report.html").read_text()
    for split, count in COUNTS.items():
        assert metrics["left_out"][split] == {"left_out": 1, "files": count, "max_bad_fraction": 0.3}
        assert f"1 of {count} {split} files" in said and f"1 of {count} {split} files" in page
        path = pd.read_parquet(outputs / "01_prepare_data" / f"{split}.parquet")["path"][SPOILT[split]]
        assert f"<td>{path}</td>" in page
    assert "02_train_base, 03_clean_train_set, 05_extract_global" in page  # of one photograph, the stages in order


def test_a_restored_photograph_makes_what_left_it_out_stale_and_is_used(late, tmp_path, capsys):
    arguments, outputs, _ = late
    shutil.copytree(load_config(Path(arguments[1])).data.root, tmp_path / "data")
    mine = [*arguments, f"data.root={tmp_path / 'data'}", f"runtime.outputs={tmp_path}", *PLAIN, *UNTRAINED]
    path = pd.read_parquet(outputs / "01_prepare_data" / "index.parquet")["path"][SPOILT["index"]]
    spoilt = (tmp_path / "data" / path).read_bytes()
    (tmp_path / "data" / path).write_bytes(files.encode(SPOILT["index"] % 4, quality=85))
    status = (tmp_path / "data" / path).stat()
    sound = (tmp_path / "data" / path).read_bytes()
    assert run(*mine, "--to", 4) == 0
    files.restore(tmp_path / "data" / path, spoilt, status)
    assert run(*mine, "--from", 5, "--to", 5) == 0
    assert rejected_rows(tmp_path / "mine", "05_extract_global/cnn/index") == [SPOILT["index"]]
    files.restore(tmp_path / "data" / path, sound, status)
    capsys.readouterr()
    assert run(*mine, "--status", "--only", 5) == 0
    lines = {line.split()[0]: re.split(" {2,}", line)[-1] for line in capsys.readouterr().out.splitlines()}
    assert lines["05_extract_global/cnn/index"] == f"stale: {path}, which was left out, can be read now"
    assert lines["05_extract_global/cnn/test"] == "fresh"
    assert run(*mine, "--only", 5) == 0
    assert rejected_rows(tmp_path / "mine", "05_extract_global/cnn/index") == []


def test_a_damaged_train_photograph_is_no_candidate_and_in_no_clean_list(late):
    _, outputs, ids = late
    near = np.load(outputs / "03_clean_train_set" / "neighbours" / "neighbours.npy")
    assert (near[SPOILT["train"]] == -1).all() and not (near == SPOILT["train"]).any() and (near >= 0).any()
    assert ids["train"] not in (outputs / "03_clean_train_set" / "list" / "train_clean.csv").read_text().split()
    for queries in ("test", "index"):
        rows = np.load(outputs / "06_build_knn" / f"{queries}_train" / "rows.npy")
        assert not (rows == SPOILT["train"]).any() and (rows[SPOILT[queries]] == -1).all() and (rows >= 0).any()


def test_a_damaged_index_photograph_is_in_no_list_and_a_damaged_test_photograph_has_an_empty_one(late):
    _, outputs, ids = late
    lists = list((outputs / "10_rerank_retrieval").rglob("*.rows.npy"))
    assert len(lists) >= 2 * len(STEPS) - 3
    for path in [*lists, *(outputs / "06_build_knn").glob("*_index/rows.npy")]:
        rows = np.load(path)
        assert not (rows == SPOILT["index"]).any() and (rows >= 0).any(), path
        if path.parent.name != "index_index":
            assert (rows[SPOILT["test"]] == -1).all(), path
    for name, column in (("retrieval", "images"), ("recognition", "landmarks")):
        table = pd.read_csv(outputs / "11_write_submissions" / f"{name}.csv", dtype=str, keep_default_na=False)
        cells = dict(zip(table["id"], table[column], strict=True))
        assert len(cells) == COUNTS["test"] and cells.pop(ids["test"]) == "" and all(cells.values())
        assert ids["index"] not in " ".join(cells.values()).split()


def test_the_same_command_gives_the_same_bytes_also_after_a_kill(late, monkeypatch):
    arguments, outputs, _ = late
    second = outputs.parent.parent / "second"
    again = [*arguments, f"runtime.outputs={second}", "--to", "11"]
    write, made = Rejections.write, []

    def kill_once(self, task):
        if task.published.name in ("train", "index") and task.published not in made:
            made.append(task.published)
            raise KeyboardInterrupt
        write(self, task)

    monkeypatch.setattr(Rejections, "write", kill_once)
    codes = [run(*again) for _ in range(6)]
    assert codes[-1] == 0 and codes.count(130) == len(made) >= 3
    assert contents(second / "mine") == contents(outputs)


def test_whitening_is_fitted_without_the_damaged_photographs(late, tmp_path):
    arguments, outputs, _ = late
    shutil.copytree(outputs, tmp_path / "mine")
    assert run(*arguments, f"runtime.outputs={tmp_path}", "search.whiten_dims=4", "--to", 6) == 0
    train = np.load(outputs / "05_extract_global" / "cnn" / "train" / "descriptors.npy")
    fitted = fit_whitening(PresentRows(train, [SPOILT["train"]]), 4)
    np.testing.assert_array_equal(np.load(tmp_path / "mine" / "06_build_knn" / "whitening" / "mean.npy"), fitted.mean)
    for split, row in SPOILT.items():
        folder = tmp_path / "mine" / "06_build_knn" / "whitened" / split
        zero = ~np.load(folder / "descriptors.npy").any(axis=1)
        assert np.flatnonzero(zero).tolist() == rejected_rows(folder.parent, split) == [row]
    rows = np.load(tmp_path / "mine" / "06_build_knn" / "test_index" / "rows.npy")
    assert not (rows == SPOILT["index"]).any() and (rows[SPOILT["test"]] == -1).all()


PLAIN = ["models.cnn.local=false", "rerank.baselines={}", "recognition.max_inliers=0", "clean.source=none"]
UNTRAINED = [f"models.cnn.{phase}.epochs=0" for phase in ("base", "final")]


def test_over_the_limit_a_run_ends_with_exit_code_3_and_true_advice(late, tmp_path, capsys):
    arguments, outputs, _ = late
    data = load_config(Path(arguments[1])).data.root
    shutil.copytree(data, tmp_path / "data")
    paths = {split: pd.read_parquet(outputs / "01_prepare_data" / f"{split}.parquet")["path"] for split in COUNTS}
    (tmp_path / "data" / paths["train"][SPOILT["train"]]).write_bytes(files.encode(2, quality=90))
    (tmp_path / "data" / paths["train"][7]).write_bytes(b"")  # stage 01 finds this one
    mine = [*arguments, f"data.root={tmp_path / 'data'}", f"runtime.outputs={tmp_path}", "data.max_bad_fraction=0.2"]
    (tmp_path / "data" / paths["test"][SPOILT["test"]]).write_bytes(files.encode(3, quality=85))
    (tmp_path / "data" / paths["index"][SPOILT["index"]]).write_bytes(files.encode(3, quality=85))
    mine += PLAIN
    assert run(*mine, "--to", 1) == 0
    kept = {}
    for row in (0, 3, 12):  # with the one of stage 01 these are 4 of 18: more than a fifth
        path = tmp_path / "data" / paths["train"][row]
        kept[path] = (path.stat(), files.spoil(path))
    capsys.readouterr()
    assert run(*mine, "--to", 2) == 3
    said = capsys.readouterr().err
    assert "3 photographs of train can no longer be read" in said and "1 were rejected" in said
    assert "restore these files" in said and "raise data.max_bad_fraction" in said and "stage 01" not in said
    for path, (status, content) in kept.items():
        files.restore(path, content, status)
    assert run(*mine, "--to", 2) == 0
    assert rejected_rows(tmp_path / "mine", "02_train_base/cnn") == []


def test_photographs_that_vanish_while_a_stage_works_do_not_stop_it(late, tmp_path, monkeypatch):
    arguments, _, _ = late
    write_world(tmp_path / "data")
    lost = min((tmp_path / "data" / "test").iterdir())

    def lose_first(*given):
        lost.unlink(missing_ok=True)
        return write_descriptors(*given)

    monkeypatch.setattr("pipeline.features.global_descriptors.write_descriptors", lose_first)
    mine = [*arguments, f"data.root={tmp_path / 'data'}", f"runtime.outputs={tmp_path}", *PLAIN, *UNTRAINED]
    assert run(*mine, "--to", 4) == 0
    assert run(*mine, "--to", 11) == 0
    rejected = pd.read_csv(tmp_path / "mine" / "05_extract_global" / "cnn" / "test" / "rejected.csv", dtype=str)
    assert rejected[["row", "reason"]].values.tolist() == [["0", "no such file"]]
    submitted = (tmp_path / "mine" / "11_write_submissions" / "recognition.csv").read_text().splitlines()
    assert submitted[1].endswith(",") and len(submitted) == 1 + COUNTS["test"]


def test_a_folder_with_every_kind_of_damage_runs_through_and_stops_early_by_default(late, tmp_path):
    arguments, _, _ = late
    write_world(tmp_path / "data")
    every = {name: content for name, (content, _) in {**files.FOUND_BY_ENDS, **files.FOUND_BY_DECODING}.items()}
    for split in ("index", "test"):
        for name, content in {**every, **files.SOUND}.items():
            (tmp_path / "data" / split / f"{name.replace('.', '_')}.{name.rpartition('.')[2]}").write_bytes(content)
    bad = len(every) + len(files.write_unreadable(tmp_path / "data" / "index").keys() - {"folder.jpg"})  # it is walked
    mine = [*arguments, f"data.root={tmp_path / 'data'}", f"runtime.outputs={tmp_path}", *PLAIN, *UNTRAINED]
    assert run(*mine, "--to", 1, "data.max_bad_fraction=0.01") == 3
    assert run(*mine, "--to", 11, "data.max_bad_fraction=0.9") == 0
    rejected = pd.read_csv(tmp_path / "mine" / "01_prepare_data" / "rejected.csv", dtype=str)
    assert (rejected["split"] == "index").sum() == bad and (rejected["split"] == "test").sum() == len(every)
    submitted = pd.read_csv(
        tmp_path / "mine" / "11_write_submissions" / "retrieval.csv", dtype=str, keep_default_na=False
    )
    assert len(submitted) == COUNTS["test"] + len(every) + len(files.SOUND)
    assert (submitted["images"] == "").sum() == len(every)
    listed = " ".join(submitted["images"]).split()
    assert listed and not set(listed) & set(rejected["id"])
    assert rejected_rows(tmp_path / "mine", "05_extract_global/cnn/test") == []
