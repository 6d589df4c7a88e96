"""Labels that spread through a graph: the formula on dense matrices, worked examples, and what is added to votes."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run
from runs import arguments_for, share_finished
from scipy import sparse

from pipeline.arrays import NO_LABEL
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.features.stacked import StackedVectors
from pipeline.matching.neighbours import Neighbours
from pipeline.matching.pair_table import PairTable
from pipeline.ranking.evidence import DescriptorPair, LabelledNeighbours, PropagatedLabels, TrainNeighbours
from pipeline.ranking.label_files import read_labels, write_labels
from pipeline.ranking.prediction import RecognitionEvidence, answer_recognition
from pipeline.ranking.propagation import (
    STEP,
    STEPS_TAKEN,
    PropagationStepSettings,
    Spread,
    edge_weights,
    join_lists,
    propagate_labels,
    propagation_step,
    receive_labels,
    strongest_labels,
)
from pipeline.ranking.ranking import Ranking
from pipeline.settings import PropagationSettings, RecognitionSettings

SETTINGS = PropagationSettings(sharpness=3.0, inlier_weight=2.0, max_inliers=10)


def make_graph(rng, count, k):
    """Random lists of k neighbours, some of them short."""
    rows = np.full((count, k), -1, np.int32)
    for image in range(count):
        others = np.delete(np.arange(count), image)
        listed = rng.permutation(others)[: rng.integers(0, k + 1)]
        rows[image, : len(listed)] = listed
    similarities = -np.sort(-rng.random((count, k)).astype(np.float32), axis=1)
    return Neighbours(rows, np.where(rows >= 0, similarities, 0).astype(np.float32))


def naive_weights(near, settings, inliers=None):
    weights = np.zeros(near.rows.shape)
    for image in range(len(near.rows)):
        relative = [
            (near.similarities[image, i] / near.similarities[image, 0]) ** (settings.sharpness - 1)
            * (1 + settings.inlier_weight * min(0 if inliers is None else inliers[image, i], 10) / 10)
            if near.rows[image, i] >= 0 and near.similarities[image, i] > 0
            else 0.0
            for i in range(near.rows.shape[1])
        ]
        for i, value in enumerate(relative):
            if value:
                weights[image, i] = near.similarities[image, i] * value / sum(relative)
    return weights


def naive_spread(near, weights, labels, landmarks, alpha):
    count = len(near.rows)
    edges = np.zeros((count, count))
    for image in range(count):
        for row, weight in zip(near.rows[image], weights[image], strict=True):
            if row >= 0:
                edges[image, row] += weight / 2
                edges[row, image] += weight / 2
    degrees = edges.sum(axis=1)
    scale = np.diag([1 / np.sqrt(degree) if degree > 0 else 0 for degree in degrees])
    graph = scale @ edges @ scale
    own = (labels[:, None] == landmarks).astype(float)
    total, term = own.copy(), own.copy()
    for _ in range(STEPS_TAKEN):
        term = alpha * graph @ term
        total += term
    return total, degrees, scale


@pytest.mark.parametrize("count,k", [(0, 3), (1, 2), (2, 1), (9, 4), (30, 5), (7, 6)])
@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_labels_spread_by_the_formula(count, k, alpha):
    rng = np.random.default_rng(count)
    near, landmarks = make_graph(rng, count, k), np.array([3, 7, 100])
    inliers = rng.integers(0, 20, near.rows.shape)
    labels = np.where(rng.random(count) < 0.5, rng.choice(landmarks, count), NO_LABEL)
    weights = edge_weights(near, SETTINGS, inliers)
    np.testing.assert_allclose(weights, naive_weights(near, SETTINGS, inliers), rtol=1e-6)
    spread = propagate_labels(near.rows, weights, labels, landmarks, alpha, kept=3)
    total, degrees, scale = naive_spread(near, weights, labels, landmarks, alpha)
    np.testing.assert_allclose(spread.labels.toarray(), total, atol=2e-5)  # strengths below 1e-6 are dropped each step
    np.testing.assert_allclose(spread.degrees, degrees, rtol=1e-9)
    asked = make_graph(rng, count + 3, k)
    asked = Neighbours(np.where(asked.rows < count, asked.rows, -1).astype(np.int32), asked.similarities)
    weights = edge_weights(asked, SETTINGS)
    received = receive_labels(asked.rows, weights, spread, kept=3).toarray()
    edges = np.zeros((count + 3, count))
    for image in range(count + 3):
        for row, weight in zip(asked.rows[image], weights[image], strict=True):
            if row >= 0:
                edges[image, row] += weight
    np.testing.assert_allclose(received, edges @ scale @ total, atol=2e-5)


def test_a_label_reaches_an_image_over_another_that_joins_both():
    """train 0 - index 1 - index 2: nothing joins 0 and 2."""
    rows, weights = np.array([[1], [2], [1]], np.int32), np.array([[0.8], [0.4], [0.4]])
    labels, landmarks = np.array([5, NO_LABEL, NO_LABEL]), np.array([5])
    none = propagate_labels(rows, weights, labels, landmarks, 0.0, 16).labels.toarray()[:, 0]
    assert none.tolist() == [1.0, 0.0, 0.0]
    spread = propagate_labels(rows, weights, labels, landmarks, 0.5, 16).labels.toarray()[:, 0]
    # Edges 0.4 (0-1) and 0.4 (1-2), degrees 0.4, 0.8, 0.4: S is sqrt(0.5) on both edges.
    series = [0.5 * np.sqrt(0.5), 0.5 * 0.25]  # to 1 in one step, to 2 in two
    assert spread[1] > series[0] and spread[2] == pytest.approx(series[1] / (1 - 0.25), rel=1e-3)


def test_inliers_and_nearness_weigh_an_edge():
    near = Neighbours(np.array([[4, 5]], np.int32), np.array([[0.8, 0.8]], np.float32))
    assert edge_weights(near, SETTINGS).tolist() == [[pytest.approx(0.4), pytest.approx(0.4)]]
    first, second = edge_weights(near, SETTINGS, np.array([[0, 99]]))[0]
    assert (first, second) == (pytest.approx(0.2), pytest.approx(0.6))
    farther = Neighbours(near.rows, np.array([[0.8, 0.4]], np.float32))
    assert edge_weights(farther, SETTINGS)[0].tolist() == [pytest.approx(0.64), pytest.approx(0.08)]
    negative = Neighbours(near.rows, np.array([[-0.1, -0.2]], np.float32))
    assert edge_weights(negative, SETTINGS).tolist() == [[0.0, 0.0]]


def test_the_strongest_labels_are_kept_and_ties_go_to_the_smaller_landmark():
    strengths = np.array([[0.1, 0.5, 0.5, 0.2], [0.0, 0.0, 0.3, 0.0]])
    spread = Spread(sparse.csr_array(strengths), np.ones(2))
    rows, weights = np.array([[0], [1]], np.int32), np.ones((2, 1))
    assert receive_labels(rows, weights, spread, 2).toarray().tolist() == [[0, 0.5, 0.5, 0], [0, 0, 0.3, 0]]
    assert receive_labels(rows, weights, spread, 1).toarray().tolist() == [[0, 0.5, 0, 0], [0, 0, 0.3, 0]]
    names, values = strongest_labels(spread.labels, np.array([10, 20, 30, 40]), 3)
    assert names.tolist() == [[20, 30, 40], [30, NO_LABEL, NO_LABEL]]
    assert values.tolist() == [[0.5, 0.5, 0.2], [0.3, 0.0, 0.0]]


def test_what_a_query_receives_does_not_depend_on_other_queries():
    rng = np.random.default_rng(4)
    near, asked = make_graph(rng, 20, 4), make_graph(rng, 20, 4)
    spread = propagate_labels(near.rows, edge_weights(near, SETTINGS), np.arange(20) % 5, np.arange(5), 0.8, 3)
    weights = edge_weights(asked, SETTINGS)
    whole = receive_labels(asked.rows, weights, spread, 3).toarray()
    for query in range(20):
        alone = receive_labels(asked.rows[query : query + 1], weights[query : query + 1], spread, 3).toarray()
        assert alone[0].tolist() == whole[query].tolist()


def test_lists_of_train_and_index_join_by_similarity_and_then_by_row():
    train = Neighbours(np.array([[1, 0]], np.int32), np.array([[0.9, 0.5]], np.float32))
    index = Neighbours(np.array([[2, -1]], np.int32), np.array([[0.9, 0.0]], np.float32))
    joined = join_lists([train, index], [0, 10], 3)
    assert joined.rows.tolist() == [[1, 12, 0]] and joined.rows.dtype == np.int32
    assert joined.similarities[0].tolist() == pytest.approx([0.9, 0.9, 0.5])
    assert join_lists([train, index], [0, 10], 9).rows.tolist() == [[1, 12, 0, -1]]


def test_alpha_of_one_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        propagate_labels(np.zeros((1, 1), np.int32), np.ones((1, 1)), np.array([1]), np.array([1]), 1.0, 4)


def test_the_step_lists_what_shares_a_label_first_though_it_resembles_less():
    queries, index = np.array([[1.0, 0.0]]), np.array([[0.9, 0.1], [0.2, 0.98], [0.5, 0.5]])
    labels = PropagatedLabels(
        sparse.csr_array(np.array([[0.5, 0.0]])), sparse.csr_array(np.array([[0, 0.9], [0.8, 0], [0, 0]])), np.arange(2)
    )
    ranking = Ranking(np.array([[0, 2]], np.int32), np.array([[0.9, 0.5]], np.float32), 3)
    pair = DescriptorPair(queries, index)
    for weight, expected in ((0.0, [0, 2]), (2.0, [1, 0])):
        ranked = propagation_step(ranking, pair, labels, PropagationStepSettings(weight=weight))
        assert ranked.rows[0, :2].tolist() == expected


@pytest.mark.parametrize("direct_weight", [0.0, 0.6])
def test_the_score_is_similarity_plus_both_products(direct_weight):
    rng = np.random.default_rng(7)
    queries, index = (rng.normal(size=(count, 4)) for count in (6, 15))
    pair = DescriptorPair(*(part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, index)))
    landmarks = np.array([3, 5, 8])
    spread = [rng.random((count, 3)) * (rng.random((count, 3)) < 0.5) for count in (6, 15)]
    near = [
        LabelledNeighbours(
            -np.sort(-rng.random((count, 4)).astype(np.float32)), rng.choice([3, 5, 8, NO_LABEL], (count, 4))
        )
        for count in (6, 15)
    ]
    settings = PropagationStepSettings(weight=0.9, direct_weight=direct_weight, votes=3, sharpness=2.0)
    direct = [np.zeros((count, 3)) for count in (6, 15)]
    for vectors, (similarities, labels) in zip(direct, near, strict=True):
        for image in range(len(labels)):
            relative = similarities[image, :3] / similarities[image, 0]
            for i in range(3):
                if labels[image, i] != NO_LABEL:
                    share = similarities[image, i] * relative[i] / relative.sum()
                    vectors[image, np.searchsorted(landmarks, labels[image, i])] += share
    expected = pair.queries @ pair.index.T + 0.9 * spread[0] @ spread[1].T + direct_weight * direct[0] @ direct[1].T
    every = Ranking(
        np.tile(np.arange(15, dtype=np.int32), (6, 1)), (pair.queries @ pair.index.T).astype(np.float32), 15
    )
    labels = PropagatedLabels(*map(sparse.csr_array, spread), landmarks)
    ranked = propagation_step(every, pair, labels, settings, TrainNeighbours(*near, landmarks), 15)
    values = np.take_along_axis(expected, ranked.rows, axis=1)
    assert (np.diff(values, axis=1) < 1e-5).all()
    assert [TrainNeighbours in STEP.needs(settings)] == [direct_weight > 0]


def test_propagated_labels_are_added_to_the_mean_vote():
    near = Neighbours(np.array([[0, 1, 2]], np.int32), np.array([[0.9, 0.8, 0.7]], np.float32))
    strengths = sparse.csr_array(np.array([[0.1, 0.0, 1.5]]))
    labels = PropagatedLabels(strengths, sparse.csr_array((1, 3)), np.array([5, 6, 9]))
    evidence = RecognitionEvidence(near, np.array([5, 6, 5]), propagated=labels)
    plain = answer_recognition(evidence, RecognitionSettings())
    assert plain.labels.tolist() == [5] and plain.scores.tolist() == pytest.approx([1.6 / 3])
    added = answer_recognition(evidence, RecognitionSettings(propagation=0.2))
    assert added.labels.tolist() == [5] and added.scores.tolist() == pytest.approx([1.6 / 3 + 0.02])
    more = answer_recognition(evidence, RecognitionSettings(propagation=0.5))
    assert more.labels.tolist() == [9] and more.scores.tolist() == pytest.approx([0.75])


def test_labels_come_back_from_their_files(tmp_path):
    labels = sparse.csr_array(np.array([[0.0, 0.5], [0, 0], [0.25, 0.125]]))
    write_labels(tmp_path, "index", labels)
    assert read_labels(tmp_path, "index", 2).toarray().tolist() == labels.toarray().tolist()


def test_stacked_vectors_are_read_as_one_matrix():
    parts = [np.arange(6.0).reshape(3, 2), np.zeros((0, 2)), np.arange(10.0, 18).reshape(4, 2)]
    whole, stacked = np.concatenate(parts), StackedVectors(parts)
    assert stacked.shape == whole.shape and len(stacked) == 7
    for rows in (slice(None), slice(2, 5), slice(5, 99), np.array([6, 0, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(stacked[rows], whole[rows])


@pytest.mark.parametrize(
    "settings,reason",
    [
        (["recognition.propagation=1", "recognition.power=2"], "recognition.power = 1.0"),
        (["recognition.propagation=1", "search.train_k=5"], "search.train_k is 5"),
    ],
)
def test_settings_that_do_not_suit_are_refused(settings, reason):
    with pytest.raises(PipelineError, match=reason):
        load_config(Path("configs/smoke.toml"), settings)


def test_a_run_spreads_labels_by_its_own_neighbours_and_inliers(tmp_path, tmp_path_factory):
    world, finished = share_finished(tmp_path_factory)
    shutil.copytree(finished, tmp_path / "out")
    asked = ["rerank.recipe=['knn', 'propagation']", "recognition.propagation=0.5", "propagation.neighbours=4"]
    assert run(*arguments_for(world, tmp_path / "out"), *asked, "--to", 11) == 0
    folder = tmp_path / "out" / "smoke"
    train = pd.read_parquet(folder / "01_prepare_data/train.parquet")["landmark"].to_numpy()
    vectors = [np.load(folder / f"05_extract_global/cnn/{split}/descriptors.npy") for split in ("train", "index")]
    rows, similarities = (np.load(folder / f"06_build_knn/graph_graph/{name}.npy") for name in ("rows", "similarities"))
    products = np.concatenate(vectors) @ np.concatenate(vectors).T
    np.fill_diagonal(products, -9)
    np.testing.assert_allclose(np.sort(-products)[:, :4], -similarities, atol=2e-6)
    pairs = pd.read_parquet(folder / "03_clean_train_set/pairs/pairs.parquet")
    columns = [("query", "row"), ("row", "query"), ("inliers", "inliers")]
    table = PairTable(*(np.concatenate([pairs[one], pairs[other]]) for one, other in columns))
    settings = load_config(Path("configs/smoke.toml"), asked).propagation
    inliers = table.look_up(np.where(rows < len(train), rows, -1))
    weights = edge_weights(Neighbours(rows, similarities), settings, inliers)
    labels = np.concatenate([train, np.full(len(vectors[1]), NO_LABEL)])
    spread = propagate_labels(rows, weights, labels, np.unique(train), settings.alpha, settings.kept_labels)
    stored = read_labels(folder / "09_propagate_labels", "index", len(np.unique(train)))
    np.testing.assert_array_equal(stored.toarray(), spread.labels.toarray()[len(train) :])
    assert (inliers > 0).any() and stored.nnz > len(vectors[1]) / 2
