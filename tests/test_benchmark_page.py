"""What benchmarks record, and the page of documentation that is made of it."""

import json
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.growth import find_exponent, tabulate
from benchmarks.page import BLOCK, PAGE, fill_page, read_records
from benchmarks.plots import GROWTH, RATIOS, draw_plots
from benchmarks.record import format_table, publish

SEARCHES = [
    {"search": "faiss", "seconds": 0.61234, "queries": 1000},
    {"search": "ours", "seconds": 0.5, "queries": None},
]
TABLE = "| search | seconds | queries |\n| --- | --- | --- |\n| faiss | 0.612 | 1,000 |\n| ours | 0.5 | – |\n"
GROWN = {
    "sizes": [1, 4, 16],
    "stages": [{"01_prepare_data": [1.0, 200.0], "06_build_knn": [seconds, 300.0]} for seconds in (1.0, 16.0, 256.0)],
}
BEFORE = "# Speed\n\nWhy.\n\n<!-- benchmark knn -->\n"
AFTER = "<!-- end -->\n\nAnd\n<!-- benchmark other -->\nkept\n<!-- end -->\n"


@pytest.fixture
def records(tmp_path):
    publish({"1,000 queries": SEARCHES}, tmp_path / "knn.json", ratios={"exact search, faiss": 1.22})
    publish({"worlds": []}, tmp_path / "growth-worlds.json", series={"worlds": GROWN})
    return read_records(tmp_path)


def test_a_table_has_the_columns_of_its_first_row_and_three_digits():
    assert format_table(SEARCHES) == TABLE
    assert format_table([]) == ""


def test_a_record_tells_machine_date_commit_and_command(records, capsys):
    record = records["knn"]
    assert record["tables"] == {"1,000 queries": SEARCHES}
    assert {"command", "date", "commit", "processor", "cores", "memory_gb", "load", "seconds"} <= record.keys()
    assert record["command"].startswith("python -m ") and record["cores"] > 0
    json.dumps(record)


def test_tables_between_two_marks_are_renewed_and_all_other_text_stays(records):
    page = fill_page(f"{BEFORE}old\n{AFTER}", records)
    assert page.startswith(BEFORE) and page.endswith(AFTER)
    renewed = page.removeprefix(BEFORE).removesuffix(AFTER)
    assert TABLE in renewed and records["knn"]["date"] in renewed and "old" not in renewed
    assert fill_page(page, records) == page


def test_plots_are_the_same_bytes_for_the_same_figures(records, tmp_path):
    pytest.importorskip("matplotlib")
    written = []
    for _ in range(2):
        draw_plots(records, tmp_path)
        written.append([(tmp_path / name).read_bytes() for name in (RATIOS, GROWTH)])
    assert written[0] == written[1]
    assert b"exact search, faiss" in written[0][0] and b"06_build_knn" in written[0][1]


def test_the_suite_renews_the_page_from_figures_that_are_there(records, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text(f"{BEFORE}old\n{AFTER}")
    monkeypatch.setattr("sys.argv", ["suite", "--only", "--output", str(tmp_path), "--page", str(page)])
    assert suite.main() == 0
    assert TABLE in page.read_text() and {path.name for path in page.parent.glob("*.svg")} == {RATIOS, GROWTH}


def test_exponents_are_those_of_a_fixed_part_and_a_power_of_the_size():
    for sizes in ([1, 4, 16], [1 / 64, 1 / 16, 1 / 8]):
        for power in (0.5, 1.0, 2.0):
            assert find_exponent(sizes, [3 + 1000 * size**power for size in sizes], 0.1) == pytest.approx(
                power, abs=0.02
            )
    assert find_exponent([1, 4, 16], [3.0, 3.0, 3.05], 0.1) is None and find_exponent([1, 4], [1.0, 4.0], 0.1) is None
    rows = list(tabulate(GROWN["sizes"], GROWN["stages"]))
    assert [row["exponent"] for row in rows] == [None, 2.0]
    assert rows[1]["s, × 16"] == 256.0 and rows[1]["MB, × 4"] == 300 and rows[1]["exponent of MB"] is None


def test_every_benchmark_of_the_suite_records_its_figures_and_has_its_place_on_the_page():
    shown = [block[2] for block in BLOCK.finditer(PAGE.read_text())]
    assert sorted(shown) == sorted(suite.BENCHMARKS)
    for one in suite.BENCHMARKS.values():
        text = Path("benchmarks", f"{one.module}.py").read_text()
        assert "add_json_argument(parser)" in text and "publish(" in text, one.module
        for name in [word for word in f"{one.arguments} {one.full}".split() if word.startswith("--")]:
            assert f'add_argument("{name}"' in text, f"{one.module} {name}"
