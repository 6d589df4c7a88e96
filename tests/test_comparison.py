"""Finished runs side by side: intervals of differences, settings that differ, queries that changed."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from command import run
from runs import arguments_for, share_finished

from pipeline.compare import main
from pipeline.competition.paired_bootstrap import bootstrap_difference
from pipeline.errors import PipelineError
from pipeline.query.comparison import (
    compare_rankings,
    list_differing,
    pick_changed,
    read_scored_run,
    tabulate_rankings,
)


def test_the_interval_holds_the_mean_and_narrows_with_the_queries():
    rng = np.random.default_rng(3)
    widths = []
    for count in (50, 5000):
        first = rng.random(count)
        found = bootstrap_difference(first, first + rng.normal(0.1, 0.2, count))
        assert found.low < found.mean < found.high and found.mean == pytest.approx(0.1, abs=0.1)
        widths.append(found.high - found.low)
        # Of a mean of many values the bootstrap gives about the normal interval.
        assert widths[-1] == pytest.approx(2 * 1.96 * 0.2 / np.sqrt(count), rel=0.3)
    assert bootstrap_difference(first, first) == (0.0, 0.0, 0.0)
    assert bootstrap_difference(first[:1], first[:1] + 0.5) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([[1.0]], [[1.0]])])
def test_what_is_no_pair_of_scores_is_refused(first, second):
    with pytest.raises(ValueError):
        bootstrap_difference(np.array(first), np.array(second))


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Two finished runs of one world, whose votes and recipes differ."""
    world, outputs = share_finished(tmp_path_factory)
    folder = tmp_path_factory.mktemp("compared")
    for name in ("first", "second"):
        shutil.copytree(outputs / "smoke", folder / name)
    for name, *settings in (("first",), ("second", "vote.votes=1", "rerank.recipe=['knn', 'sort']")):
        assert run(*arguments_for(world, folder), f"run={name}", *settings) == 0
    return folder / "first", folder / "second"


def test_runs_are_compared_by_the_queries_and_rankings_that_they_share(two_runs):
    first, second = (read_scored_run(folder) for folder in two_runs)
    table = list_differing([first, second])
    assert {row[0]: row[1:] for row in table.rows} == {
        "vote.votes": ["3", "1"],
        "rerank.recipe": ['["knn", "sort", "insert"]', '["knn", "sort"]'],
    }
    compared = {one.ranking: one for one in compare_rankings([first, second])}
    assert set(compared) == {"knn", "knn + sort", "knn + verify"}
    measured = {step["step"]: step["map_at_100"] for step in first.metrics["retrieval"]["recipe"]}
    assert compared["knn"].means == pytest.approx([measured["knn"]] * 2)
    assert compared["knn"].differences[0] == (0.0, 0.0, 0.0)
    assert compared["knn + sort"].means[0] == pytest.approx(measured["sort"])
    strange = replace(second, precisions={second.recipe: {"strange": 1.0}})
    with pytest.raises(PipelineError, match="no scored query in common"):
        compare_rankings([first, strange])
    changed = pick_changed(first, second)
    change = [second.precisions[second.recipe][one] - first.precisions[first.recipe][one] for one in changed]
    assert all(change) and len(set(changed)) == len(changed)


def test_the_command_prints_and_draws_the_comparison_and_refuses_what_is_none(two_runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main([*map(str, two_runs), "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "second − first" in printed and "vote.votes" in printed and "knn + sort" in printed
    assert "vote.votes" in page.read_text()
    three = [read_scored_run(folder) for folder in (*two_runs, two_runs[1])]
    table = tabulate_rankings(three, compare_rankings(three))  # one under the other
    assert [row[:2] for row in table.rows[:3]] == [["knn", "first"], ["knn", "second"], ["knn", "second"]]
    assert [row[3] for row in table.rows[:3]] == ["", "+0.0 [+0.0, +0.0]", "+0.0 [+0.0, +0.0]"]
    assert main([str(two_runs[0])]) == 2 and "two runs or more" in capsys.readouterr().err
    assert main([str(two_runs[0]), str(tmp_path)]) == 2 and "there is no run" in capsys.readouterr().err
    other = tmp_path / "third"
    shutil.copytree(two_runs[0], other)
    table = pd.read_parquet(other / "01_prepare_data" / "test.parquet")
    table.assign(id=[f"other{row}" for row in range(len(table))]).to_parquet(other / "01_prepare_data" / "test.parquet")
    assert main([str(two_runs[0]), str(other)]) == 2 and "is not up to date" in capsys.readouterr().err
