"""The rehearsal: few photographs of each split at the same paths, the user's settings, and a run through all stages."""

from collections import Counter
from pathlib import Path

import pytest
from command import run
from photographs import write_photographs

from pipeline.competition.dataset import Dataset, SplitListing
from pipeline.competition.gldv2 import read_gldv2
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.rehearsal import LANDMARKS, OTHERS, TRAIN_EACH, draw_few, link_photographs, prepare_rehearsal, shorten

CONFIGS = sorted(path for path in Path("configs").glob("*.toml") if path.stem not in ("roxford", "rparis", "holidays"))


def listing(split, count, landmarks=None):
    ids = [f"{split}{number:04}" for number in range(count)]
    return SplitListing(ids, [f"{split}/{one}.jpg" for one in ids], landmarks)


def test_of_train_a_few_photographs_of_a_few_landmarks_are_drawn_those_of_the_clean_list():
    train = listing("train", 400, [row % 20 for row in range(400)])
    clean = {landmark: train.ids[landmark::20] for landmark in range(3, 20)}
    whole = Dataset({"train": train, "index": listing("index", 99), "test": listing("test", 3)}, clean)
    few = draw_few(whole, seed=1)
    counts = Counter(few.splits["train"].landmarks)
    assert len(counts) == LANDMARKS and set(counts.values()) == {TRAIN_EACH} and min(counts) >= 3
    assert len(few.splits["index"].ids) == OTHERS["index"] and few.splits["test"].ids == listing("test", 3).ids
    assert draw_few(whole, seed=1) == few


def test_a_folder_that_is_searched_in_itself_stays_one():
    images = listing("index", 50)
    few = draw_few(Dataset({"train": SplitListing([], [], []), "index": images, "test": images}), seed=0)
    assert few.splits["index"] is few.splits["test"] and len(few.splits["test"].ids) == OTHERS["index"]


def test_the_links_and_tables_are_read_as_the_photographs_that_were_drawn(tmp_path):
    boxes = {"train0001": (0.0, 0.0, 5.0, 5.0)}
    train = SplitListing(*vars(listing("train", 4, [7, 7, 8, 8])).values())
    train.boxes.update(boxes)
    few = Dataset({"train": train, "index": listing("index", 2), "test": listing("test", 2)}, {7: train.ids[:2]})
    for split in few.splits.values():
        for path in split.paths:
            (tmp_path / "whole" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "whole" / path).touch()
    link_photographs(few, tmp_path / "whole", tmp_path / "few")
    link_photographs(few, tmp_path / "whole", tmp_path / "few")  # once more: the folder is made anew
    assert read_gldv2(tmp_path / "few") == few


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_can_be_shortened(path, tmp_path):
    config = load_config(path)
    short = shorten(config, tmp_path)
    assert short.run == f"{config.run}-rehearsal" and short.data.root == tmp_path
    for name, model in config.models.items():
        phases = [(getattr(model, phase), getattr(short.models[name], phase)) for phase in ("base", "final")]
        for phase, now in phases if model.is_trained_here else ():
            assert now.epochs <= 2 and (now.large_epochs > 0) == (phase.large_epochs > 0)
            unchanged = {"batch_size", "template", "large_template", "precision", "head"}
            assert now.model_dump(include=unchanged) == phase.model_dump(include=unchanged)
    assert short.extract == config.extract and short.rerank == config.rerank


def test_a_benchmark_cannot_be_rehearsed():
    with pytest.raises(PipelineError, match="cannot be rehearsed"):
        prepare_rehearsal(load_config(Path("configs/roxford.toml"), ["models.resnet101.checkpoint=x"]))


def test_a_rehearsal_goes_through_all_stages_in_a_folder_of_its_own(tmp_path, capsys):
    for split, count in (("train/a", 9), ("train/b", 9), ("index", 6), ("test", 4)):
        (tmp_path / "mine" / split).mkdir(parents=True)
        write_photographs(tmp_path / "mine" / split, count)
    settings = [f"data.root={tmp_path / 'mine'}", "data.source=folders", f"runtime.outputs={tmp_path / 'out'}"]
    arguments = ["--rehearse", "--config", "configs/smoke.toml", "models.cnn.base.epochs=9", *settings]
    assert run(*arguments) == 0
    folder = tmp_path / "out" / "smoke-rehearsal"
    assert (folder / "12_evaluate" / "report.html").exists() and not (tmp_path / "out" / "smoke").exists()
    assert len((folder / "02_train_base" / "cnn" / "history.csv").read_text().splitlines()) == 2
    printed = capsys.readouterr().err
    assert "the settings went through" in printed and "kaggle" not in printed
