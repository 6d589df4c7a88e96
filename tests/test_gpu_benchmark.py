"""The measurement that whoever has a card runs: its command, and what it needs."""

import json
import subprocess
import sys

from benchmarks.record import format_table

BLOCKED = ["faiss", "albumentations", "cv2", "pandas", "pyarrow", "scipy", "sklearn", "skimage"]


def test_the_command_compares_and_measures_every_path_without_the_heavy_libraries(tmp_path):
    code = (
        f"import sys\nfor name in {BLOCKED}: sys.modules[name] = None\n"
        f"sys.argv = ['gpu', '--device', 'cpu', '--tiny', '--output', {str(tmp_path / 'found')!r}]\n"
        "from benchmarks.gpu import main\nsys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(row["agrees"] for row in found["twins"])
    assert {row["path"] for row in found["twins"]} >= {"global descriptors", "exact search", "verification", "training"}
    measured = " ".join(row["work"] for row in found["rates"])
    for work in ("exact search", "extraction", "training", "local features", "verification"):
        assert work in measured
    assert all(row["rate"] > 0 for row in found["rates"])
    table = (tmp_path / "found.md").read_text()
    assert "| path | compared |" in table and "| work | rate |" in table


def test_a_table_has_a_line_for_each_row_and_says_what_is_missing():
    rows = [{"path": "a", "rate": 1234.5, "recall": None, "agrees": True}, {"path": "b", "rate": 0.5, "agrees": False}]
    assert format_table(rows).splitlines() == [
        "| path | rate | recall | agrees |",
        "| --- | --- | --- | --- |",
        "| a | 1,234 | – | yes |",
        "| b | 0.5 | – | no |",
    ]
    assert format_table([]) == ""
