"""Near-duplicates of test photographs in train: which are listed, and that a list of them leaves them out."""

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run

from pipeline.competition.dataset import Dataset, SplitListing
from pipeline.competition.leave_out import leave_out
from pipeline.errors import PipelineError
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.overlap import find_overlap
from pipeline.report.overlap_report import tabulate_overlap


def test_pairs_at_least_so_similar_are_found_by_test_row_and_nothing_where_there_is_no_neighbour():
    rows = np.array([[4, 2, -1], [1, 0, 3], [-1, -1, -1]], np.int32)
    similarities = np.array([[0.95, 0.9, 0.0], [0.89, 0.5, 0.4], [0.0, 0.0, 0.0]], np.float32)
    found = find_overlap(Neighbours(rows, similarities), 0.9)
    assert (found.test_rows.tolist(), found.train_rows.tolist()) == ([0, 0], [4, 2])
    assert found.similarities.tolist() == pytest.approx([0.95, 0.9])
    assert len(find_overlap(Neighbours(rows, similarities), 0.0).test_rows) == 5


def test_named_train_photographs_are_left_out_with_their_labels_and_boxes(tmp_path):
    box = {"b": (0.0, 0.0, 4.0, 4.0), "c": (1.0, 1.0, 2.0, 2.0)}
    train = SplitListing(["a", "b", "c"], ["a.jpg", "b.jpg", "c.jpg"], [1, 2, 3], box)
    dataset = Dataset({"train": train, "test": SplitListing(["b"], ["b.jpg"])}, {2: ["b"]})
    for column in ("train", "id"):
        (tmp_path / "list.csv").write_text(f"test,{column}\nx,b\ny,unknown\n")
        found = leave_out(dataset, tmp_path / "list.csv").splits
        assert found["train"] == SplitListing(["a", "c"], ["a.jpg", "c.jpg"], [1, 3], {"c": box["c"]})
        assert found["test"] == dataset.splits["test"]


@pytest.mark.parametrize(("text", "what"), [("id\na\nb\n", "every photograph"), ("name\na\n", "no column 'id'")])
def test_a_list_that_leaves_nothing_or_has_no_ids_is_refused(tmp_path, text, what):
    (tmp_path / "list.csv").write_text(text)
    dataset = Dataset({"train": SplitListing(["a", "b"], ["a.jpg", "b.jpg"], [1, 2])})
    with pytest.raises(PipelineError, match=what):
        leave_out(dataset, tmp_path / "list.csv")
    with pytest.raises(PipelineError):
        leave_out(dataset, tmp_path / "none.csv")


def test_the_report_counts_the_photographs_and_shows_the_most_similar_pairs():
    pairs = pd.DataFrame(
        {"test": list("aab"), "train": list("xyz"), "landmark": [7, 7, 3], "similarity": [0.91, 0.95, 0.99]}
    )
    table = tabulate_overlap(pairs, 0.9, {7: "Old Tower"})
    assert table.text.startswith("2 of the test photographs have 3 near-duplicates among the train photographs")
    assert [row[-1] for row in table.rows] == ["0.990", "0.950", "0.910"]
    assert [row[2] for row in table.rows] == ["landmark 3", "Old Tower", "Old Tower"]
    assert tabulate_overlap(pairs[:0], 0.9, {}) is None is tabulate_overlap(None, 0.9, {})


def test_a_copy_of_a_test_photograph_in_train_is_listed_and_the_next_run_leaves_it_out(tmp_path):
    random = np.random.default_rng(0)
    for split, names in {"train/one": "abcd", "train/two": "efgh", "index": "ij", "test": "kl"}.items():
        (tmp_path / "data" / split).mkdir(parents=True)
        for name in names:
            image = cv2.resize(random.integers(0, 256, (6, 8, 3), dtype=np.uint8), (128, 96))
            cv2.imwrite(str(tmp_path / "data" / split / f"{name}.jpg"), image)
    copied = cv2.imread(str(tmp_path / "data/test/k.jpg"))
    cv2.imwrite(str(tmp_path / "data/train/two/copy.jpg"), copied, [cv2.IMWRITE_JPEG_QUALITY, 70])
    given = ["--config", "configs/smoke.toml", "data.source=folders", f"data.root={tmp_path / 'data'}"]
    given += [f"runtime.outputs={tmp_path / 'out'}", "clean.source=none", "runtime.workers=0", "run=copies"]
    given += ["models.cnn.base.epochs=0", "models.cnn.final.epochs=0", "search.overlap_similarity=0.9999"]
    assert run(*given) == 0
    listed = tmp_path / "out/copies/06_build_knn/overlap/overlap.csv"
    pairs = pd.read_csv(listed)
    assert len(pairs) == 1 and "copy" in pairs["train"][0] and "k" in pairs["test"][0]
    page = (tmp_path / "out/copies/12_evaluate/report.html").read_text()
    assert "1 of the test photographs have 1 near-duplicates" in page
    kept = tmp_path / "overlap.csv"
    kept.write_bytes(listed.read_bytes())
    assert run(*given, f"data.leave_out={kept}") == 0
    train = pd.read_parquet(tmp_path / "out/copies/01_prepare_data/train.parquet")
    assert len(train) == 8 and not train["id"].str.contains("copy").any()
    assert not len(pd.read_csv(listed))
