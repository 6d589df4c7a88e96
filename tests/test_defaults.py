"""A function that is imported alone does what the pipeline does: its defaults are those of the settings."""

import inspect
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.config import Config
from pipeline.features.whitening import fit_whitening
from pipeline.matching.knn import SearchOptions
from pipeline.matching.verification import MatchOptions
from pipeline.network.backbone import build_backbone
from pipeline.network.cosine_softmax import arcface_logits, cosface_logits
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.heads import build_head
from pipeline.network.landmark_network import build_landmark_network
from pipeline.network.pooling import build_pooling
from pipeline.ranking.diffusion import build_affinity
from pipeline.ranking.expansion import augment_database, expand_queries
from pipeline.ranking.k_reciprocal import k_reciprocal_distances
from pipeline.ranking.label_vector import label_score_step
from pipeline.ranking.recognition import recognise
from pipeline.ranking.superglobal import refine_candidates, superglobal_scores
from pipeline.ranking.two_stage import insert_step
from pipeline.ranking.verified import verify_step
from pipeline.ranking.voting import soft_vote

CONFIG = Config(run="any")
MODEL = CONFIG.models["cnn"]
PAIRS = [  # (function, the settings of the same meaning, parameter -> setting where the names differ)
    (soft_vote, CONFIG.vote, {}),
    (recognise, CONFIG.recognition, {}),
    (verify_step, CONFIG.rerank.of_step("verify"), {}),
    (insert_step, CONFIG.rerank.of_step("insert"), {}),
    (label_score_step, CONFIG.rerank.of_step("label_score"), {}),
    (expand_queries, CONFIG.rerank.of_step("alpha_qe"), {}),
    (augment_database, CONFIG.rerank.of_step("dba"), {}),
    (build_affinity, CONFIG.rerank.of_step("diffusion"), {}),
    (k_reciprocal_distances, CONFIG.rerank.of_step("k_reciprocal"), {}),
    (superglobal_scores, CONFIG.rerank.of_step("superglobal"), {}),
    (refine_candidates, CONFIG.rerank.of_step("superglobal"), {}),
    (fit_whitening, CONFIG.search, {"power": "whiten_power"}),
    (SearchOptions, CONFIG.search, {}),
    (MatchOptions, CONFIG.verify, {}),
    (build_backbone, MODEL, {}),
    (EmbeddingNetwork, MODEL, {}),
    (build_pooling, MODEL, {}),
    (build_landmark_network, MODEL, {}),
    (build_head, MODEL.base, {}),
    (arcface_logits, MODEL.base, {}),
    (cosface_logits, MODEL.base, {}),
]


@pytest.mark.parametrize(("function", "settings", "renamed"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_defaults_equal_those_of_the_settings(function, settings: BaseModel, renamed):
    compared = 0
    for name, parameter in inspect.signature(function).parameters.items():
        setting = renamed.get(name, name)
        if parameter.default is not parameter.empty and setting in type(settings).model_fields:
            expected = getattr(settings, setting)
            if (name, parameter.default, expected) != ("max_ratio", None, 1.0):  # both: no ratio test
                assert parameter.default == expected, f"{function.__name__}({name})"
            compared += 1
    assert compared, f"{function.__name__} shares no default with {type(settings).__name__}: take it off the list"


def test_the_numbers_of_the_rerank_settings_are_those_of_the_functions():
    assert inspect.signature(insert_step).parameters["top_k"].default == CONFIG.rerank.top_k
    assert inspect.signature(label_score_step).parameters["top_k"].default == CONFIG.rerank.top_k


def test_every_configuration_loads():
    from pipeline.config import load_config

    for path in Path("configs").glob("*.toml"):
        assert load_config(path).run == path.stem
