"""Scoring files: the official examples, the traps of the real formats, and what is refused."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.competition.scoring import score_submission
from pipeline.errors import PipelineError
from pipeline.score import main

RETRIEVAL = "id,images,Usage\nA,10 20,Public\nB,10,Public\nC,30 40 50,Private\nD,30,Private\n"
RECOGNITION = "id,landmarks,Usage\na,0 12,Public\nb,100 200 300,Public\nc,1,Private\nd,,Private\ne,,Public\n"


@pytest.fixture
def files(tmp_path):
    """Write a solution and a submission; their paths."""

    def write(solution: str, submission: str, suffix: str = ".csv") -> tuple[Path, Path]:
        paths = []
        for name, text in (("solution", solution), ("submission", submission)):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
            paths.append(path)
        return paths[0], paths[1]

    return write


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_the_official_retrieval_example(files, suffix):
    scored = score_submission(*files(RETRIEVAL, "id,images\nB,00 10\nC,40\nD,30 40\n", suffix))
    assert (scored.task, scored.queries, scored.answered) == ("retrieval", 4, 3)
    assert scored.scores["map_at_100"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1) / 4, abs=1e-12)
    assert scored.scores["map_at_100"] == pytest.approx(0.458333, abs=1e-6)
    assert scored.scores["map_at_100_public"] == pytest.approx(0.25)
    assert scored.scores["map_at_100_private"] == pytest.approx(2 / 3)
    assert scored.scores["mean_precision"]["1"] == 0.5
    assert (scored.scores["mean_position"], scored.scores["median_position"]) == (26.25, 1.5)


def test_the_official_recognition_example(files):
    scored = score_submission(*files(RECOGNITION, "id,landmarks\nb,0 0.01\nc,1 10\nd,150 15\n"))
    assert (scored.task, scored.queries, scored.answered) == ("recognition", 5, 3)
    assert scored.scores["gap"] == pytest.approx(1 / 6, abs=1e-12)
    assert scored.scores["gap_landmarks_only"] == pytest.approx(1 / 3, abs=1e-12)
    assert scored.scores["top1"] == pytest.approx(1 / 3, abs=1e-12)
    assert scored.scores["gap_public"] == 0.0 and scored.scores["gap_private"] == 0.5


def test_the_peculiarities_of_the_real_files_are_read(files):
    """Ids of digits and of an exponent, columns in another order, spaces at the end, blank rows, ignored queries."""
    solution = (
        "id,images,Usage\r\n0012345678901234,12345e1234567890 0000000000000001 ,Public\r\n\r\n"
        "1111111111111111,None,Ignored\r\n2222222222222222,None,Private\r\n3333333333333333,abc,Ignored\r\n"
    )
    submission = (
        "images,id\n0000000000000001 12345e1234567890 ,0012345678901234\n\n"
        "9,1111111111111111\n9,2222222222222222\n,3333333333333333\n"
    )
    scored = score_submission(*files(solution, submission))
    assert scored.scores["map_at_100"] == 1.0 and scored.queries == 1
    assert "map_at_100_public" not in scored.scores  # the other half is empty: "all" would repeat it


def test_only_100_positions_count_and_a_repeated_image_takes_a_position_but_hits_once(files):
    others = [f"x{number}" for number in range(99)]
    solution = "id,images,Usage\nq,a b b,Public\n"
    late = score_submission(*files(solution, f"id,images\nq,{' '.join([*others, 'a', 'b'])}\n"))
    assert late.scores["map_at_100"] == pytest.approx(1 / 100 / 2)
    twice = score_submission(*files(solution, "id,images\nq,a a b\n"))
    assert twice.scores["map_at_100"] == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_are_sorted_by_id_and_any_number_is_a_score(files):
    solution = "id,landmarks,Usage\nb,1,Public\na,,Public\nc,2,Public\n"
    scored = score_submission(*files(solution, "id,landmarks\nb,1 -3e-2\na,7 -0.03\nc,\n"))
    assert scored.scores["gap"] == pytest.approx(1 / 2 / 2)  # a comes before b, one of two is found
    assert scored.answered == 2


@pytest.mark.parametrize(
    ("solution", "submission", "expected"),
    [
        (RETRIEVAL, "id,landmarks\nA,1 2\n", "solution is of retrieval"),
        (RETRIEVAL, "id,images\nA,10\nA,20\n", "already has a record in line 2"),
        (RETRIEVAL, "id,images\nZ,10\n", "1 records of queries that the solution does not have: Z"),
        (RECOGNITION, "id,landmarks\nz,1 1\n", "1 records of queries"),
        (RECOGNITION, "id,landmarks\na,1\n", "is no answer"),
        (RECOGNITION, "id,landmarks\na,1 2 3\n", "is no answer"),
        (RECOGNITION, "id,landmarks\na,1 nan\n", "is no answer"),
        (RETRIEVAL.replace("Public", "public"), "id,images\n", "Usage is 'public'"),
        ("id,images,Usage\nA,None,Ignored\n", "id,images\n", "scores no query"),
        ("id,landmarks,Usage\na,,Public\n", "id,landmarks\n", "no image of the solution shows a landmark"),
        ("name\nA\n", "id,images\n", "neither a column 'images' nor 'landmarks'"),
        ("id,images\nA,1\n", "id,images\n", "no column 'Usage'"),
    ],
)
def test_what_breaks_the_formats_is_refused_with_its_file(files, solution, submission, expected):
    with pytest.raises(PipelineError) as caught:
        score_submission(*files(solution, submission))
    assert expected in str(caught.value) and ".csv" in str(caught.value)


def test_the_command_prints_a_table_or_json_and_exits_with_2_on_a_wrong_file(files, capsys):
    solution, submission = files(RETRIEVAL, "id,images\nB,00 10\nC,40\nD,30 40\n")
    command = ["--solution", str(solution), "--submission", str(submission)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "mAP@100" in printed and "0.458333" in printed and "3 of 4 scored queries" in printed
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["map_at_100_public"] == 0.25
    solution, submission = files(RECOGNITION, "id,landmarks\nb,0 0.01\nc,1 10\nd,150 15\n")
    assert main(command) == 0
    assert "GAP, landmarks only  0.333333" in capsys.readouterr().out
    assert main([*command[:-1], "nowhere.csv"]) == 2
    assert "nowhere.csv" in capsys.readouterr().err


def test_the_command_runs_as_a_module(files):
    solution, submission = files(RETRIEVAL, "id,images\nB,00 10\nC,40\nD,30 40\n")
    command = [sys.executable, "-m", "pipeline.score", "--solution", solution, "--submission", submission]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent)
    assert done.returncode == 0 and "0.458333" in done.stdout
