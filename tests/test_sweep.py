"""A sweep: the variants of its values, and artifacts that they share instead of making them again."""

import os

import pytest

from pipeline.artifacts import adopt, build, explain_staleness, find_damage, read_manifest
from pipeline.cache_key import CacheKey
from pipeline.errors import PipelineError
from pipeline.sweep import list_variants, split_values


@pytest.mark.parametrize(("text", "values"), [
    ("3,5", ["3", "5"]), ("[1.0],[0.7, 1.0]", ["[1.0]", "[0.7, 1.0]"]), ('["a,b"], "c,d"', ['["a,b"]', '"c,d"']),
    ("one", ["one"]), ("", [""]), ("{a = 1, b = 2}", ["{a = 1, b = 2}"]),
])  # fmt: skip
def test_commas_in_brackets_and_quotes_separate_nothing(text, values):
    assert split_values(text) == values


def test_a_variant_for_every_combination_named_by_its_values():
    variants = list_variants("mine", ["vote.votes=3,5", "extract.scales=[1.0],[0.7,1.0]"])
    assert [variant.settings for variant in variants] == [
        ["vote.votes=3", "extract.scales=[1.0]"],
        ["vote.votes=3", "extract.scales=[0.7,1.0]"],
        ["vote.votes=5", "extract.scales=[1.0]"],
        ["vote.votes=5", "extract.scales=[0.7,1.0]"],
    ]
    assert variants[1].name == "mine-votes_3-scales_0p7_1p0"


@pytest.mark.parametrize("sweeps", [
    ["votes"], ["=3"], ["vote.votes="], ["vote.votes=3,,5"], ["vote.votes=3,3"], ["a.b=1", "a.b=2"], ["run=a,b"],
    ["seed=" + ",".join(map(str, range(65)))], ["a.b=?,!"],
])  # fmt: skip
def test_what_is_no_sweep_is_refused(sweeps):
    with pytest.raises(PipelineError):
        list_variants("mine", sweeps)


def key(k):
    return CacheKey("05_stage", 1, {"k": k}, {})


def publish(folder, k):
    with build(folder, key(k)) as (partial, _):
        (partial / "deep").mkdir()
        (partial / "deep" / "data.txt").write_text(str(k))


def test_an_artifact_is_taken_from_a_run_that_made_it_with_the_same_key(tmp_path):
    for k in (1, 2):
        publish(tmp_path / f"run{k}" / "05_stage", k)
    own, others = tmp_path / "new" / "05_stage", [tmp_path / f"run{k}" / "05_stage" for k in (0, 1, 2)]
    assert adopt(own, key(3), others) is None and not own.exists()
    own.parent.mkdir()
    assert adopt(own, key(2), others) == others[2]
    assert explain_staleness(own, key(2)) == [] and find_damage(own, read_manifest(own), thorough=True) == []
    assert (own / "deep" / "data.txt").samefile(others[2] / "deep" / "data.txt")
    publish(others[2], 5)  # making the other again leaves what was taken
    assert (own / "deep" / "data.txt").read_text() == "2" and explain_staleness(own, key(2)) == []


def test_what_is_damaged_in_the_other_run_is_not_taken(tmp_path):
    publish(tmp_path / "a", 1)
    (tmp_path / "a" / "deep" / "data.txt").write_text("altered")
    assert adopt(tmp_path / "b", key(1), [tmp_path / "a"]) is None


def test_without_links_an_artifact_is_copied(tmp_path, monkeypatch):
    publish(tmp_path / "a", 1)

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert adopt(tmp_path / "b", key(1), [tmp_path / "a"])
    assert explain_staleness(tmp_path / "b", key(1)) == []
