"""Numbers that lead nowhere: stopped where they arise, with the ids or the step, or a valid output (docs/faults.md)."""

import numpy as np
import pytest
import torch
from photographs import write_photographs
from tasks import RecordedTask, TrainingTask
from torch import nn

from pipeline.competition.benchmark import assemble_benchmark
from pipeline.competition.evaluation import (
    read_recognition_parts,
    read_retrieval_parts,
    score_recognition,
    score_retrieval,
)
from pipeline.competition.junk import Judgements
from pipeline.competition.metrics import Truth, average_precisions
from pipeline.competition.scoring import score_submission
from pipeline.competition.submission import (
    read_recognition,
    validate_recognition,
    validate_retrieval,
    write_recognition,
    write_retrieval,
)
from pipeline.errors import PipelineError
from pipeline.features.global_descriptors import InputImages, extract_descriptors
from pipeline.features.local_store import encode_descriptors
from pipeline.features.whitened import write_whitened, write_whitening
from pipeline.features.whitening import Whitening, fit_whitening
from pipeline.matching.knn import SearchOptions, Tiling, search, search_exact
from pipeline.network.checkpoint import WEIGHTS, load_network, save_network
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.training import train
from pipeline.network.training_set import TrainingSet
from pipeline.network.training_state import STATE, TrainingSetup
from pipeline.network.weights import load_matching
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.expansion import expand_queries
from pipeline.ranking.k_reciprocal import k_reciprocal_step
from pipeline.ranking.landmark_groups import group_by_landmark
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.superglobal import superglobal_step
from pipeline.ranking.two_stage import insert_step, sort_step
from pipeline.ranking.voting import neighbour_labels, soft_vote
from pipeline.settings import ExtractSettings, ModelSettings, PhaseSettings, SearchSettings

CPU = torch.device("cpu")
MODEL = ModelSettings(backbone="resnet18", weights="none", dims=8, local=False)
PHASE = PhaseSettings(
    epochs=1, batch_size=4, learning_rate=0.02, template=[(64, 64)], checkpoint_steps=1, augment="none",
    validation_fraction=0.0,
)  # fmt: skip
EXTRACT = ExtractSettings(template=[(64, 64)], scales=[1.0], precision="float32")
BAD = [np.nan, np.inf, -np.inf]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    photographs = write_photographs(tmp_path_factory.mktemp("photographs"), 8)
    return TrainingSet(photographs.paths, photographs.aspect_ratios, np.arange(8) % 2 + 5)


def fit(folder, images, phase=PHASE, start=None, on_step=lambda *_: None):
    return train(TrainingSetup(MODEL, phase, 0, CPU), images, TrainingTask(folder, on_step), start)


# ---- Training and weights -------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_at_its_step_and_names_the_batch(tmp_path, images):
    phase = PHASE.model_copy(update={"scale": 1e39})
    with pytest.raises(
        PipelineError, match=r"the loss is (nan|inf).*at step 0 of 2\n  where: the batch of photo00\d, "
    ):
        fit(tmp_path, images, phase)
    assert not (tmp_path / "scratch" / STATE).exists()


def test_weights_that_are_not_finite_are_not_saved_over_the_good_ones(tmp_path, images):
    good = []

    def poison(step, *_):
        if step == 1:  # the state of step 1 is on the disk
            good.append(next(tmp_path.rglob(STATE)).read_bytes())
            with torch.no_grad():
                next(iter(trained[0].parameters())).fill_(torch.nan)

    trained = []
    build = build_landmark_network(build_embedding(MODEL, 0), PHASE, np.array([5, 6]), 0, local=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.network.training.build_landmark_network", lambda *_: trained.append(build) or build)
        with pytest.raises(PipelineError, match="at step"):
            fit(tmp_path, images, on_step=poison)
    assert next(tmp_path.rglob(STATE)).read_bytes() == good[0]


def test_one_photograph_cannot_be_trained_on_and_one_landmark_can(tmp_path, images):
    single = TrainingSet(images.paths[:1], images.aspect_ratios[:1], images.labels[:1])
    with pytest.raises(PipelineError, match="1 photographs to train on"):
        fit(tmp_path / "one", single)
    alike = TrainingSet(images.paths, images.aspect_ratios, np.full(8, 7))
    network = fit(tmp_path / "alike", alike)
    assert network.landmark_ids.tolist() == [7]
    assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize("value", BAD)
def test_given_weights_that_are_not_finite_are_refused_by_name(value):
    state = {"weight": torch.ones(2, 3), "bias": torch.tensor([1.0, value])}
    with pytest.raises(PipelineError, match="bias holds values that are not finite"):
        load_matching(nn.Linear(3, 2), state, "linear", "x.pt")


def test_a_network_with_weights_that_are_not_finite_is_not_loaded(tmp_path):
    network = build_landmark_network(build_embedding(MODEL, 1), PHASE, np.array([1, 2]), 1, local=False)
    with torch.no_grad():
        network.head.weight[1, 3] = torch.nan
    save_network(tmp_path, network)
    with pytest.raises(PipelineError, match=f"head.weight holds values that are not finite\n  where: .*{WEIGHTS}"):
        load_network(tmp_path)


# ---- Descriptors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, *BAD])
def test_descriptors_without_a_direction_are_refused_by_photograph(images, value):
    class Broken(nn.Module):
        """Describes one photograph by the value."""

        count = 0

        def forward(self, pixels):
            self.count += 1
            described = torch.ones(len(pixels), 4)
            if self.count == 1:
                described[0] = value
            return described

    given = InputImages(images.paths, images.aspect_ratios)
    with pytest.raises(PipelineError, match=r"1 of 8 descriptors are zero or not finite\n  where: photo00\d"):
        extract_descriptors(Broken(), given, EXTRACT, CPU)


@pytest.mark.parametrize("value", BAD)
def test_whitening_names_the_row_that_is_not_finite(tmp_path, value):
    vectors = np.random.default_rng(0).normal(size=(20, 4))
    fitted = fit_whitening(vectors, 2)
    vectors[13, 2] = value
    for block_rows in (5, 100):
        with pytest.raises(ValueError, match="row 13 of the vectors is not finite"):
            fit_whitening(vectors, 2, block_rows=block_rows)
    with pytest.raises(ValueError, match="row 13 of the vectors is not finite"):
        fitted.apply(vectors)
    with pytest.raises(PipelineError, match="cannot be fitted on 20 train photographs: row 13"):
        write_whitening(tmp_path, vectors, SearchSettings(whiten_dims=2))


def test_whitening_of_equal_too_few_and_no_vectors_is_refused_or_empty(tmp_path):
    for vectors in (np.ones((5, 3)), np.ones((1, 3)), np.ones((0, 3))):
        with pytest.raises(PipelineError, match=r"set search\.whiten_dims = 0"):
            write_whitening(tmp_path, vectors, SearchSettings(whiten_dims=2))
    write_whitening(tmp_path, np.eye(4), SearchSettings(whiten_dims=2))
    task = RecordedTask(tmp_path / "empty")
    write_whitened(task, tmp_path, np.zeros((0, 4), np.float32), [])
    assert np.load(tmp_path / "empty" / "descriptors.npy").shape == (0, 2)
    assert Whitening(np.ones(2), np.eye(2), 1.0).apply(np.ones((1, 2))).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("value", BAD)
def test_local_descriptors_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        encode_descriptors(np.full((2, 8), value, np.float32), "int8")


# ---- Search and re-ranking ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("factory", ["Flat", "IVF1,Flat"])
def test_a_search_names_the_row_that_is_not_finite(factory, value):
    good = np.eye(6, 4, dtype=np.float32)
    bad = good.copy()
    bad[4, 1] = value
    for queries, base, named in ((bad, good, "row 4 of the queries"), (good, bad, "row 4 of the base")):
        with pytest.raises(ValueError, match=named):
            search(queries, base, 2, SearchOptions(factory))


def test_zero_vectors_are_found_last_and_ties_go_by_row():
    base = np.float32([[0, 0], [1, 0], [0, 0], [-1, 0]])
    found = search_exact(np.float32([[1, 0], [0, 0]]), base, 4, tiling=Tiling(2))
    assert found.rows.tolist() == [[1, 0, 2, 3], [0, 1, 2, 3]]
    assert found.similarities.tolist() == [[1, 0, 0, -1], [0, 0, 0, 0]]


@pytest.mark.parametrize("queries", [0, 3])
@pytest.mark.parametrize("index", [0, 1, 4])
def test_fewer_index_images_than_k_and_empty_splits_make_a_valid_submission(tmp_path, queries, index):
    rng = np.random.default_rng(0)
    test, base, train = (rng.normal(size=(count, 4)).astype(np.float32) for count in (queries, index, 2))
    test, base = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (test, base))
    near, pair = search_exact(test, base, 100), DescriptorPair(test, base)
    votes = [
        soft_vote(found.similarities, neighbour_labels(found.rows, np.array([7, 7])))
        for found in (search_exact(test, train, 3), search_exact(base, train, 3))
    ]
    lists = Ranking(near.rows, near.similarities, index)
    lists = superglobal_step(k_reciprocal_step(lists, pair), pair)
    expand_queries(pair, lists)
    lists = insert_step(sort_step(lists, votes[0].labels, votes[1].labels), votes[0], group_by_landmark(votes[1]))
    assert lists.rows.shape == (queries, 100) and (lists.lengths == index).all()
    ids = [[f"{name}{number}" for number in range(count)] for name, count in (("q", queries), ("i", index))]
    write_retrieval(tmp_path / "retrieval.csv", ids[0], lists.rows, ids[1])
    validate_retrieval(tmp_path / "retrieval.csv", *ids)
    write_recognition(tmp_path / "recognition.csv", ids[0], votes[0].labels, votes[0].confidences)
    validate_recognition(tmp_path / "recognition.csv", ids[0], {7})


def test_without_train_photographs_no_vote_is_cast_and_every_answer_is_empty(tmp_path):
    labels = neighbour_labels(np.full((2, 3), -1, np.int32), np.zeros(0, np.int64))
    votes = soft_vote(np.zeros((2, 3), np.float32), labels)
    write_recognition(tmp_path / "x.csv", ["a", "b"], votes.labels, votes.confidences)
    assert (tmp_path / "x.csv").read_text() == "id,landmarks\na,\nb,\n"


@pytest.mark.parametrize("value", BAD)
def test_votes_rankings_and_answers_that_are_not_finite_are_refused_by_image(tmp_path, value):
    weights = np.ones((3, 2), np.float32)
    weights[1, 1] = value
    with pytest.raises(ValueError, match=r"a vote of image 1 is not finite \(1 images in all\)"):
        soft_vote(weights, np.ones((3, 2), np.int64), votes=2)
    with pytest.raises(ValueError, match="query 1 has a score that is not finite"):
        Ranking(np.int32([[0, 1]] * 3), weights)
    with pytest.raises(PipelineError, match=r"1 scores are not finite \(b\)"):
        write_recognition(tmp_path / "x.csv", ["a", "b"], np.array([1, 2]), np.float32([1, value]))
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.csv").write_text(f"id,landmarks\na,1 {value}\n")
    with pytest.raises(PipelineError, match="is no answer"):
        list(read_recognition(tmp_path / "x.csv"))


# ---- Ground truth ---------------------------------------------------------------------------------------------------


def test_queries_without_positives_are_left_out_and_a_benchmark_without_any_is_refused():
    none, some = Truth.from_lists([[], []]), Truth.from_lists([[1], []])
    kept = assemble_benchmark(
        ["q", "r"], ["a", "b"], None, {"easy": Judgements(none, none), "hard": Judgements(some, none)}
    )
    assert list(kept.setups) == ["hard"]
    with pytest.raises(PipelineError, match="no query has a positive"):
        assemble_benchmark(["q", "r"], ["a", "b"], None, {"easy": Judgements(none, none)})
    with pytest.raises(ValueError, match="query 1 has no relevant image"):
        average_precisions(np.zeros((2, 3), bool), some.counts)


def test_a_solution_that_scores_nothing_gives_no_scores_or_is_refused(tmp_path):
    retrieval, recognition = tmp_path / "retrieval.csv", tmp_path / "recognition.csv"
    retrieval.write_text("id,images,Usage\na,None,Ignored\nb,None,Public\n")
    recognition.write_text("id,landmarks,Usage\na,,Public\nb,,Private\n")
    assert score_retrieval(np.zeros((2, 1), np.int32), read_retrieval_parts(retrieval, ["a", "b"], [], ["i"])) == {}
    parts = read_recognition_parts(recognition, ["a", "b"], [])
    assert score_recognition(np.array([1, 2]), np.float32([1, 1]), parts) == {}
    (tmp_path / "x.csv").write_text("id,images\na,i\n")
    with pytest.raises(PipelineError, match="the solution scores no query"):
        score_submission(retrieval, tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("id,landmarks\na,1 1\n")
    with pytest.raises(PipelineError, match="no image of the solution shows a landmark"):
        score_submission(recognition, tmp_path / "x.csv")
