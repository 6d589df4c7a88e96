"""SuperGlobal re-ranking: by hand, against one candidate at a time, and on planted landmarks."""

import numpy as np
import pytest
from planted import draw_ranking, draw_vectors, mean_ap, planted_landmarks, ranking_of, unit_vectors

from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.superglobal import SuperGlobalSettings, refine_candidates, superglobal_scores, superglobal_step


def rerank(ranking, queries, index, **settings):
    return superglobal_step(ranking, DescriptorPair(queries, index), SuperGlobalSettings.model_construct(**settings))


def naive_scores(query, candidates, neighbours, beta):
    """The four steps of the method, one candidate at a time, in float64."""
    query, candidates = query.astype(np.float64), candidates.astype(np.float64)
    refined = []
    for one, own in enumerate(candidates):
        others = [(-round(float(own @ other), 6), place) for place, other in enumerate(candidates) if place != one]
        pairs = [(max(-value, 0.0) * beta, place) for value, place in sorted(others)[:neighbours]]
        total = own + sum((weight * candidates[place] for weight, place in pairs), np.zeros(len(own)))
        refined.append(total / (1 + sum(weight for weight, _ in pairs)))
    similarities = [float(query @ vector) for vector in refined]
    best = sorted(range(len(refined)), key=lambda place: (-round(similarities[place], 6), place))[: neighbours + 1]
    expanded = [max(refined[place][d] for place in best) for d in range(len(query))]
    return [round((s + float(np.dot(expanded, x))) / 2, 6) for s, x in zip(similarities, refined, strict=True)]


@pytest.mark.parametrize("queries", [0, 1, 4])
@pytest.mark.parametrize("neighbours", [0, 1, 3, 30])
def test_the_step_equals_one_candidate_at_a_time(queries, neighbours):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        count, width = int(rng.integers(1, 20)), int(rng.integers(1, 9))
        index, vectors = draw_vectors(rng, count, width), draw_vectors(rng, max(1, queries), width)[:queries]
        ranking = draw_ranking(rng, queries, count, int(rng.integers(0, count + 1)))
        first, beta = int(rng.choice([0, 1, 5, count, 100])), float(rng.choice([0, 0.15, 1]))
        after = rerank(ranking, vectors, index, first=first, neighbours=neighbours, beta=beta)
        for query in range(queries):
            listed = [row for row in ranking.rows[query].tolist() if row >= 0]
            head = sorted(listed[:first])
            scores = (
                dict(zip(head, naive_scores(vectors[query], index[head], neighbours, beta), strict=True))
                if head
                else {}
            )
            expected = sorted(head, key=lambda row, scores=scores: (-scores[row], row)) + listed[first:]
            assert [row for row in after.rows[query].tolist() if row >= 0] == expected
            found = superglobal_scores(vectors[query], index[head], neighbours, beta)
            np.testing.assert_allclose(found, list(scores.values()), atol=1.01e-6)


def test_three_candidates_by_hand():
    query, index = np.float32([1, 0]), np.float32([[0.8, 0.6], [0.6, 0.8], [0.8, -0.6]])
    # Cosines 0.96, 0.28 and 0: the nearest of 0 is 1, of 1 it is 0, of 2 it is 0; weights 0.48, 0.48 and 0.14.
    refined = refine_candidates(index, neighbours=1, beta=0.5)
    assert refined[0] == pytest.approx([1.088 / 1.48, 0.984 / 1.48], abs=1e-6)
    assert refined[1] == pytest.approx([0.984 / 1.48, 1.088 / 1.48], abs=1e-6)
    assert refined[2] == pytest.approx([0.912 / 1.14, -0.516 / 1.14], abs=1e-6)
    # Similarities 0.735135, 0.664865, 0.8: candidates 2 and 0 give the maximum (0.8, 0.664865).
    expected = [(0.735135 + 1.030153) / 2, (0.664865 + 1.020657) / 2, (0.8 + 0.339061) / 2]
    assert superglobal_scores(query, index, neighbours=1, beta=0.5) == pytest.approx(expected, abs=2e-6)
    ranking = Ranking(np.int32([[0, 2, 1]]), np.float32([[0.8, 0.8, 0.6]]))
    after = rerank(ranking, query[None], index, neighbours=1, beta=0.5)
    assert after.rows.tolist() == [[0, 1, 2]]
    assert after.scores[0] == pytest.approx([0.8, 0.6, 0.8])  # each row's own, as before


def test_without_neighbours_or_weight_candidates_stay_as_they_are():
    index = unit_vectors(np.random.default_rng(1), 7, 5)
    for neighbours, beta in ((0, 0.15), (3, 0.0)):
        np.testing.assert_array_equal(refine_candidates(index, neighbours, beta), index)


def test_a_duplicate_is_a_neighbour_and_not_the_vector_itself():
    index = np.float32([[1, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(refine_candidates(index, 1, 0.5)[:2], [[1, 0], [1, 0]])
    assert refine_candidates(np.float32([[1, 0], [0, 1], [1, 0]]), 2, 0.5)[2].tolist() == [1, 0]


def test_opposite_candidates_have_no_weight():
    index = np.float32([[1, 0], [-1, 0]])
    assert refine_candidates(index, 1, 1.0).tolist() == [[1, 0], [-1, 0]]


def test_an_answer_depends_on_the_set_of_the_first_places_alone():
    rng = np.random.default_rng(2)
    index, queries = unit_vectors(rng, 80, 16), unit_vectors(rng, 6, 16)
    ranking = ranking_of(queries, index, 40)
    whole = rerank(ranking, queries, index, first=25)
    np.testing.assert_array_equal(whole.rows[:, 25:], ranking.rows[:, 25:])
    order = np.concatenate([rng.permutation(25), np.arange(25, 40)])
    mixed = Ranking(ranking.rows[:, order], ranking.scores[:, order])
    np.testing.assert_array_equal(rerank(mixed, queries, index, first=25).rows, whole.rows)
    for query in range(6):
        alone = rerank(
            Ranking(*(x[query : query + 1] for x in (ranking.rows, ranking.scores))),
            queries[query : query + 1],
            index,
            first=25,
        )
        np.testing.assert_array_equal(alone.rows[0], whole.rows[query])


def test_knobs_below_zero_are_refused():
    for neighbours, beta in ((-1, 0.15), (1, -0.1), (1, np.nan)):
        with pytest.raises(ValueError, match="neither may be below 0"):
            superglobal_scores(np.float32([1]), np.float32([[1]]), neighbours, beta)


def test_the_step_finds_more_of_planted_landmarks():
    for seed in range(3):
        queries, index, *labels = planted_landmarks(seed)
        before = ranking_of(queries, index, 240)
        after = rerank(before, queries, index)
        assert mean_ap(after.rows, *labels) > mean_ap(before.rows, *labels) + 0.03
