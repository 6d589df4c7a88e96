"""The official examples, examples by hand, and the array code against loops over the queries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.competition.metrics import (
    Truth,
    encode_recognition,
    encode_retrieval,
    find_hits,
    first_positions,
    global_average_precision,
    hit_rates,
    mean_and_median_position,
    mean_average_precision,
    mean_precisions,
    top1_accuracy,
)

LANDMARKS = {"a": [0, 12], "b": [100, 200, 300], "c": [1], "d": [], "e": []}
ANSWERS = {"b": (0, 0.01), "c": (1, 10.0), "d": (150, 15.0)}
RELEVANT = {"A": {"10", "20"}, "B": {"10"}, "C": {"30", "40", "50"}, "D": {"30"}}
LISTS = {"B": ["00", "10"], "C": ["40"], "D": ["30", "40"]}


def hits_and_counts(lists, relevant):
    rows, truth = encode_retrieval(lists, relevant)
    return find_hits(rows, truth), truth.counts


def gap(answers, solution, **options):
    labels, scores, order, truth = encode_recognition(answers, solution)
    return global_average_precision(labels, scores, truth, order=order, **options)


def test_recognition_reproduces_the_official_example():
    assert gap(ANSWERS, LANDMARKS) == pytest.approx(0.166667, abs=1e-6)
    assert gap(ANSWERS, LANDMARKS, landmarks_only=True) == pytest.approx(0.333333, abs=1e-6)
    labels, _, _, truth = encode_recognition(ANSWERS, LANDMARKS)
    assert top1_accuracy(labels, truth) == pytest.approx(0.333333, abs=1e-6)


def test_retrieval_reproduces_the_official_example():
    hits, counts = hits_and_counts(LISTS, RELEVANT)
    assert mean_average_precision(hits, counts) == pytest.approx(0.458333, abs=1e-6)
    assert mean_average_precision(hits, counts, k=1) == 0.5
    assert mean_precisions(hits, k=2).tolist() == [0.5, 0.375]
    assert len(mean_precisions(hits)) == 100
    assert hit_rates(hits, k=3).tolist() == [0.5, 0.75, 0.75]  # A has no list, B's hit is the second
    assert mean_and_median_position(hits) == (26.25, 1.5)
    assert mean_and_median_position(hits, k=1) == (1.5, 1.5)


def test_a_repeated_image_is_no_second_hit_but_takes_a_position():
    hits, counts = hits_and_counts({"q": ["x", "x", "miss", "miss", "y"]}, {"q": ["x", "y"]})
    assert hits.tolist() == [[True, False, False, False, True]]
    assert mean_average_precision(hits, counts) == pytest.approx((1 + 2 / 5) / 2)


def test_more_than_a_hundred_relevant_images_are_normalised_by_a_hundred():
    relevant = [str(image) for image in range(150)]
    hits, counts = hits_and_counts({"q": relevant[:120]}, {"q": relevant})
    assert mean_average_precision(hits, counts) == pytest.approx(1.0)


def test_queries_without_a_list_count_zero():
    hits, counts = hits_and_counts({"p": ["x"]}, {"p": ["x"], "q": ["x"]})
    assert mean_average_precision(hits, counts) == 0.5
    hits, counts = hits_and_counts({}, {"p": ["x"], "q": ["x"]})
    assert mean_average_precision(hits, counts) == 0.0
    assert mean_and_median_position(hits) == (101, 101)


def test_predictions_for_unknown_images_are_refused_and_for_ignored_ones_left_out():
    with pytest.raises(ValueError, match=r"1 predictions .*\['z'\]"):
        encode_retrieval({"z": []}, {"q": ["x"]})
    with pytest.raises(ValueError, match="z"):
        encode_recognition({"z": (1, 1.0)}, {"q": [1]})
    rows, _ = encode_retrieval({"z": ["x"]}, {"q": ["x"]}, ignored=["z"])
    assert rows.shape == (1, 0)
    assert encode_recognition({"z": (1, 1.0)}, {"q": [1]}, ignored={"z"}).labels.tolist() == [-1]


def test_equal_scores_are_sorted_by_id():
    solution = {"b": [1], "a": [2]}
    assert gap({"a": (9, 0.5), "b": (1, 0.5)}, solution) == pytest.approx(1 / 2 / 2)  # a, wrong, comes first
    assert gap({"a": (2, 0.5), "b": (9, 0.5)}, solution) == pytest.approx(1 / 2)


def test_a_mean_over_nothing_is_refused():
    none = np.zeros((0, 5), np.bool_)
    for metric in (
        lambda: mean_precisions(none),
        lambda: hit_rates(none),
        lambda: mean_average_precision(none, np.zeros(0, np.int64)),
    ):
        with pytest.raises(ValueError, match="no queries"):
            metric()
    with pytest.raises(ValueError, match="query 1 has no relevant image"):
        mean_average_precision(np.zeros((2, 3), np.bool_), np.array([1, 0]))
    with pytest.raises(ValueError, match="no image of the solution shows a landmark"):
        gap({}, {"a": []})


def test_a_ground_truth_from_pairs_is_sorted_and_counts_repeats_once():
    truth = Truth.from_pairs(np.array([2, 0, 2, 2]), np.array([5, 7, 1, 5]), 4)
    assert truth.offsets.tolist() == [0, 1, 1, 3, 3]
    assert truth.values.tolist() == [7, 1, 5]
    for queries, values in (([4], [0]), ([-1], [0]), ([0], [-1])):
        with pytest.raises(ValueError, match="out of range"):
            Truth.from_pairs(np.array(queries), np.array(values), 4)
    assert len(Truth.from_lists([])) == 0 and Truth.from_lists([[], []]).counts.tolist() == [0, 0]


def naive_average_precision(row, relevant, k):
    found, total = set(), 0.0
    for rank, image in enumerate(row[:k], start=1):
        if image in relevant and image not in found:
            found.add(image)
            total += len(found) / rank
    return total / min(len(relevant), k)


def naive_first_position(row, relevant, k):
    return next((rank for rank, image in enumerate(row[:k], start=1) if image in relevant), k + 1)


@st.composite
def retrieval_cases(draw):
    count, width = draw(st.integers(1, 6)), draw(st.integers(0, 8))
    images = st.integers(0, 9)
    rows = [draw(st.lists(images, max_size=width)) for _ in range(count)]
    relevant = [draw(st.sets(images, min_size=1, max_size=6)) for _ in range(count)]
    padded = np.array([row + [-1] * (width - len(row)) for row in rows], np.int32).reshape(count, width)
    return rows, relevant, padded, draw(st.integers(1, 10))


@settings(deadline=None, max_examples=200)
@given(retrieval_cases())
def test_retrieval_metrics_equal_loops_over_the_queries(case):
    rows, relevant, padded, k = case
    truth = Truth.from_lists(relevant)
    hits = find_hits(padded, truth)
    expected = np.mean([naive_average_precision(row, images, k) for row, images in zip(rows, relevant, strict=True)])
    assert mean_average_precision(hits, truth.counts, k) == pytest.approx(expected)
    positions = [naive_first_position(row, images, k) for row, images in zip(rows, relevant, strict=True)]
    assert first_positions(hits, k).tolist() == positions
    precisions = [
        np.mean([len(set(row[:n]) & images) / n for row, images in zip(rows, relevant, strict=True)])
        for n in range(1, k + 1)
    ]
    assert mean_precisions(hits, k) == pytest.approx(precisions)
    rates = [np.mean([any(line[:n]) for line in hits.tolist()]) for n in range(1, k + 1)]
    assert hit_rates(hits, k) == pytest.approx(rates)


def naive_gap(answers, solution, landmarks_only):
    correct = total = 0
    precisions = 0.0
    for name, (label, _) in sorted(answers.items(), key=lambda item: (-item[1][1], item[0])):
        if landmarks_only and not solution[name]:
            continue
        total += 1
        if label in solution[name]:
            correct += 1
            precisions += correct / total
    return precisions / sum(bool(labels) for labels in solution.values())


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.sampled_from("hgfedcba"), st.lists(st.integers(0, 3), max_size=2), min_size=1),
    st.dictionaries(
        st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 3), st.integers(-2, 2).map(lambda score: score / 4))
    ),
    st.booleans(),
)
def test_gap_equals_a_walk_down_the_sorted_predictions(solution, answers, landmarks_only):
    answers = {name: answer for name, answer in answers.items() if name in solution}
    if not any(solution.values()):
        return
    expected = naive_gap(answers, solution, landmarks_only)
    assert gap(answers, solution, landmarks_only=landmarks_only) == pytest.approx(expected)


def test_many_queries_are_looked_up_block_by_block(monkeypatch):
    rng = np.random.default_rng(1)
    rows = rng.integers(-1, 50, (100, 20)).astype(np.int32)
    truth = Truth.from_lists([rng.integers(0, 60, 5) for _ in range(100)])
    expected = find_hits(rows, truth)
    monkeypatch.setattr("pipeline.competition.metrics.BLOCK", 7)
    np.testing.assert_array_equal(find_hits(rows, truth), expected)
