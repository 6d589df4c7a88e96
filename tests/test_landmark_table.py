"""How each landmark fares, against a loop over the test images."""

import numpy as np
import pytest

from pipeline.competition.evaluation import Part
from pipeline.competition.metrics import Truth
from pipeline.report.landmark_table import COLUMNS, measure_landmarks, tabulate_landmarks


@pytest.mark.parametrize("images", [0, 1, 30])
def test_the_table_equals_a_loop_over_landmarks_and_images(images):
    rng = np.random.default_rng(images)
    shown = [rng.permutation(5)[: rng.integers(0, 3)].tolist() for _ in range(images)]
    queries = np.arange(images) - (rng.random(images) < 0.1) * (np.arange(images) + 1)  # some could not be read
    labels, precisions = rng.integers(-1, 5, images), rng.random(images)
    precisions[::4] = np.nan
    table = measure_landmarks(Part(queries, Truth.from_lists(shown)), labels, precisions)
    assert list(table.columns) == COLUMNS
    assert set(table["landmark"]) == {landmark for line in shown for landmark in line}
    for one in table.to_dict("records"):
        own = [row for row, line in zip(queries.tolist(), shown, strict=True) if one["landmark"] in line]
        given = [int(labels[row]) if row >= 0 else -1 for row in own]
        wrong = [label for label in given if label != one["landmark"]]
        scored = [precisions[row] for row in own if row >= 0 and np.isfinite(precisions[row])]
        assert one["test_images"] == len(own)
        assert one["recognised"] == pytest.approx(1 - len(wrong) / len(own))
        assert one["map_at_100"] == pytest.approx(np.mean(scored) if scored else np.nan, nan_ok=True)
        most = max((wrong.count(label) for label in wrong), default=0)
        assert one["mistaken"] == most
        assert one["mistaken_for"] == min((label for label in wrong if wrong.count(label) == most), default=-1)
    order = table["map_at_100"].dropna().tolist()
    assert order == sorted(order)


def test_without_scores_of_retrieval_the_recognised_share_orders_and_names_are_shown():
    part = Part(np.arange(3), Truth.from_lists([[7], [7], [8]]))
    table = measure_landmarks(part, np.array([7, 8, -1]), None)
    assert table["landmark"].tolist() == [8, 7] and table["map_at_100"].isna().all()
    rows = tabulate_landmarks(table, {7: "Abbey", 8: "Bridge"}).rows
    assert rows == [["Bridge", "1", "", "0.00", "no landmark (1)"], ["Abbey", "2", "", "0.50", "Bridge (1)"]]
