"""The support of an answer, and the support that tells known landmarks from unknown ones."""

import numpy as np
import pytest

from pipeline.ranking.evidence import LabelledNeighbours
from pipeline.ranking.unknown import FEWEST, answer_support, calibrate_unknown


def near(similarities, labels):
    return LabelledNeighbours(np.float32(similarities), np.int64(labels))


def test_the_support_is_the_mean_cosine_of_the_votes_for_the_answer():
    lists = near(
        [[0.9, 0.6, 0.3, 0.2], [0.5, 0.4, 0.0, 0.0], [0.5, 0.4, 0.3, 0.2]], [[1, 2, 1, 1], [3, 3, -1, -1], [4] * 4]
    )
    assert answer_support(lists, np.int64([1, 3, -1]), 3) == pytest.approx([(0.9 + 0.3) / 3, (0.5 + 0.4) / 3, 0.0])


@pytest.mark.parametrize(("images", "k"), [(0, 0), (0, 5), (1, 1), (7, 3), (30, 9)])
def test_support_equals_that_of_one_answer_at_a_time(images, k):
    rng = np.random.default_rng(images)
    lists = near(rng.uniform(-1, 1, (images, k)), rng.integers(-1, 4, (images, k)))
    answers = rng.integers(-1, 4, images)
    for votes in (1, 3, k + 2):
        naive = [
            sum(float(s) for s, label in zip(*line, strict=True) if label == answer and answer >= 0) / votes
            for answer, *line in zip(answers, lists.similarities[:, :votes], lists.labels[:, :votes], strict=True)
        ]
        assert answer_support(lists, answers, votes) == pytest.approx(naive, abs=1e-6)


def test_right_answers_for_known_landmarks_are_separated_from_those_for_unknown_ones():
    """Own landmarks at 0.8, others at 0.4: any threshold between decides all rightly, and the middle is taken."""
    own = np.arange(20) % 4
    lists = near(np.tile([0.8, 0.8, 0.4, 0.4], (20, 1)), np.stack([own, own, own + 10, own + 10], axis=1))
    found = calibrate_unknown(lists, own, votes=2)
    assert found.min_support == pytest.approx(0.6)
    assert (found.photographs, found.known_kept, found.unknown_refused) == (20, 1.0, 1.0)


def test_the_threshold_is_the_best_of_all():
    rng = np.random.default_rng(4)
    own = rng.integers(0, 5, 200)
    labels = np.where(rng.random((200, 12)) < 0.5, own[:, None], rng.integers(0, 5, (200, 12)))
    similarities = np.sort(rng.normal(0.5, 0.1, (200, 12)) + 0.2 * (labels == own[:, None]), axis=1)[:, ::-1]
    found = calibrate_unknown(near(similarities, labels), own, votes=3)

    def decided(threshold):
        known, unknown = [], []
        for line, names, truth in zip(np.float32(similarities), labels, own, strict=True):
            for is_known in (True, False):
                votes = [(s, name) for s, name in zip(line, names, strict=True) if is_known or name != truth][:3]
                if not votes:
                    continue
                sums = {name: sum(float(s) for s, other in votes if other == name) for _, name in votes}
                best = min(sums, key=lambda name: (-round(sums[name], 6), name))
                if is_known and best == truth:
                    known.append(sums[best] / 3)
                if not is_known and len(votes) == 3:
                    unknown.append(sums[best] / 3)
        return np.mean(np.array(known) >= threshold), np.mean(np.array(unknown) < threshold)

    kept, refused = decided(found.min_support)
    assert (found.known_kept, found.unknown_refused) == pytest.approx((kept, refused), abs=0.01)
    assert kept + refused > max(sum(decided(other)) for other in np.linspace(0, 1, 101)) - 0.01


def test_too_few_photographs_give_no_threshold():
    assert calibrate_unknown(near(np.zeros((0, 3)), np.zeros((0, 3))), np.zeros(0, np.int64), 3).min_support is None
    few = FEWEST - 1
    lists = near(np.full((few, 4), 0.5), np.tile([1, 1, 2, 2], (few, 1)))
    assert calibrate_unknown(lists, np.ones(few, np.int64), 2).min_support is None
