"""Two images with lines between their matches: the right size, the right colours, the same every time."""

import base64

import cv2
import numpy as np
import pytest

from pipeline.report.matches import GAP_PX, MatchedImages, draw_matches, show_matches

NOTHING = np.zeros((0, 2), np.float32)


def grey(height, width):
    return np.full((height, width, 3), 100, np.uint8)


def row_of_points(count, y, width=400):
    return np.stack([np.linspace(20, width - 20, count), np.full(count, y)], axis=1).astype(np.float32)


def draw(first, second, points_first, points_second, inliers, *sizes):
    return draw_matches(MatchedImages(first, second, points_first, points_second, inliers), *sizes)


def colourful(image):
    """How far the channels of every pixel are apart, (h, w)."""
    return image.max(axis=2).astype(int) - image.min(axis=2)


@pytest.mark.parametrize(("first", "second"), [((300, 400), (600, 200)), ((90, 91), (90, 91)), ((360, 360), (1, 3))])
@pytest.mark.parametrize("height_px", [90, 361])
def test_both_images_have_the_height_and_keep_their_shape(first, second, height_px):
    image = draw(grey(*first), grey(*second), NOTHING, NOTHING, np.zeros(0, bool), height_px)
    widths = [width * height_px / height for height, width in (first, second)]
    assert image.shape[0] == height_px and image.shape[2] == 3 and image.dtype == np.uint8
    assert abs(image.shape[1] - sum(widths) - GAP_PX) <= 1
    assert not colourful(image).any()


def test_lines_end_at_the_points_scaled_to_each_image():
    first, second = grey(200, 300), grey(400, 300)  # shown at half and a quarter of their size
    image = draw(first, second, np.array([[99.5, 59.5]]), np.array([[239.5, 79.5]]), np.ones(1, bool), 100)
    colour = colourful(image)
    rows, columns = np.nonzero(colour > 40)
    start, end = (49.5, 29.5), (150 + GAP_PX + 59.5, 19.5)
    assert abs(columns.min() - start[0]) <= 5 and abs(columns.max() - end[0]) <= 5
    for x, y in (start, end):
        near = (np.abs(columns - x) <= 6) & (np.abs(rows - y) <= 6)
        # The dot is round about the point; the line that leaves it makes it lean a little.
        assert abs(columns[near].mean() - x) <= 1.5 and abs(rows[near].mean() - y) <= 1.5


def test_outliers_are_grey_and_few():
    first, points = grey(400, 400), row_of_points(100, 50)
    image = draw(first, first, points, row_of_points(100, 350), np.zeros(100, bool), 400, 12)
    assert not colourful(image).any()
    middle = image[:, 400 + GAP_PX // 2, 0]  # across the gap every line stands apart
    assert 1 <= count_runs(middle != 128) <= 3


def test_no_more_inliers_are_drawn_than_asked_and_the_extremes_are_among_them():
    first, points = grey(400, 400), np.stack([np.full(200, 200.0), np.linspace(5, 395, 200)], axis=1)
    image = draw(first, first, points, points, np.ones(200, bool), 400, 7)
    lines = colourful(image)[:, 400 + GAP_PX // 2] > 40
    assert count_runs(lines) == 7
    assert np.flatnonzero(lines).min() < 10 and np.flatnonzero(lines).max() > 390


def count_runs(marks):
    return int(marks[0]) + int((np.diff(marks.astype(int)) == 1).sum())


def test_hues_differ_along_the_image():
    first, points = grey(400, 400), np.stack([np.full(5, 200.0), np.linspace(40, 360, 5)], axis=1)
    image = draw(first, first, points, points, np.ones(5, bool), 400)
    column = image[:, 400 + GAP_PX // 2]
    colours = [column[max(0, round(y) - 2) : round(y) + 3] for y in points[:, 1]]
    strongest = [pixels[np.argmax(colourful(pixels[None])[0])].astype(int) for pixels in colours]
    apart = [np.abs(one - other).max() for at, one in enumerate(strongest) for other in strongest[:at]]
    assert min(apart) > 40


def test_the_drawing_is_the_same_every_time_and_leaves_the_images_unchanged():
    first, points = grey(100, 100), np.random.default_rng(0).uniform(-20, 120, (50, 2))
    inliers = np.arange(50) % 3 > 0
    one, other = (draw(first, first, points, points[::-1], inliers, 120, 10) for _ in range(2))
    assert np.array_equal(one, other)
    assert (first == 100).all()


def test_a_figure_holds_its_image_and_its_numbers():
    first, points = grey(100, 100), row_of_points(30, 50, 100)
    matched = MatchedImages(first, first, points, points, np.arange(30) < 20)
    figure = show_matches(matched, "<a> beside b", height_px=80, limit=10)
    assert figure.caption == "<a> beside b, 20 inliers of 30 matches, 10 drawn"
    kind, _, data = figure.source.partition(",")
    assert kind == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (80, 2 * 80 + GAP_PX, 3)
    assert "drawn" not in show_matches(matched, "", limit=20).caption
