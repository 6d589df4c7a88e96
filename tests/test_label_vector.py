"""Label vectors against sums and products over dictionaries, by hand, and on images between two landmarks."""

import numpy as np
import pytest
from planted import mean_ap

from pipeline.matching.knn import search_exact
from pipeline.ranking import candidates
from pipeline.ranking.evidence import DescriptorPair
from pipeline.ranking.label_vector import LabelVectors, label_score_step, label_vector_step, label_vectors
from pipeline.ranking.ranking import Ranking
from pipeline.ranking.voting import neighbour_labels

LANDMARKS = np.array([3, 7, 112, 203_093])


def make(similarities, labels, landmarks=LANDMARKS):
    return label_vectors(np.float32(similarities), np.array(labels, np.int64), landmarks)


def naive_vector(similarities, labels):
    sums = {}
    for similarity, label in zip(similarities.tolist(), labels.tolist(), strict=True):
        if label != -1 and similarity > 0:
            sums[label] = sums.get(label, 0.0) + similarity
    return sums


def naive_list(query, listed, index, top_k):
    """(row, score) of one list."""
    products = {row: round(sum(query[c] * near.get(c, 0.0) for c in query), 6) for row, near in enumerate(index)}
    agreeing = sorted((-product, row) for row, product in products.items() if product > 0)
    ranked = [row for _, row in agreeing] + [row for row in listed if products[row] <= 0]
    return [(row, listed.get(row, float(np.float32(products[row])))) for row in ranked][:top_k]


def test_similarities_add_up_by_landmark():
    vectors = make([[0.5, 0.25, 0.5], [0.9, 0.1, 0.0]], [[112, 7, 112], [-1, 203_093, -1]])
    assert vectors.toarray() == pytest.approx(np.array([[0, 0.25, 1.0, 0], [0, 0, 0, 0.1]]))


def test_negative_similarities_do_not_count():
    assert make([[-0.5, 0.25]], [[3, 3]]).toarray() == pytest.approx(np.array([[0.25, 0, 0, 0]]))


def test_labels_that_are_no_landmark_and_landmarks_out_of_order_are_refused():
    with pytest.raises(ValueError, match="label 12 is not among the 4"):
        make([[0.5, 0.5]], [[112, 12]])
    for landmarks in ([7, 3], [3, 3, 7]):
        with pytest.raises(ValueError, match="ascending"):
            make([[0.5]], [[3]], np.array(landmarks))
    with pytest.raises(ValueError, match="one shape"):
        make([[0.5]], [[3, 7]])


def test_images_that_agree_come_first_and_the_rest_of_the_list_follows():
    # The query shows 7 (1.0) and a little 112 (0.2). Products: 0 none, 1: 0.5, 2: 0.2 * 0.5, 3: 0.5, 4 none, 5 none
    query = make([[0.6, 0.4, 0.2]], [[7, 7, 112]])
    index = make([[0.9], [0.5], [0.5], [0.5], [0.0], [0.9]], [[3], [7], [112], [7], [-1], [203_093]])
    ranking = Ranking(np.int32([[5, 3, 4, 2]]), np.float32([[0.9, 0.8, 0.7, 0.6]]), 6)
    after = label_vector_step(ranking, LabelVectors(query, index), top_k=6)
    assert after.rows.tolist() == [[1, 3, 2, 5, 4, -1]]
    assert after.scores[0] == pytest.approx([0.5, 0.8, 0.6, 0.9, 0.7, 0])  # 1 was not listed: its product
    assert label_vector_step(ranking, LabelVectors(query, index), top_k=2).rows.tolist() == [[1, 3]]


def test_a_query_without_labels_keeps_its_list():
    ranking = Ranking(np.int32([[1, 0, -1]]), np.float32([[0.9, 0.8, 0]]), 2)
    index = make([[0.9], [0.5]], [[3], [7]])
    assert label_vector_step(ranking, LabelVectors(make([[0.9]], [[-1]]), index), top_k=4).rows.tolist() == [
        [1, 0, -1, -1]
    ]


def test_vectors_of_others_are_refused():
    ranking = Ranking(np.int32([[1, 0]]), np.float32([[0.9, 0.8]]), 2)
    one, two = make([[0.9]], [[3]]), make([[0.9]] * 2, [[3]] * 2)
    with pytest.raises(ValueError, match="2 queries"):
        label_vector_step(ranking, LabelVectors(two, two))
    with pytest.raises(ValueError, match="1 index images"):
        label_vector_step(ranking, LabelVectors(one, one))
    with pytest.raises(ValueError, match="of 4 and of 1 landmarks"):
        label_vector_step(ranking, LabelVectors(one, make([[0.9]] * 2, [[3]] * 2, np.array([3]))))


def draw(rng, images, count, k, listed):
    """Neighbours with few different similarities and labels (ties, empty vectors), and lists of different lengths."""
    tables = []
    for size in (count, images):
        labels = rng.choice([-1, *LANDMARKS], (size, k))
        tables.append((rng.integers(-2, 6, (size, k)).astype(np.float32) / 4, labels))
    rows = np.full((count, listed), -1, np.int32)
    for query in range(count):
        near = rng.permutation(images)[: rng.integers(0, listed + 1)]
        rows[query, : len(near)] = near
    scores = np.where(rows >= 0, rng.random(rows.shape), 0).astype(np.float32)
    return tables, Ranking(rows, scores, images)


@pytest.mark.parametrize("images", [0, 1, 20])
@pytest.mark.parametrize("count", [0, 1, 6])
@pytest.mark.parametrize(("k", "listed"), [(0, 3), (1, 0), (5, 20)])
@pytest.mark.parametrize("top_k", [1, 7, 30])
def test_the_lists_equal_products_of_dictionaries(images, count, k, listed, top_k):
    for seed in range(6):
        (asked, known), ranking = draw(np.random.default_rng(seed), images, count, k, listed)
        after = label_vector_step(ranking, LabelVectors(make(*asked), make(*known)), top_k=top_k)
        assert after.rows.shape == (count, top_k) and after.count == images
        index = [naive_vector(*image) for image in zip(*known, strict=True)]
        for query in range(count):
            pairs = zip(ranking.rows[query].tolist(), ranking.scores[query].tolist(), strict=True)
            own = {row: score for row, score in pairs if row >= 0}
            vector = naive_vector(asked[0][query], asked[1][query])
            expected = naive_list(vector, own, index, top_k)
            expected += [(-1, 0.0)] * (top_k - len(expected))
            assert list(zip(after.rows[query].tolist(), after.scores[query].tolist(), strict=True)) == expected


def test_answers_do_not_depend_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    (asked, known), ranking = draw(rng, 200, 40, 5, 20)
    whole = label_vector_step(ranking, LabelVectors(make(*asked), make(*known)), top_k=50)
    for pairs in (1, 300, 5000):
        monkeypatch.setattr(candidates, "BLOCK_PAIRS", pairs)
        cut = label_vector_step(ranking, LabelVectors(make(*asked), make(*known)), top_k=50)
        np.testing.assert_array_equal(cut.rows, whole.rows)
        np.testing.assert_array_equal(cut.scores, whole.scores)


def test_blocks_of_queries_hold_no_more_than_allowed_or_one_query(monkeypatch):
    monkeypatch.setattr(candidates, "BLOCK_PAIRS", 10)
    blocks = list(candidates.query_blocks(np.array([4, 6, 1, 30, 0, 0, 9, 2])))
    assert [(at.start, at.stop) for at in blocks] == [(0, 2), (2, 3), (3, 4), (4, 7), (7, 8)]
    assert list(candidates.query_blocks(np.array([], np.int64))) == []


def test_the_other_side_of_a_landmark_comes_in_by_the_training_photographs_of_both():
    rng = np.random.default_rng(0)
    sides = rng.normal(size=(20, 2, 32))  # front and back of a landmark share nothing

    def photograph(landmarks, side):
        vectors = sides[landmarks, side] + rng.normal(0, 0.9, (len(landmarks), 32))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    landmarks = np.repeat(np.arange(20), 16)
    train, index = photograph(landmarks, np.arange(320) % 2), photograph(landmarks, np.arange(320) % 2)
    queries = photograph(np.arange(20), np.zeros(20, np.int64))
    vectors = []
    for images in (queries, index):
        near = search_exact(images, train, 5)
        vectors.append(label_vectors(near.similarities, neighbour_labels(near.rows, landmarks), np.arange(20)))
    found = search_exact(queries, index, 20)
    before = Ranking(found.rows, found.similarities, 320)
    after = label_vector_step(before, LabelVectors(*vectors), top_k=20)
    truth = np.arange(20)
    assert mean_ap(before.rows, truth, landmarks) < 0.65
    assert mean_ap(after.rows, truth, landmarks) > mean_ap(before.rows, truth, landmarks) + 0.2


def naive_scores(query, near, listed, queries, index, known, alpha, top_k):
    """(row, similarity) of one list: the formula for every image that is listed or has a label in common."""
    scored = []
    for row, vector in enumerate(known):
        product = max(round(sum(near[c] * vector.get(c, 0.0) for c in near), 6), 0.0)
        if row in listed or product > 0:
            cosine = float(queries[query].astype(np.float64) @ index[row].astype(np.float64))
            similarity = listed.get(row, float(np.float32(round(cosine, 6))))
            scored.append((-round(similarity + alpha * product, 6), row, similarity))
    return [(row, similarity) for _, row, similarity in sorted(scored)][:top_k]


@pytest.mark.parametrize("images", [0, 1, 20])
@pytest.mark.parametrize("count", [0, 1, 6])
@pytest.mark.parametrize(("k", "listed"), [(0, 3), (1, 1), (5, 20)])
@pytest.mark.parametrize("top_k", [1, 7, 30])
def test_label_scores_equal_the_formula_for_every_image(images, count, k, listed, top_k, monkeypatch):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(candidates, "BLOCK_PAIRS", [1, 1 << 20][seed % 2])
        (asked, known), _ = draw(rng, images, count, k, listed)
        queries, index = (rng.integers(-1, 2, (size, 2)).astype(np.float32) / 2 for size in (count, images))
        found = search_exact(queries, index, listed)
        ranking, alpha = Ranking(found.rows, found.similarities, images), [0.0, 1.0, 3.0][seed % 3]
        pair, vectors = DescriptorPair(queries, index), LabelVectors(make(*asked), make(*known))
        after = label_score_step(ranking, pair, vectors, alpha=alpha, top_k=top_k)
        assert after.rows.shape == (count, top_k)
        vectors = [naive_vector(*image) for image in zip(*known, strict=True)]
        for query in range(count):
            pairs = zip(ranking.rows[query].tolist(), ranking.scores[query].tolist(), strict=True)
            own = {row: score for row, score in pairs if row >= 0}
            near = naive_vector(asked[0][query], asked[1][query])
            expected = naive_scores(query, near, own, queries, index, vectors, alpha, top_k)
            assert [(row, score) for row, score in zip(*after_list(after, query), strict=True)] == expected


def after_list(ranking, query):
    """Rows and scores of one list without its empty places."""
    there = ranking.rows[query] >= 0
    return ranking.rows[query][there].tolist(), ranking.scores[query][there].tolist()


def test_similarity_and_agreement_trade_against_each_other():
    queries, index = np.float32([[1, 0]]), np.float32([[0.9, 0], [0.5, 0], [0.1, 0]])
    ranking = Ranking(np.int32([[0, 1]]), np.float32([[0.9, 0.5]]), 3)
    query, near = make([[0.8]], [[7]]), make([[0.5], [0.5], [0.5]], [[3], [7], [7]])  # products 0, 0.4, 0.4
    listed = {
        alpha: label_score_step(ranking, DescriptorPair(queries, index), LabelVectors(query, near), alpha=alpha)
        .rows[0, :3]
        .tolist()
        for alpha in (0.0, 1.5, 3.0)
    }
    assert listed == {0.0: [0, 1, 2], 1.5: [1, 0, 2], 3.0: [1, 2, 0]}
