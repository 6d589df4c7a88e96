"""Recipes: named steps in order, each from the ranking before it."""

import numpy as np

from pipeline.config import Config, RerankSettings
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.recipe import STEPS, Evidence, run_recipe
from pipeline.ranking.voting import Votes

NEIGHBOURS = Ranking(np.array([[3, 0, 2]], np.int32), np.array([[0.9, 0.8, 0.7]], np.float32), 5)


def evidence(**settings):
    votes = Votes(np.array([7, 5, 7, 5, 7]), np.array([0.5, 0.9, 0.5, 0.9, 0.8], np.float32))
    return Evidence(Votes(np.array([7]), np.array([0.6], np.float32)), votes, **settings)


def test_steps_run_in_order_and_each_is_kept():
    done = list(run_recipe(["knn", "sort", "insert"], NEIGHBOURS, evidence(top_k=4)))
    assert [name for name, _ in done] == ["knn", "sort", "insert"]
    assert [ranking.rows.tolist() for _, ranking in done] == [[[3, 0, 2]], [[0, 2, 3]], [[0, 2, 4, 3]]]


def test_a_list_is_cut_at_top_k_by_every_step():
    for _, ranking in run_recipe(["knn", "sort", "insert"], NEIGHBOURS, evidence(top_k=2)):
        assert ranking.rows.shape == (1, 2)


def test_the_settings_admit_the_steps_that_exist_and_no_others():
    steps = list(STEPS)
    assert RerankSettings(recipe=steps).recipe == steps
    assert Config.model_fields["rerank"].default.recipe == ["knn", "sort", "insert"]
    allowed = RerankSettings.model_json_schema()["properties"]["recipe"]["items"]["enum"]
    assert sorted(allowed) == sorted(steps)
