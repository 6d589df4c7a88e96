"""docs/faults.md names a test for every fault, and every test that it names exists."""

import re
from pathlib import Path

import pytest

FAULTS = Path("docs/faults.md").read_text(encoding="utf-8")
DEFAULT = re.compile(r"Tests without a file name are in `(\S+)`")


def named_tests():
    """(file, test) of every test in the document; those without a file are in the one that their section names."""
    for section in re.split(r"^## ", FAULTS, flags=re.MULTILINE)[1:]:
        default = DEFAULT.search(section)
        for path, test in re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", section):
            yield path or (default[1] if default else "no file"), test


@pytest.mark.parametrize("path", sorted({path for path, _ in named_tests()}))
def test_every_test_that_the_document_names_exists(path):
    defined = set(re.findall(r"^def (test_\w+)\(", Path(path).read_text(encoding="utf-8"), re.MULTILINE))
    assert {test for file, test in named_tests() if file == path} <= defined


def test_every_row_of_a_table_names_a_test():
    rows = [
        line for line in FAULTS.splitlines() if line.startswith("|") and not re.match(r"\|[-|]+$|\| (#|fault) \|", line)
    ]
    assert len(rows) >= 40
    assert not [row for row in rows if not re.search(r"`\S*test_\w+` *\|$", row)]


@pytest.mark.parametrize("name", ["test_hostile", "test_numbers"])
def test_every_test_of_these_files_stands_in_the_document(name):
    path = f"tests/faults/{name}.py"
    defined = set(re.findall(r"^def (test_\w+)\(", Path(path).read_text(encoding="utf-8"), re.MULTILINE))
    assert defined - {test for file, test in named_tests() if file == path} == set()
