"""Trapezoid AP and mean precision at k: worked examples, and one query at a time in plain Python over random lists."""

import math

import numpy as np
import pytest

from pipeline.competition.benchmark_metrics import precisions_at, score_lists, trapezoid_average_precisions
from pipeline.competition.junk import BLOCK_VALUES, Judgements, mark_junk, remove_junk
from pipeline.competition.metrics import Truth


def naive_scores(order: list[int], positives: set[int], junk: set[int]) -> dict[str, float]:
    """AP and P@k of one query that has positives, image by image."""
    kept = [image for image in order if image >= 0 and image not in junk]
    area, found, ranks = 0.0, 0, []
    for rank, image in enumerate(kept):
        if image in positives:
            left = 1.0 if rank == 0 else found / rank
            found += 1
            area += (left + found / (rank + 1)) / 2
            ranks.append(rank + 1)
    scores = {"map": area / len(positives)}
    for k in (1, 5, 10):
        at = min(max(ranks), k) if len(ranks) == len(positives) else k
        scores[f"mp_at_{k}"] = sum(rank <= at for rank in ranks) / at
    return scores


def naive_means(rows: np.ndarray, positives: list[set[int]], junk: list[set[int]]) -> dict[str, float]:
    each = [naive_scores(row, p, j) for row, p, j in zip(rows.tolist(), positives, junk, strict=True) if p]
    return {name: math.fsum(one[name] for one in each) / len(each) for name in each[0]}


def draw(rng: np.random.Generator, queries: int, images: int, length: int):
    """Lists of `length` of `images`, padded with -1 where there are fewer, with random positives and junk."""
    rows = np.full((queries, length), -1, np.int32)
    positives, junk = [], []
    for row in rows:
        order = rng.permutation(images)[:length]
        row[: len(order)] = order
        kinds = rng.choice(3, images, p=rng.dirichlet([1, 1, 2]))
        positives.append(set(np.flatnonzero(kinds == 0).tolist()))
        junk.append(set(np.flatnonzero(kinds == 1).tolist()))
    return rows, positives, junk


@pytest.mark.parametrize("seed", range(40))
def test_the_fast_scores_equal_those_of_plain_python(seed):
    rng = np.random.default_rng(seed)
    images = int(rng.choice([1, 2, 7, 60]))
    rows, positives, junk = draw(rng, int(rng.integers(1, 9)), images, int(rng.integers(0, 70)))
    if not any(positives):
        positives[0] = {0}
        junk[0] -= {0}
    judged = Judgements(Truth.from_lists([*map(sorted, positives)]), Truth.from_lists([*map(sorted, junk)]))
    expected, found = naive_means(rows, positives, junk), score_lists(rows, judged)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["queries"] == sum(map(bool, positives))
    listed = sum(len(p & set(row)) for p, row in zip(positives, rows.tolist(), strict=True))
    assert found["unlisted"] == sum(map(len, positives)) - listed


def test_the_worked_example_of_the_published_protocol():
    rows = np.arange(8, dtype=np.int32)[None]
    positives = Truth.from_lists([[0, 2, 5]])
    assert trapezoid_average_precisions(rows, positives)[0] == pytest.approx((1 + 0.583333333 + 0.45) / 3, abs=1e-9)
    assert trapezoid_average_precisions(rows, positives)[0] == pytest.approx(0.677778, abs=1e-6)
    # The last positive is at rank 6: there, not at 10, its precision is judged.
    assert [precisions_at(rows, positives, k)[0] for k in (1, 5, 10)] == [1.0, 2 / 5, 3 / 6]


def test_junk_counts_neither_as_a_hit_nor_as_a_miss():
    rows = np.array([[9, 0, 8, 1, 2, 7, 3, 4, 5]], np.int32)  # junk 9, 8, 7 in between: the worked example again
    judged = Judgements(Truth.from_lists([[0, 2, 5]]), Truth.from_lists([[7, 8, 9]]))
    assert remove_junk(rows, judged.junk).tolist() == [[0, 1, 2, 3, 4, 5, -1, -1, -1]]
    assert score_lists(rows, judged)["map"] == pytest.approx(0.677778, abs=1e-6)


def test_a_query_without_positives_is_left_out_of_the_mean_and_all_without_are_an_error():
    rows = np.array([[0, 1], [1, 0]], np.int32)
    judged = Judgements(Truth.from_lists([[0], []]), Truth.from_lists([[], [0]]))
    assert score_lists(rows, judged) == {
        "map": 1.0, "mp_at_1": 1.0, "mp_at_5": 1.0, "mp_at_10": 1.0, "queries": 1, "unlisted": 0,
    }  # fmt: skip
    assert np.isnan(trapezoid_average_precisions(rows, judged.positives)[1])
    assert np.isnan(precisions_at(rows, judged.positives, 3)[1])
    with pytest.raises(ValueError, match="no query has a positive"):
        score_lists(rows, Judgements(Truth.from_lists([[], []]), judged.junk))


def test_a_query_after_the_last_list_has_found_nothing():
    judged = Judgements(Truth.from_lists([[0], [1]]), Truth.from_lists([[], []]))
    assert score_lists(np.array([[0, 1]], np.int32), judged)["map"] == 0.5


def test_junk_of_fewer_queries_than_lists_is_refused():
    with pytest.raises(ValueError, match="junk of 1 queries for 2 lists"):
        mark_junk(np.zeros((2, 1), np.int32), Truth.from_lists([[0]]))


def test_long_lists_are_marked_block_by_block():
    length = BLOCK_VALUES // 2 + 1
    rows = np.tile(np.arange(length, dtype=np.int32), (2, 1))
    marked = mark_junk(rows, Truth.from_lists([[3], [0, length - 1]]))
    assert [np.flatnonzero(row).tolist() for row in marked] == [[3], [0, length - 1]]
