"""Submission and solution files: what is written, what is tolerated, what is refused and how it is said."""

import gzip
import time

import numpy as np
import pytest

from pipeline.competition import submission
from pipeline.competition.metrics import encode_retrieval
from pipeline.competition.submission import (
    read_recognition,
    read_recognition_solution,
    read_retrieval,
    read_retrieval_solution,
    validate_recognition,
    validate_retrieval,
    write_names,
    write_recognition,
    write_retrieval,
)
from pipeline.errors import PipelineError

INDEX = ["0000000000000001", "12345e1234567890", "None", "fffffffffffffff3"]


def write(path, text):
    path.write_bytes(text.encode())
    return path


def content(path):
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


@pytest.mark.parametrize("name", ["retrieval.csv", "retrieval.csv.gz"])
def test_lists_come_back_as_they_were_written(tmp_path, name):
    path = tmp_path / name
    write_retrieval(path, ["007", "b"], np.int32([[1, 0, 2], [-1, -1, -1]]), INDEX)
    assert content(path) == "id,images\n007,12345e1234567890 0000000000000001 None\nb,\n"
    validate_retrieval(path, ["007", "b"], INDEX)
    assert dict(read_retrieval(path)) == {"007": ["12345e1234567890", "0000000000000001", "None"], "b": []}


@pytest.mark.parametrize("name", ["recognition.csv", "recognition.csv.gz"])
def test_answers_come_back_as_they_were_written_with_six_decimals(tmp_path, name):
    path = tmp_path / name
    write_recognition(path, ["007", "b", "c"], np.array([12, -1, 5]), np.float32([0.1234567, 0, -1e-9]))
    validate_recognition(path, ["007", "b", "c"], landmarks=[5, 12])
    assert dict(read_recognition(path)) == {"007": (12, 0.123457), "c": (5, 0.0)}
    assert content(path) == "id,landmarks\n007,12 0.123457\nb,\nc,5 0.000000\n"


def test_the_same_lists_give_the_same_gzip_bytes_at_any_time_and_under_any_name(tmp_path, monkeypatch):
    rows = np.int32([[0, 1]])
    write_retrieval(tmp_path / "one.csv.gz", ["a"], rows, INDEX)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    write_retrieval(tmp_path / "two.csv.gz", ["a"], rows, INDEX)
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "retrieval.csv"
    write_retrieval(path, ["a"], np.int32([[0]]), INDEX)
    with pytest.raises(IndexError):
        write_retrieval(path, ["a"], np.int32([[99]]), INDEX)
    assert list(read_retrieval(path)) == [("a", [INDEX[0]])]
    assert [entry.name for entry in tmp_path.iterdir()] == ["retrieval.csv"]


def test_lists_for_another_number_of_test_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 lists for 2 test images"):
        write_retrieval(tmp_path / "x.csv", ["a", "b"], np.int32([[0]]), INDEX)
    with pytest.raises(ValueError, match="argument"):
        write_recognition(tmp_path / "x.csv", ["a", "b"], np.array([1]), np.float32([1]))
    assert not list(tmp_path.iterdir())


def test_lists_written_in_several_blocks_are_all_there_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "BLOCK", 3)
    rows = np.arange(10, dtype=np.int32)[:, None] % 4
    write_retrieval(tmp_path / "x.csv", [f"t{test}" for test in range(10)], rows, INDEX)
    assert [images for _, images in read_retrieval(tmp_path / "x.csv")] == [[INDEX[test % 4]] for test in range(10)]


def test_every_broken_rule_is_counted_and_its_first_five_offenders_are_named(tmp_path):
    index = [f"i{image}" for image in range(200)]
    rows = [f"x{extra}," for extra in range(7)]  # no test images
    rows += ["t0," + " ".join(index[:101]), "t1,i1 i2 i1", "t2,i1 stranger i2 alien", "t3,", "t3,i5"]
    path = write(tmp_path / "retrieval.csv", "\n".join(["id,images", *rows]))
    with pytest.raises(PipelineError) as error:
        validate_retrieval(path, [f"t{test}" for test in range(5)], index)
    for part in (
        "1 lists of more than 100 images (t0)",
        "1 lists with an image twice (t1)",
        "2 listed images that are not in index (alien, stranger)",
        "1 test images without a record (t4)",
        "7 records of images that are not in test (x0, x1, x2, x3, x4, …)",
        "1 test images with several records (t3)",
    ):
        assert part in error.value.what
    assert error.value.where == path


def test_a_hundred_images_are_allowed(tmp_path):
    index = [f"i{image}" for image in range(100)]
    validate_retrieval(write(tmp_path / "x.csv", "id,images\na," + " ".join(index)), ["a"], index)


def test_a_landmark_that_is_not_in_train_is_refused(tmp_path):
    path = write(tmp_path / "x.csv", "id,landmarks\na,3 0.5\nb,\n")
    validate_recognition(path, ["a", "b"])
    with pytest.raises(PipelineError, match=r"1 answers with a landmark that is not in train \(a\)"):
        validate_recognition(path, ["a", "b"], landmarks=[33])
    with pytest.raises(PipelineError, match=r"1 test images without a record \(c\)"):
        validate_recognition(path, ["a", "b", "c"])


@pytest.mark.parametrize("cell", ["3", "3 0.5 1", "3 nan", "3 inf", "x 0.5", "1_2 0.5", "-3 0.5", "3 high"])
def test_a_malformed_recognition_answer_is_an_error_with_its_line(tmp_path, cell):
    path = write(tmp_path / "x.csv", f"id,landmarks\na,1 0.5\n\nb,{cell}\n")
    with pytest.raises(PipelineError, match="line 4"):
        list(read_recognition(path))


def test_a_byte_order_mark_crlf_blank_rows_quotes_and_trailing_spaces_are_tolerated(tmp_path):
    path = write(tmp_path / "x.csv", '\ufeffid,images\r\n\r\na,"i1 i2 "\r\nb,i3 \r\n,\r\n   \r\nc,,\r\n')
    assert list(read_retrieval(path)) == [("a", ["i1", "i2"]), ("b", ["i3"]), ("", []), ("c", [])]


def test_a_repeated_test_image_is_an_error_that_names_both_lines(tmp_path):
    path = write(tmp_path / "x.csv", "id,images\na,i1\nb,i1\na,i2\n")
    with pytest.raises(PipelineError, match="'a' already has a record in line 2") as error:
        list(read_retrieval(path))
    assert str(error.value.where).endswith("line 4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'id'"),
        (b"id,landmarks\n", "no column 'images'"),
        (b"id,images\na\n", "1 cells where the first line has 2"),
        (b"id,images\na,b,c\n", "3 cells where the first line has 2"),
        (b"id,images\na,\xff\n", "not a CSV in UTF-8"),
        (b'id,images\na,"b\n', "not a CSV in UTF-8"),
    ],
)
def test_a_file_of_another_format_is_an_error(tmp_path, content, message):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(PipelineError, match=message):
        list(read_retrieval(tmp_path / "x.csv"))


def test_a_missing_or_damaged_file_is_an_error(tmp_path):
    with pytest.raises(PipelineError, match="No such file"):
        list(read_retrieval(tmp_path / "x.csv"))
    write_retrieval(tmp_path / "x.csv.gz", ["a"] * 1, np.int32([[0]]), INDEX)
    whole = (tmp_path / "x.csv.gz").read_bytes()
    for damaged in (whole[:-9], b"no gzip", whole[:15] + b"\xff\xff" + whole[17:]):
        (tmp_path / "x.csv.gz").write_bytes(damaged)
        with pytest.raises(PipelineError, match="cannot be read"):
            list(read_retrieval(tmp_path / "x.csv.gz"))


def test_a_retrieval_solution_keeps_ids_as_names_and_ignores_none(tmp_path):
    path = write(
        tmp_path / "x.csv",
        "id,images,Usage\n0012,12345e1234567890 0000000000000001 ,Public\nb,fffffffffffffff3,Private\n\n"
        "c,None,Ignored\nd,None,Public\ne,,Private\nf,i1,Ignored\n",
    )
    solution = read_retrieval_solution(path)
    assert solution.public == {"0012": ("12345e1234567890", "0000000000000001")}
    assert solution.private == {"b": ("fffffffffffffff3",)}
    assert solution.ignored == {"c", "d", "e", "f"}


def test_a_recognition_solution_keeps_images_without_a_landmark(tmp_path):
    path = write(
        tmp_path / "x.csv", "id,landmarks,Usage\r\na,3 12 ,Public\r\nb,,Public\r\nc,,Private\r\nd,,Ignored\r\n"
    )
    solution = read_recognition_solution(path)
    assert solution.public == {"a": (3, 12), "b": ()}
    assert solution.private == {"c": ()}
    assert solution.ignored == {"d"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b,1,public", "Usage is 'public'"),
        ("b,1,", "Usage is ''"),
        ("b,1.5,Public", "1.5 is no landmark"),
        ("a,1,Public", "already"),
    ],
)
def test_a_malformed_record_of_a_solution_is_an_error_with_its_line(tmp_path, row, message):
    path = write(tmp_path / "x.csv", f"id,landmarks,Usage\na,1,Private\n{row}\n")
    with pytest.raises(PipelineError, match=message) as error:
        read_recognition_solution(path)
    assert str(error.value.where).endswith("line 3")


def test_a_relevant_list_longer_than_the_csv_module_allows_is_read(tmp_path):
    images = [f"{image:016x}" for image in range(9000)]
    path = write(tmp_path / "x.csv", f"id,images,Usage\na,{' '.join(images)},Public\n")
    assert read_retrieval_solution(path).public["a"] == tuple(images)


def test_a_submission_and_a_solution_meet_in_the_metrics(tmp_path):
    write_retrieval(tmp_path / "s.csv", ["a", "b"], np.int32([[0, 3], [1, -1]]), INDEX)
    solution = read_retrieval_solution(
        write(tmp_path / "t.csv", f"id,images,Usage\na,{INDEX[3]},Public\nb,None,Ignored\n")
    )
    rows, truth = encode_retrieval(dict(read_retrieval(tmp_path / "s.csv")), solution.public, solution.ignored)
    assert rows.tolist() == [[-1, 0]] and truth.values.tolist() == [0]


def test_answers_by_name_are_read_by_a_spreadsheet_as_text(tmp_path):
    names = {1: 'Mill, "old"', 2: "=1+1", 3: "-x"}
    scores = np.array([0.5, 0.25, 1.0, 0.0, 0.125], np.float32)
    write_names(tmp_path / "names.csv", list("abcde"), np.array([1, 2, 3, -1, 9]), scores, names)
    assert (tmp_path / "names.csv").read_text().splitlines() == [
        "id,name,confidence", 'a,"Mill, ""old""",0.500000', "b,'=1+1,0.250000", "c,'-x,1.000000", "d,,",
        "e,9,0.125000",
    ]  # fmt: skip
