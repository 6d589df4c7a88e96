"""What the tests of the re-ranking steps share: small graphs, landmarks whose truth is known, and mAP."""

import numpy as np

from pipeline.matching.knn import search_exact
from pipeline.matching.neighbours import Neighbours
from pipeline.ranking.ranking import Ranking


def graph(*lists):
    """Neighbours from one {row: similarity} for each image."""
    width = max((len(near) for near in lists), default=0)
    rows = np.full((len(lists), width), -1, np.int32)
    similarities = np.zeros(rows.shape, np.float32)
    for image, near in enumerate(lists):
        rows[image, : len(near)] = list(near)
        similarities[image, : len(near)] = list(near.values())
    return Neighbours(rows, similarities)


def ranking_of(queries, index, top_k):
    """The nearest index images of each query, by exact search."""
    near = search_exact(queries, index, top_k)
    return Ranking(near.rows, near.similarities, len(index))


def one_list(rows, scores, count=None):
    return Ranking(np.int32([rows]), np.float32([scores]), count)


def unit_vectors(rng, count, width):
    vectors = rng.standard_normal((count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw_vectors(rng, count, width):
    """Unit vectors of which a third repeat another one: ties of every kind."""
    vectors = unit_vectors(rng, count, width)
    return vectors[np.where(rng.random(count) < 0.33, rng.integers(0, count, count), np.arange(count))]


def draw_ranking(rng, queries, images, length):
    """Lists of `length` places over the images, each row once, some places at the end empty."""
    rows = np.full((queries, length), -1, np.int32)
    for query in range(queries):
        listed = rng.permutation(images)[: rng.integers(0, length + 1)]
        rows[query, : len(listed)] = listed
    scores = np.where(rows >= 0, 1 - rows / 100, 0).astype(np.float32)  # told by the row
    return Ranking(rows, scores, images)


def planted_landmarks(seed, landmarks=20, views=20, width=64, noise=1.55):
    """(queries, index, landmark of each query, landmark of each image): views scattered around a centre."""
    rng = np.random.default_rng(seed)
    centres = unit_vectors(rng, landmarks, width)

    def scatter(count):
        vectors = np.repeat(centres, count, axis=0) + noise * unit_vectors(rng, landmarks * count, width)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return scatter(3), scatter(views), np.repeat(np.arange(landmarks), 3), np.repeat(np.arange(landmarks), views)


def draw_chains(rng, chains=12, views=24, noise=0.02, dimensions=24):
    """Landmarks seen from all around: each a chain of views, half a circle long; its ends share nothing."""
    index = []
    for _ in range(chains):
        first, last = np.linalg.qr(rng.normal(size=(dimensions, 2)))[0].T
        angles = np.linspace(0, np.pi, views)[:, None]
        index.append(np.cos(angles) * first + np.sin(angles) * last)
    index = np.concatenate(index) + rng.normal(0, noise, (chains * views, dimensions))
    index /= np.linalg.norm(index, axis=1, keepdims=True)
    return index.astype(np.float32), np.repeat(np.arange(chains), views)


def mean_ap(rows, truth_of_query, landmarks):
    """mAP at the length of the lists, by its definition."""
    precisions = []
    for ranked, landmark in zip(rows.tolist(), truth_of_query, strict=True):
        hits = [row >= 0 and landmarks[row] == landmark for row in ranked]
        found = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
        precisions.append(sum(found) / min(len(hits), int((landmarks == landmark).sum())))
    return np.mean(precisions)
