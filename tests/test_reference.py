"""The reference of settings and steps is made from the schema, and the pages in docs/ are those of today's schema."""

import pytest

from pipeline.config import Config
from pipeline.ranking.registry import STEPS
from pipeline.reference import DOCS, format_pages, format_settings, format_steps, main
from pipeline.schema import list_sections, read_comments


@pytest.mark.parametrize("name", format_pages())
def test_the_pages_are_those_of_the_schema(name):
    page = (DOCS / name).read_text(encoding="utf-8")
    assert page == format_pages()[name], f"docs/{name} is out of date: run python -m pipeline.reference --write"


def test_every_setting_has_a_meaning_and_every_section_a_summary():
    for section in list_sections(Config):
        assert section.summary, section.names
        for setting in section.settings:
            assert setting.meaning, f"{section.names[0]}.{setting.name}: write a comment beside the field"


def test_types_and_ranges_are_told_in_words():
    sections = {name: section for section in list_sections(Config) for name in section.names}
    rows = {(name, setting.name): setting for name in sections for setting in sections[name].settings}
    assert rows["rerank.insert", "min_confidence"].type == "number in [0, 2]"
    assert rows["models.<name>.final", "margin"].type == "number in [0, 1.5)"
    assert rows["models.<name>", "weight"][1:3] == ("number > 0", "1")
    assert rows["models.<name>", "pooling"][1:3] == ("`gem` or `spoc` or `mac` or `rmac`", '"gem"')
    assert rows["models.<name>", "checkpoint"][1:3] == ("path, optional", "none")
    assert rows["runtime", "workers"][1:3] == ("integer ≥ -1", "-1")
    assert rows["rerank.graph_traversal", "threshold"][1:3] == ("number", "inf")
    side = "integer 32 n in [32, 4096]"
    assert rows["extract", "template"].type.endswith(f"or `L2`, or list of ({side}, {side})")
    assert rows["", "run"].default == "required"


def test_the_page_of_settings_names_the_earlier_ones():
    assert "| `rerank.rivals` | `rerank.baselines` |" in format_settings()


def test_the_page_of_steps_has_a_row_per_step_with_what_it_needs():
    rows = {line.split("`")[1]: line for line in format_steps().splitlines() if line.startswith("| `")}
    assert rows.keys() >= STEPS.keys()
    assert "`LandmarkVotes` with `supervised`" in rows["dba"]
    assert "`min_confidence` = 0.6" in rows["insert"] and "`ranking/two_stage.py`" in rows["insert"]


def test_comments_are_found_beside_a_field_on_its_later_lines_and_above_it():
    source = '''
    class Example:
        """A class."""

        beside: int = 1  # the first
        later: float = (
            2.0  # the second
        )
        # the third,
        # on two lines
        above: str = "#"
        none: int = 3
    '''
    found = {"beside": "the first", "later": "the second", "above": "the third, on two lines", "none": ""}
    assert read_comments(source) == found


def test_the_command_writes_the_pages_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.reference.DOCS", tmp_path)
    assert main([]) == 0
    assert "## [rerank.insert]" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert main(["--write"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"settings.md", "steps.md"}
