"""Ground truths of Revisited Oxford and Paris, their older forms, and Holidays: what is read, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest

from pipeline.competition.benchmark import add_distractors, add_train, list_benchmark_sources
from pipeline.competition.external_files import ExternalFiles
from pipeline.competition.holidays import read_holidays
from pipeline.competition.judgement_table import read_judgements, renumber, write_kept_judgements
from pipeline.competition.junk import Judgements
from pipeline.competition.metrics import Truth
from pipeline.competition.revisited import find_ground_truth, read_revisited
from pipeline.errors import PipelineError


def lists(truth: Truth) -> list[list[int]]:
    return [truth.of(query).tolist() for query in range(len(truth))]


@pytest.fixture
def gnd(tmp_path):
    """Write a ground truth of two queries and five images, changed as asked; its path."""
    judged = [
        {"bbx": [1.5, 2, 30.0, 40], "easy": [0, 3], "hard": [1], "junk": [4]},
        {"bbx": np.array([[-0.5, 0, 9, 9]]), "easy": np.zeros((1, 0)), "hard": np.array([2]), "junk": []},
    ]

    def write(change=lambda truth: None):
        truth = {"imlist": [f"i{n}" for n in range(5)], "qimlist": ["q0", "q1"], "gnd": judged}
        change(truth)
        (tmp_path / "gnd_x.pkl").write_bytes(pickle.dumps(truth))
        return tmp_path / "gnd_x.pkl"

    return write


def test_each_difficulty_has_the_positives_and_the_junk_of_the_protocol(gnd):
    setups = read_revisited(gnd()).setups
    assert {name: (lists(one.positives), lists(one.junk)) for name, one in setups.items()} == {
        "easy": ([[0, 3], []], [[1, 4], [2]]),
        "medium": ([[0, 1, 3], [2]], [[4], []]),
        "hard": ([[1], [2]], [[0, 3, 4], []]),
    }


def test_queries_are_test_with_their_boxes_and_images_are_index_in_their_order(gnd):
    splits = read_revisited(gnd()).dataset.splits
    assert splits["test"].ids == ["q0", "q1"] and splits["test"].paths == ["jpg/q0.jpg", "jpg/q1.jpg"]
    assert splits["test"].boxes == {"q0": (1.5, 2.0, 30.0, 40.0), "q1": (0.0, 0.0, 9.0, 9.0)}
    assert splits["index"].ids == ["i0", "i1", "i2", "i3", "i4"]
    assert splits["train"].ids == [] and splits["train"].landmarks == []


def test_the_classic_sets_have_one_setup_and_their_queries_get_ids_of_their_own(gnd):
    def classic(truth):
        truth["qimlist"] = ["i2", "i2"]
        truth["gnd"] = [{"bbx": [0, 0, 5, 5], "ok": [2, 0], "junk": [1]}, {"bbx": [3, 3, 9, 9], "ok": [2], "junk": []}]

    benchmark = read_revisited(gnd(classic))
    (name, setup), *none = benchmark.setups.items()
    assert (name, none, lists(setup.positives), lists(setup.junk)) == ("classic", [], [[0, 2], [2]], [[1], []])
    assert benchmark.dataset.splits["test"].ids == ["q00_i2", "q01_i2"]
    assert benchmark.dataset.splits["test"].paths == ["jpg/i2.jpg"] * 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("imlist"), "lacks one of imlist, qimlist and gnd"),
        (lambda t: t["gnd"].pop(), "1 judgements of 2 queries"),
        (lambda t: t["gnd"][1].pop("hard"), "query 1 has no list 'hard'"),
        (lambda t: t["gnd"][1].update(junk=[5]), "query 1 judges an image"),
        (lambda t: t["gnd"][0].update(easy=[-1]), "query 0 judges an image"),
        (lambda t: t["gnd"][0].update(easy=[0.5]), "query 0 judges an image"),
        (lambda t: t["gnd"][0].update(bbx=[1, 2, 3]), "query 0 has no box"),
        (lambda t: t["gnd"][0].update(bbx=[5, 2, 5, 9]), "the box of query 0 is empty"),
        (lambda t: t["gnd"][0].update(easy=["a"]), "could not convert"),
        (lambda t: t.update(gnd=7), "not iterable"),
        (lambda t: t["imlist"].__setitem__(0, "../../etc/passwd"), "cannot be the name of a photograph"),
        (lambda t: t["imlist"].__setitem__(0, "i1"), "listed twice"),
        (lambda t: [one.update(easy=[], hard=[]) for one in t["gnd"]], "no query has a positive"),
    ],
)
def test_malformed_boxes_and_relevance_lists_are_refused_with_the_query(gnd, change, expected):
    with pytest.raises(PipelineError, match=expected):
        read_revisited(gnd(change))


def test_the_only_ground_truth_of_a_folder_is_found_and_another_is_named(tmp_path):
    with pytest.raises(PipelineError, match="no gnd_"):
        find_ground_truth(tmp_path)
    (tmp_path / "gnd_a.pkl").touch()
    assert find_ground_truth(tmp_path) == tmp_path / "gnd_a.pkl"
    (tmp_path / "gnd_b.pkl").touch()
    with pytest.raises(PipelineError, match=r"(?s)2 files gnd_.*data\.ground_truth"):
        find_ground_truth(tmp_path)
    assert find_ground_truth(tmp_path, "gnd_b.pkl") == tmp_path / "gnd_b.pkl"


def test_in_holidays_the_first_image_of_each_scene_is_the_query_and_junk_in_its_own_list(tmp_path):
    (tmp_path / "jpg").mkdir()
    for name in ("100101", "100000", "100002", "100001", "100100"):
        (tmp_path / "jpg" / f"{name}.jpg").touch()
    benchmark = read_holidays(tmp_path)
    setup = benchmark.setups["holidays"]
    assert benchmark.dataset.splits["index"].ids == ["100000", "100001", "100002", "100100", "100101"]
    assert benchmark.dataset.splits["test"].ids == ["q00_100000", "q01_100100"]
    assert (lists(setup.positives), lists(setup.junk)) == ([[1, 2], [4]], [[0], [3]])
    (tmp_path / "jpg" / "100201.jpg").touch()
    with pytest.raises(PipelineError, match=r"scene 1002 has no query 100200\.jpg"):
        read_holidays(tmp_path)
    (tmp_path / "jpg" / "cat.jpg").touch()
    with pytest.raises(PipelineError, match=r"cat\.jpg is no photograph of Holidays"):
        read_holidays(tmp_path)
    with pytest.raises(PipelineError, match="no photographs"):
        read_holidays(tmp_path / "jpg")


def test_distractors_come_after_the_database_with_ids_of_their_own(gnd, tmp_path):
    more = tmp_path / "more"
    (more / "a").mkdir(parents=True)
    for name in ("i0.jpg", "a/b c.JPG", "list.txt"):
        (more / name).touch()
    index = add_distractors(read_revisited(gnd()), more).dataset.splits["index"]
    assert index.ids[5:] == ["distractor_i0", "distractor_a_b_c"]
    assert index.paths[5:] == [str(more / "i0.jpg"), str(more / "a" / "b c.JPG")]
    for wrong, what in ((tmp_path / "nowhere", "not there"), (tmp_path / "empty", "no photographs")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(PipelineError, match=what):
            add_distractors(read_revisited(gnd()), wrong)


def test_a_train_set_is_added_from_its_own_folder_with_its_clean_list(gnd, tmp_path):
    root = tmp_path / "labelled"
    root.mkdir()
    (root / "train.csv").write_text("id,landmark_id\nabc,7\nabd,8\n")
    (root / "train_clean.csv").write_text("landmark_id,images\n7,abc\n")
    (root / "boxes.csv").write_text("id,left,top,right,bottom\nabd,0,0,5,5\nsomeindexphoto,0,0,5,5\n")
    benchmark = add_train(read_revisited(gnd()), root)
    train = benchmark.dataset.splits["train"]
    assert (train.ids, train.landmarks, train.boxes) == (["abc", "abd"], [7, 8], {"abd": (0.0, 0.0, 5.0, 5.0)})
    assert train.paths[0] == str(root / "train/a/b/c/abc.jpg")
    assert benchmark.dataset.clean_list == {7: ["abc"]}
    (root / "train.csv").write_text("id,landmark_id\nabc,7\ni3,8\n")
    with pytest.raises(PipelineError, match="the id i3 is in the benchmark too"):
        add_train(read_revisited(gnd()), root)


def test_images_that_cannot_be_read_are_numbered_after_all_others():
    judged = Judgements(Truth.from_lists([[0, 1], [2]]), Truth.from_lists([[3], []]))
    kept = renumber(judged, np.array([False, True]), np.array([True, False, True, True]))
    assert lists(kept.positives) == [[1], [0, 3]]  # query 1 is row 0 now; image 1 comes after 0, 2 and 3
    assert lists(kept.junk) == [[], [2]]


def test_judgements_come_back_as_they_were_written(gnd, tmp_path):
    benchmark = read_revisited(gnd())
    write_kept_judgements(tmp_path, benchmark.setups, benchmark.dataset, set())
    found = read_judgements(tmp_path / "judgements.parquet", 2)
    assert list(found) == ["easy", "medium", "hard"]
    for name, one in benchmark.setups.items():
        assert [lists(truth) for truth in found[name]] == [lists(truth) for truth in one]
    assert pd.read_parquet(tmp_path / "judgements.parquet").columns.tolist() == ["setup", "query", "image", "junk"]


def test_the_digests_change_with_whatever_is_read(gnd, tmp_path):
    path = gnd()
    for folder in ("jpg", "labelled/train", "more"):
        (tmp_path / folder).mkdir(parents=True)

    def digests():
        sources = list_benchmark_sources(tmp_path, path, tmp_path / "labelled", tmp_path / "more")
        return ExternalFiles().digest(sources, None)

    before = digests()
    for changed, file in (
        ("jpg/", "jpg/a.jpg"), ("train/", "labelled/train/a.jpg"), ("distractors/", "more/a.jpg"),
        ("train.csv", "labelled/train.csv"), ("gnd_x.pkl", "gnd_x.pkl"),
    ):  # fmt: skip
        (tmp_path / file).write_text("changed")
        after = digests()
        assert {name.removesuffix(" content") for name in after if after[name] != before[name]} == {changed}
        before = after
