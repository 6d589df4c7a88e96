"""Tables in GLDv2's format and plain folders: ids are read as text, errors name the file and the line."""

import os
from pathlib import Path

import pytest

from pipeline.competition.external_files import ExternalFiles
from pipeline.competition.folders import list_folders, read_folders
from pipeline.competition.gldv2 import list_gldv2_sources, read_gldv2
from pipeline.competition.train_clean import write_clean_list
from pipeline.errors import PipelineError

TABLES = {"train.csv": "id,landmark_id\nt1,5\nt2,5\n", "index.csv": "id\ni1\n", "test.csv": "id\nq1\n"}


@pytest.fixture
def gldv2(tmp_path):
    def write(**changed) -> Path:
        for name, text in {**TABLES, **{f"{key}.csv": value for key, value in changed.items()}}.items():
            (tmp_path / name).write_bytes(text.encode())
        return tmp_path

    return write


def test_ids_that_look_like_numbers_stay_as_they_are(gldv2):
    root = gldv2(train="id,landmark_id\n12345e1234567890,7\n0012345678901234,08\n")
    train = read_gldv2(root).splits["train"]
    assert train.ids == ["12345e1234567890", "0012345678901234"]
    assert train.landmarks == [7, 8]
    assert train.paths[0] == "train/1/2/3/12345e1234567890.jpg"


def test_other_columns_a_byte_order_mark_crlf_quotes_blank_lines_and_a_trailing_comma_are_tolerated(gldv2):
    root = gldv2(train='\ufeffid,url,landmark_id\r\n"t1","http://a,b",5\r\n\r\nt2,,6,\r\n')
    train = read_gldv2(root).splits["train"]
    assert (train.ids, train.landmarks) == (["t1", "t2"], [5, 6])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"train": "id,landmark_id\na,1\na,1\n"}, ["id a appears twice", "train.csv, line 3"]),
        ({"index": "id\ni1\nt1\n"}, ["id t1 appears also in train.csv", "index.csv, line 3"]),
        ({"index": "id\n../../etc/passwd\n"}, ["'../../etc/passwd'", "index.csv, line 2"]),
        ({"index": "id\na b\n"}, ["'a b'", "line 2"]),
        ({"index": "id\n.hidden\n"}, ["'.hidden'", "line 2"]),
        ({"train": "id,landmark_id\nt1,five\n"}, ["'five'", "train.csv, line 2"]),
        ({"train": "id,landmark_id\nt1,-1\n"}, ["'-1'", "train.csv, line 2"]),
        ({"train": "id,landmark_id\nt1\n"}, ["1 cells where the first line has 2", "line 2"]),
        ({"train": "id,landmark_id\nt1,5,extra\n"}, ["3 cells", "line 2"]),
        ({"train": "id,label\nt1,5\n"}, ["no column 'landmark_id'", "train.csv, line 1"]),
        ({"test": ""}, ["no column 'id'", "test.csv"]),
        ({"test": 'id\n"open\n'}, ["not a CSV", "test.csv"]),
        ({"train_clean": "landmark_id,images\n5,t1 nobody\n"}, ["nobody is no photograph of 5", "clean.csv, line 2"]),
        ({"train_clean": "landmark_id,images\n6,t1\n"}, ["t1 is no photograph of 6", "line 2"]),
        ({"train_clean": "landmark_id,images\n5,t1 t1\n"}, ["t1 is listed twice", "line 2"]),
        ({"train_clean": "landmark_id,images\n5,t1\n5,t2\n"}, ["5 appears on two lines", "line 3"]),
        ({"train_clean": "landmark_id,images\n5,\n"}, ["5 has no photographs", "line 2"]),
        ({"train_clean": "landmark_id,images\n"}, ["clean list is empty"]),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_line(gldv2, changed, expected):
    with pytest.raises(PipelineError) as caught:
        read_gldv2(gldv2(**changed))
    for part in expected:
        assert part in str(caught.value)


def test_bytes_that_are_not_utf8_and_missing_tables_are_errors_that_name_the_file(gldv2):
    root = gldv2()
    (root / "index.csv").write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(PipelineError, match=r"index\.csv"):
        read_gldv2(root)
    (root / "index.csv").unlink()
    with pytest.raises(PipelineError, match=r"index\.csv"):
        read_gldv2(root)
    with pytest.raises(PipelineError, match="not there"):
        read_gldv2(root / "nowhere")


def test_the_layout_is_found_by_looking_or_taken_as_told(gldv2):
    root = gldv2(test="id\nabcd\n")
    assert read_gldv2(root).splits["test"].paths == ["test/a/b/c/abcd.jpg"]
    (root / "test").mkdir()
    (root / "test" / "abcd.jpg").touch()
    assert read_gldv2(root).splits["test"].paths == ["test/abcd.jpg"]
    assert read_gldv2(root, "nested").splits["test"].paths == ["test/a/b/c/abcd.jpg"]
    assert read_gldv2(root, "flat").splits["index"].paths == ["index/i1.jpg"]


def test_a_clean_list_is_read_and_written_without_what_was_rejected(gldv2, tmp_path):
    root = gldv2(train="id,landmark_id\nt1,5\nt2,5\nt3,6\n", train_clean="landmark_id,images\n5,t1 t2 \n6,t3\n")
    clean = read_gldv2(root).clean_list
    assert clean == {5: ["t1", "t2"], 6: ["t3"]}
    write_clean_list(tmp_path / "out.csv", clean, {"t1"})
    assert (tmp_path / "out.csv").read_text() == "landmark_id,images\n5,t1\n"


def test_published_categories_and_plain_names_name_the_landmarks_of_train(gldv2):
    root = gldv2(train="id,landmark_id\nt1,5\nt2,6\nt3,7\n")
    published, plain = root / "train_label_to_category.csv", root / "landmarks.csv"
    assert read_gldv2(root).landmark_names == {} and published.name not in list_gldv2_sources(root)
    page = "http://commons.wikimedia.org/wiki/Category:"
    published.write_text(f"landmark_id,category\n5,{page}Caf%C3%A9_de_Flore\n6,A: mill\n8,{page}Elsewhere\n7,\n")
    assert read_gldv2(root).landmark_names == {5: "Café de Flore", 6: "A: mill"}
    plain.write_text("landmark_id,name\n6,Old_Mill\n9,Nowhere\n")
    assert read_gldv2(root).landmark_names == {5: "Café de Flore", 6: "Old Mill"}
    assert list_gldv2_sources(root).items() >= {(path.name, path) for path in (published, plain)}
    published.write_text("landmark_id,category\nfive,x\n")
    with pytest.raises(PipelineError, match="line 2"):
        read_gldv2(root)


def test_empty_splits_are_allowed(gldv2):
    splits = read_gldv2(gldv2(train="id,landmark_id\n", index="id\n", test="id\n")).splits
    assert [len(splits[name].ids) for name in ("train", "index", "test")] == [0, 0, 0]


def make_folders(root: Path, paths: list[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    for split in ("train", "index", "test"):
        (root / split).mkdir(exist_ok=True)
    return root


def test_plain_folders_become_landmarks_numbered_by_name(tmp_path):
    paths = [
        "train/Tower of Pisa/a.jpg",
        "train/Abbey/b.JPG",
        "train/Abbey/notes.txt",
        "index/IMG 1.png",
        "test/x/q.webp",
    ]
    dataset = read_folders(make_folders(tmp_path, paths))
    assert dataset.landmark_names == {0: "Abbey", 1: "Tower of Pisa"}
    by_id = dict(zip(dataset.splits["train"].ids, dataset.splits["train"].landmarks, strict=True))
    assert by_id == {"Abbey_b": 0, "Tower_of_Pisa_a": 1}
    assert dataset.splits["index"].ids == ["IMG_1"]
    assert dataset.splits["index"].paths == ["index/IMG 1.png"]
    assert dataset.splits["test"].ids == ["x_q"]


def test_folders_that_are_numbers_keep_them(tmp_path):
    dataset = read_folders(make_folders(tmp_path, ["train/17/a.jpg", "train/4/b.jpg"]))
    assert dataset.landmark_names == {17: "17", 4: "4"}


def test_one_name_in_two_splits_gets_two_ids_and_a_second_conflict_is_refused(tmp_path):
    splits = read_folders(make_folders(tmp_path / "a", ["train/A/1.jpg", "index/1.jpg", "test/1.jpg"])).splits
    assert [splits[name].ids for name in ("train", "index", "test")] == [["A_1"], ["1"], ["test_1"]]
    with pytest.raises(PipelineError, match="both get the id"):
        read_folders(make_folders(tmp_path / "b", ["index/a b.jpg", "index/a_b.jpg", "index/a:b.jpg"]))


def test_loose_train_photographs_and_a_missing_split_are_refused(tmp_path):
    with pytest.raises(PipelineError, match="lie in train/ itself"):
        read_folders(make_folders(tmp_path, ["train/a.jpg"]))
    (tmp_path / "b" / "train").mkdir(parents=True)
    with pytest.raises(PipelineError, match="no folder index/"):
        read_folders(tmp_path / "b")


def digest(sources):
    return ExternalFiles().digest(sources, None)


def test_the_digest_of_the_sources_sees_tables_names_sizes_and_content_but_not_times(gldv2):
    root = gldv2()
    (root / "test" / "q").mkdir(parents=True)
    photograph = root / "test" / "q" / "q1.jpg"
    photograph.write_bytes(b"12")
    first = digest(list_gldv2_sources(root))
    os.utime(photograph, (1, 1))
    assert digest(list_gldv2_sources(root)) == first
    photograph.write_bytes(b"34")
    other = digest(list_gldv2_sources(root))
    assert {name for name in first if first[name] != other[name]} == {"test/ content"}
    photograph.write_bytes(b"345")
    second = digest(list_gldv2_sources(root))
    assert {name for name in first if first[name] != second[name]} == {"test/", "test/ content"}
    (root / "index.csv").write_text("id\ni2\n")
    assert digest(list_gldv2_sources(root))["index.csv"] != first["index.csv"]
    assert first["train_clean.csv"] == "missing"


def test_the_digest_of_plain_folders_sees_names_and_sizes_of_every_split(tmp_path):
    root = make_folders(tmp_path, ["train/A/1.jpg", "index/1.jpg", "test/2.jpg"])
    first = digest(list_folders(root))
    assert set(first) == {f"{split}/{content}" for split in ("train", "index", "test") for content in ("", " content")}
    (root / "index" / "1.jpg").write_bytes(b"longer")
    second = digest(list_folders(root))
    assert {name for name in first if first[name] != second[name]} == {"index/", "index/ content"}


BOXES = "id,left,top,right,bottom\n"


def test_boxes_belong_to_their_photographs(gldv2):
    splits = read_gldv2(gldv2(boxes=BOXES + "q1,1,2.5,30,40\n")).splits
    assert splits["test"].boxes == {"q1": (1.0, 2.5, 30.0, 40.0)}
    assert splits["index"].boxes == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q1,1,2,3", "4 cells where the first line has 5"),
        ("q1,1,2,x,4", "is no box"),
        ("q1,3,2,3,4", "is empty"),
        ("q1,nan,2,3,4", "is empty"),
        ("q1,1,2,3,4\nq1,1,2,3,4", "has two boxes"),
        ("nobody,1,2,3,4", "no table lists"),
    ],
)
def test_a_malformed_box_is_refused_with_its_file(gldv2, row, message):
    with pytest.raises(PipelineError, match=message) as error:
        read_gldv2(gldv2(boxes=f"{BOXES}{row}\n"))
    assert "boxes.csv" in str(error.value)


SPLITS = ("train", "index", "test", "non_landmark")


def test_photographs_of_no_landmark_are_a_split_when_asked_for_and_nothing_otherwise(gldv2):
    root = gldv2(non_landmark="id\nabcd\n")
    (root / "non_landmark").mkdir()
    (root / "non_landmark" / "abcd.jpg").write_bytes(b"1")
    split = read_gldv2(root, names=SPLITS).splits["non_landmark"]
    assert (split.ids, split.paths, split.landmarks) == (["abcd"], ["non_landmark/abcd.jpg"], None)
    assert "non_landmark" not in read_gldv2(root).splits
    without, digests = digest(list_gldv2_sources(root)), digest(list_gldv2_sources(root, SPLITS))
    assert set(digests) - set(without) == {"non_landmark.csv", "non_landmark/", "non_landmark/ content"}
    (root / "non_landmark.csv").write_text("id\nefgh\n")
    assert digest(list_gldv2_sources(root)) == without and digest(list_gldv2_sources(root, SPLITS)) != digests


@pytest.mark.parametrize("text", ["id\n", "id\nq1\n", "id\nn1\nn1\n", None])
def test_a_missing_empty_or_overlapping_split_of_no_landmark_is_refused(gldv2, text):
    root = gldv2(**({} if text is None else {"non_landmark": text}))
    message = {"id\n": "not one photograph", "id\nq1\n": "also in test.csv", None: "no non_landmark.csv"}
    with pytest.raises(PipelineError, match=message.get(text, "twice in this file")) as caught:
        read_gldv2(root, names=SPLITS)
    if text in (None, "id\n"):
        assert "recognition.non_landmarks = false" in str(caught.value) and "column id" in str(caught.value)


def test_missing_photographs_of_no_landmark_are_reported_before_any_table_is_read(gldv2):
    root = gldv2(train="nonsense")
    with pytest.raises(PipelineError, match=r"no non_landmark\.csv"):
        read_gldv2(root, names=SPLITS)


def test_plain_folders_of_no_landmark_may_be_deep(tmp_path):
    root = make_folders(tmp_path, ["train/A/1.jpg", "index/1.jpg", "test/2.jpg"])
    with pytest.raises(PipelineError, match="no folder non_landmark/"):
        read_folders(root, SPLITS)
    (root / "non_landmark" / "food" / "soup").mkdir(parents=True)
    with pytest.raises(PipelineError, match="not one photograph of no landmark"):
        read_folders(root, SPLITS)
    for name in ("1.jpg", "food/soup/3.png"):
        (root / "non_landmark" / name).write_bytes(b"x")
    split = read_folders(root, SPLITS).splits["non_landmark"]
    assert split.paths == ["non_landmark/1.jpg", "non_landmark/food/soup/3.png"]
    assert split.ids == ["non_landmark_1", "food_soup_3"] and split.landmarks is None
