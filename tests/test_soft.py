"""Soft re-ranking against its formula over all pairs, by hand, and on landmarks seen from two sides."""

import numpy as np
import pytest
from planted import mean_ap

from pipeline.matching.knn import search_exact
from pipeline.ranking import candidates
from pipeline.ranking.evidence import DescriptorPair, LandmarkVotes
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.soft import SoftSettings, soft_step
from pipeline.ranking.voting import Votes


def votes(labels, confidences):
    return Votes(np.array(labels, np.int64), np.array(confidences, np.float32))


def soft(ranking, queries, index, query_votes, index_votes, top_k=100, **settings):
    pair, evidence = DescriptorPair(queries, index), LandmarkVotes(query_votes, index_votes)
    return soft_step(ranking, pair, evidence, SoftSettings(**settings), top_k)


def naive_soft(query, listed, queries, index, query_votes, index_votes, bonus, penalty, top_k):
    """(row, similarity) of one list: the formula for every image that is listed or of the query's landmark."""
    label, scored = query_votes.labels[query], []
    for row in range(len(index)):
        same = label != -1 and index_votes.labels[row] == label
        if row in listed or same:
            product = float(queries[query].astype(np.float64) @ index[row].astype(np.float64))
            similarity = listed.get(row, float(np.float32(round(product, 6))))
            score, sure = similarity, float(index_votes.confidences[row])
            if label != -1 and index_votes.labels[row] != -1:
                score += bonus * sure if same else -penalty * sure
            scored.append((-round(score, 6), row, similarity))
    return [(row, similarity) for _, row, similarity in sorted(scored)][:top_k]


def draw(rng, images, count, listed):
    """Vectors on a coarse grid (ties, duplicates), some without a label, some lists short."""
    index = rng.integers(-1, 2, (images, 2)).astype(np.float32) / 2
    queries = rng.integers(-1, 2, (count, 2)).astype(np.float32) / 2
    index_votes = votes(rng.integers(-1, 4, images), rng.integers(-3, 11, images) / 10)
    query_votes = votes(rng.integers(-1, 6, count), rng.random(count))
    found = search_exact(queries, index, listed)
    rows, scores = found.rows.copy(), found.similarities.copy()
    gone = np.arange(listed) >= rng.integers(0, listed + 1, count)[:, None]
    rows[gone], scores[gone] = -1, 0
    return Ranking(rows, scores, images), queries, index, query_votes, index_votes


@pytest.mark.parametrize("images", [0, 1, 25])
@pytest.mark.parametrize("count", [0, 1, 6])
@pytest.mark.parametrize("listed", [1, 4, 25])
@pytest.mark.parametrize("top_k", [1, 5, 40])
def test_the_lists_equal_the_formula_for_every_image(images, count, listed, top_k):
    for seed in range(6):
        ranking, queries, index, query_votes, index_votes = draw(np.random.default_rng(seed), images, count, listed)
        bonus, penalty = [(1.0, 0.1), (0.5, 1.0), (0.0, 0.0)][seed % 3]
        strength = {"bonus": bonus, "penalty": penalty, "top_k": top_k}
        after = soft(ranking, queries, index, query_votes, index_votes, **strength)
        assert after.rows.shape == (count, top_k) and after.count == images
        for query in range(count):
            pairs = zip(ranking.rows[query].tolist(), ranking.scores[query].tolist(), strict=True)
            own = {row: score for row, score in pairs if row >= 0}
            expected = naive_soft(query, own, queries, index, query_votes, index_votes, **strength)
            expected += [(-1, 0.0)] * (top_k - len(expected))
            assert list(zip(after.rows[query].tolist(), after.scores[query].tolist(), strict=True)) == expected


# One dimension, so that the cosine with the query 1.0 is the image itself.
INDEX = np.float32([[0.9], [0.8], [0.7], [0.2], [0.85], [0.1]])
INDEX_VOTES = votes([8, 7, 8, 7, -1, 7], [0.9, 0.3, 0.1, 0.9, 0.0, 0.4])
LISTED = Ranking(np.int32([[0, 4, 1, 2]]), np.float32([[0.9, 0.85, 0.8, 0.7]]), 6)


def ask(label, **settings):
    query = votes([label], [0.5])
    return soft(LISTED, np.float32([[1.0]]), INDEX, query, INDEX_VOTES, **settings)


def test_the_formula_by_hand():
    # 0: .9 - .09 = .81   1: .8 + .3 = 1.1   2: .7 - .01 = .69   3: .2 + .9 = 1.1   4: .85   5: .1 + .4 = .5
    after = ask(7, top_k=6)
    assert after.rows.tolist() == [[1, 3, 4, 0, 2, 5]]  # 1 and 3 tie
    assert after.scores[0] == pytest.approx([0.8, 0.2, 0.85, 0.9, 0.7, 0.1])  # 3 and 5 were not listed
    assert ask(7, top_k=2).rows.tolist() == [[1, 3]]


def test_a_query_without_a_label_keeps_its_list_and_an_unknown_label_only_lowers():
    assert ask(-1, top_k=5).rows.tolist() == [[0, 4, 1, 2, -1]]
    assert ask(99, top_k=5, penalty=1.0).rows.tolist() == [[4, 2, 1, 0, -1]]  # .85, .6, .5, 0


def test_without_bonus_and_penalty_the_landmark_still_adds_its_images():
    assert ask(7, bonus=0.0, penalty=0.0, top_k=6).rows.tolist() == [[0, 4, 1, 2, 3, 5]]


def test_evidence_for_other_images_is_refused():
    one = votes([7], [0.5])
    with pytest.raises(ValueError, match="2 queries"):
        soft(LISTED, np.float32([[1.0]] * 2), INDEX, one, INDEX_VOTES)
    with pytest.raises(ValueError, match="2 queries"):
        soft(LISTED, np.float32([[1.0]]), INDEX, votes([7, 7], [0, 0]), INDEX_VOTES)
    with pytest.raises(ValueError, match="5 index images"):
        soft(LISTED, np.float32([[1.0]]), INDEX[:5], one, INDEX_VOTES)
    uncounted = Ranking(LISTED.rows, LISTED.scores)
    with pytest.raises(ValueError, match="votes of 6"):
        soft(uncounted, np.float32([[1.0]]), INDEX[:5], one, INDEX_VOTES)


def test_answers_do_not_depend_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    index = rng.normal(size=(300, 8)).astype(np.float32)
    index_votes = votes(rng.integers(-1, 9, 300), rng.random(300).round(1))
    queries, query_votes = index[:40] + np.float32(0.1), votes(rng.integers(-1, 9, 40), rng.random(40))
    found = search_exact(queries, index, 20)
    ranking = Ranking(found.rows, found.similarities, 300)
    whole = soft(ranking, queries, index, query_votes, index_votes, top_k=60)
    for pairs, block_rows in ((1, 7), (100, 64), (1000, 1)):
        monkeypatch.setattr(candidates, "BLOCK_PAIRS", pairs)
        monkeypatch.setattr(candidates, "BLOCK_ROWS", block_rows)
        cut = soft(ranking, queries, index, query_votes, index_votes, top_k=60)
        np.testing.assert_array_equal(cut.rows, whole.rows)
        np.testing.assert_array_equal(cut.scores, whole.scores)


def test_added_images_have_the_similarity_that_the_search_would_give_them():
    rng = np.random.default_rng(2)
    index = rng.normal(size=(50, 16)).astype(np.float32)
    queries = rng.normal(size=(5, 16)).astype(np.float32)
    everything = search_exact(queries, index, 50)
    ranking = Ranking(everything.rows[:, :3].copy(), everything.similarities[:, :3].copy(), 50)
    after = soft(ranking, queries, index, votes([1] * 5, [1] * 5), votes([1] * 50, [0.5] * 50), top_k=50)
    np.testing.assert_array_equal(after.rows, everything.rows)  # all gain the same
    np.testing.assert_array_equal(after.scores, everything.similarities)


def test_the_other_side_of_a_landmark_comes_in_by_its_label():
    rng = np.random.default_rng(0)
    landmarks = np.repeat(np.arange(20), 16)
    sides = rng.normal(size=(20, 2, 32))  # front and back of a landmark share nothing
    index = sides[landmarks, np.arange(320) % 2] + rng.normal(0, 0.9, (320, 32))
    queries = sides[:, 0] + rng.normal(0, 0.9, (20, 32))
    index, queries = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (index, queries))
    wrong = rng.random(320) < 0.15  # votes that err are less sure
    index_votes = votes(np.where(wrong, rng.integers(0, 20, 320), landmarks), np.where(wrong, 0.3, 0.7))
    found = search_exact(queries, index, 20)
    before = Ranking(found.rows, found.similarities, 320)
    query_votes = votes(np.arange(20), [0.7] * 20)
    after = soft(before, queries, index, query_votes, index_votes, top_k=20)
    truth = np.arange(20)
    assert mean_ap(before.rows, truth, landmarks) < 0.65
    assert mean_ap(after.rows, truth, landmarks) > mean_ap(before.rows, truth, landmarks) + 0.2
