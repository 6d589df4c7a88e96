"""Local features: keypoints are where the image says, at every scale; the same bytes however they are asked for."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from photographs import write_photographs
from PIL import Image
from tasks import RecordedTask
from torch import nn

from pipeline.demo_world.view import render_image
from pipeline.errors import PipelineError
from pipeline.features.local_batches import LocalExtractor, LocalNetwork, extract_batch
from pipeline.features.local_features import (
    calibrate_attention,
    extract_local,
    read_threshold,
    write_local_features,
    write_threshold,
)
from pipeline.features.local_store import LocalFeatures, LocalStore
from pipeline.features.pyramid_cells import ImageRegion, ImageRegions, Kept, fit_size, locate_cells, select_cells
from pipeline.images.batch_loader import load_batches
from pipeline.images.batches import PlannedBatch
from pipeline.images.decode import read_header
from pipeline.images.split import Split
from pipeline.matching.geometry import fit_affine
from pipeline.matching.mutual import match_mutual
from pipeline.network.backbones.cells import CellGrid
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.settings import LocalSettings, ModelSettings, PhaseSettings

GRID = CellGrid(16, 0, 32)
CPU = torch.device("cpu")
SCALES = LocalSettings().scales
STRIDE_PX = 16
EVERYTHING = LocalSettings(precision="float32", max_side_px=2048, max_features=100_000, batch_size=2)
NO_THRESHOLD = -1.0  # attention is above 0


def build(backbone, weights="none", local=True, seed=1):
    model = ModelSettings(backbone=backbone, weights=weights, dims=16)
    return build_landmark_network(build_embedding(model, seed), PhaseSettings(), np.arange(3), 1, local=local)


@pytest.fixture(scope="module")
def lite():
    return LocalNetwork(build("efficientnet_lite0", "imagenet"))


@pytest.fixture(scope="module")
def resnet():
    return LocalNetwork(build("resnet18"))


@pytest.fixture(scope="module")
def facades():
    """By longest side: a castle with windows, battlements and a frieze, square, RGB."""
    return {side: render_image(3, 2, "front", 2, side) for side in (384, 1024)}


def facade_at(facades, scale):
    """The small scales need a large image, or there are few cells."""
    return facades[1024 if scale < 0.6 else 384]


def write(path, image):
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def regions_of(paths):
    return ImageRegions(paths, np.array([read_header(path) for path in paths]).reshape(-1, 2))


def extract(network, paths, settings=EVERYTHING, min_attention=NO_THRESHOLD, workers=0):
    return extract_local(LocalExtractor(network, settings, CPU), regions_of(paths), min_attention, workers)


def calibrate(network, paths, settings=EVERYTHING):
    return calibrate_attention(LocalExtractor(network, settings, CPU), regions_of(paths))


def settings_of(**changes):
    return LocalSettings.model_validate(EVERYTHING.model_dump() | changes)


def by_place(features):
    """Scale by scale, row by row."""
    x, y = features.points.T
    order = np.lexsort((x, y, features.scales))
    return LocalFeatures(*(values[order] for values in features))


def same_bytes(one, other):
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


# ---- Where keypoints are --------------------------------------------------------------------------------------------


def around_middle(linear, size):
    """The affine map (2, 3) that leaves the middle of a image of (width, height) where it is."""
    middle = (np.array(size) - 1) / 2
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


def turn(degrees):
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


LINEAR = {
    "shift": np.eye(2),
    "turn": turn(12),
    "smaller": 0.8 * np.eye(2),
    "larger": 1.25 * np.eye(2),
    "shear": np.array([[1.0, 0.2], [0.0, 1.0]]),
}


@pytest.mark.parametrize("scale", SCALES)
def test_matches_of_a_warped_photograph_agree_with_the_warp_within_2_cells(lite, facades, tmp_path, scale):
    """Chance would put 1 match in 20 within 2 cells at scale 0.25, and 1 in 180 at scale 2."""
    facade = facade_at(facades, scale)
    size, cell_px = facade.shape[1::-1], STRIDE_PX / scale
    maps = {name: around_middle(linear, size) for name, linear in LINEAR.items()}
    maps["shift"][:, 2] += np.array([0.11, -0.07]) * size
    warped = [cv2.warpAffine(facade, matrix, size, borderValue=(128, 128, 128)) for matrix in maps.values()]
    paths = [write(tmp_path / f"{at}.png", image) for at, image in enumerate([facade, *warped])]
    first, *others = extract(lite, paths, settings_of(scales=[scale]))
    assert len(first.points) == (round(size[0] / cell_px)) * (round(size[1] / cell_px)) >= 144
    corners = np.array([[0.15, 0.15], [0.85, 0.15], [0.15, 0.85], [0.85, 0.85]]) * size  # of what all of them show
    for (name, matrix), other in zip(maps.items(), others, strict=True):
        pairs = match_mutual(first.descriptors, other.descriptors, min_similarity=-1.0)
        x, y = first.points[pairs[:, 0]], other.points[pairs[:, 1]]
        assert len(pairs) >= 0.25 * len(first.points), name
        off = np.linalg.norm(cv2.transform(x[None], matrix)[0] - y, axis=1) / cell_px
        assert np.median(off) < 1 and np.mean(off <= 2) > 0.6, name
        fitted, inliers = fit_affine(x, y, inlier_threshold=cell_px)
        assert inliers.mean() > 0.5 and off[inliers].max() <= 2, name
        astray = np.linalg.norm(cv2.transform(corners[None], fitted - matrix)[0], axis=1) / cell_px
        assert astray.max() < 1.25, name


@pytest.fixture(scope="module", params=["efficientnet_lite0", "resnet18"])
def untrained(request):
    return LocalNetwork(build(request.param, seed=3))  # of others the few depthwise kernels look to one side


@pytest.mark.parametrize("scale", SCALES)
def test_a_small_change_to_a_photograph_is_felt_by_the_keypoints_around_it(untrained, scale, tmp_path):
    """The warps cannot show that all keypoints are off by the same amount; this does, from a quarter of a cell."""
    side, half = round(192 / scale), round(6 / scale)  # 12 x 12 cells; the change covers three quarters of one
    coarse = np.random.default_rng(0).integers(60, 196, (24, 24, 3), dtype=np.uint8)
    before = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    centres = [(round(u * side), round(v * side)) for u in (0.36, 0.5, 0.63) for v in (0.35, 0.52, 0.66)]
    paths = [write(tmp_path / "before.png", before)]
    for at, (x, y) in enumerate(centres):
        after = before.copy()
        after[y - half : y + half + 1, x - half : x + half + 1] ^= 255
        paths.append(write(tmp_path / f"{at}.png", after))
    same, *changed = map(by_place, extract(untrained, paths, settings_of(scales=[scale])))
    felt = [((features.descriptors - same.descriptors) ** 2).sum(1) for features in changed]
    off = (np.array([weights @ same.points / weights.sum() for weights in felt]) - centres) * scale / STRIDE_PX
    assert np.abs(off.mean(0)).max() < 0.25
    assert np.abs(off).max() < 0.6


def test_a_mirrored_photograph_has_mirrored_keypoints_within_a_cell(lite, facades, tmp_path):
    """Learnt weights look 6 px up and left of the field's centre: see the docs of LiteBody. Here that counts twice."""
    facade = np.ascontiguousarray(facades[384])
    for axis in (0, 1):
        flip = cv2.flip(facade, 1 - axis)
        paths = [write(tmp_path / "facade.png", facade), write(tmp_path / "flip.png", flip)]
        one, other = extract(lite, paths, settings_of(scales=[1.0]))
        pairs = match_mutual(one.descriptors, other.descriptors, min_similarity=-1.0)
        expected = one.points[pairs[:, 0]]
        expected[:, axis] = facade.shape[1 - axis] - 1 - expected[:, axis]
        off = (other.points[pairs[:, 1]] - expected) / STRIDE_PX
        near = np.linalg.norm(off, axis=1) <= 2
        assert near.mean() > 0.6
        assert np.abs(np.median(off[near], axis=0)).max() < 1


def test_a_photograph_twice_as_large_has_the_same_features_in_its_own_pixels(lite, facades, tmp_path):
    facade = facades[384][:256]  # 384 x 256, of which each pixel becomes four
    doubled = facade.repeat(2, axis=0).repeat(2, axis=1)
    paths = [write(tmp_path / "once.png", facade), write(tmp_path / "twice.png", doubled)]
    once, twice = extract(lite, paths, settings_of(scales=[0.5, 1.0], max_side_px=384))
    np.testing.assert_allclose(twice.points, 2 * once.points + 0.5)
    assert same_bytes(once[1:], twice[1:])


class Watched(nn.Module):
    """In place of a network: keeps the images that it is shown."""

    cells = GRID

    def forward(self, images):
        self.seen = images.float()
        return torch.ones(1, 128, 2, 2), torch.ones(1, 1, 2, 2)


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_scaling_moves_nothing_and_shrinking_averages(scale, tmp_path):
    side = round(64 / scale)
    ramp = np.linspace(40, 215, side)  # left to right
    stripes = 30 * np.tile([[-1], [1], [1], [-1]], (side // 4, 1)) if scale < 1 else 0  # gone when they are averaged
    image = np.rint(ramp + stripes + np.zeros((side, side)))[..., None].repeat(3, axis=2)
    network = Watched()
    extract(network, [write(tmp_path / "ramp.png", image.astype(np.uint8))], settings_of(scales=[scale]))
    assert network.seen.shape == (1, 3, 64, 64)
    places = (np.arange(64) + 0.5) / scale - 0.5  # where the pixels come from
    expected = np.interp(places, np.arange(side), ramp)
    seen = network.seen.numpy()[..., 2:-2, 2:-2]
    assert np.abs(seen - expected[2:-2]).max() < 1


@pytest.mark.parametrize(
    ("centre_px", "xs", "ys"), [(15, [30.5, 62.5, 94.5], [77.0, 157.0]), (0, [0.5, 32.5, 64.5], [2.0, 82.0])]
)
def test_cells_are_located_as_by_hand(centre_px, xs, ys):
    # 48 x 32 px made of 96 x 160: pixel x at (x + 0.5) * 2 - 0.5, pixel y at (y + 0.5) * 5 - 0.5
    points = locate_cells((3, 2), GRID._replace(centre_px=centre_px), (48, 32), ImageRegion(Path("a.jpg"), (96, 160)))
    assert points.dtype == np.float32
    assert points.tolist() == [[x, y] for y in ys for x in xs]


def test_points_are_in_pixels_of_the_photograph_however_small_it_was_seen(resnet, tmp_path):
    path = write(tmp_path / "wide.png", np.random.default_rng(0).integers(0, 256, (150, 600, 3), dtype=np.uint8))
    (found,) = extract(resnet, [path], settings_of(scales=[0.5, 1.0], max_side_px=192))
    found = by_place(found)
    assert found.scales.tolist() == [0.5] * 12 + [1.0] * 36
    # seen at 192 x 48, cells of 50 x 50 px; at half of that 96 x 32, not 24, and cells of 100 x 75
    small = [(100 * i + 2.625, 75 * j + 1.84375) for j in range(2) for i in range(6)]
    large = [(50 * i + 1.0625, 50 * j + 1.0625) for j in range(3) for i in range(12)]
    np.testing.assert_allclose(found.points, small + large)


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((2000, 1000), (1024, 512)),
        ((1000, 3000), (336, 1024)),  # 341.3
        ((500, 333), (496, 336)),
        ((8, 8), (32, 32)),
        ((600, 20), (608, 32)),
        ((5000, 1), (1024, 32)),
    ],
)
def test_photographs_are_seen_in_whole_cells(size, fitted):
    assert fit_size(ImageRegion(Path("a.jpg"), size), 1024, GRID) == fitted


# ---- The same bytes -------------------------------------------------------------------------------------------------

THREE_SCALES = LocalSettings(precision="float32", scales=[0.5, 1.0, 2.0], max_side_px=112, max_features=40)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """13 of three shapes; some are shrunk to 112 px."""
    return write_photographs(tmp_path_factory.mktemp("photographs"), 13).paths


@pytest.fixture(scope="module")
def expected(lite, photographs):
    return extract(lite, photographs, THREE_SCALES)


def test_features_are_the_40_of_most_attention_with_normalised_descriptors(expected):
    for features in expected:
        assert len(features.points) == 40
        assert (np.diff(features.attention) <= 0).all()
        np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1.0, atol=1e-6)
        assert {values.dtype for values in features} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 1), (16, 2)])
def test_batch_size_and_loading_processes_change_no_byte(lite, photographs, expected, batch_size, workers):
    settings = THREE_SCALES.model_copy(update={"batch_size": batch_size})
    found = extract(lite, photographs, settings, workers=workers)
    assert all(map(same_bytes, found, expected))


@pytest.mark.parametrize("rows", [range(12, -1, -1), [4], [7, 0, 11, 0]])
def test_what_else_is_asked_for_and_in_which_order_changes_no_byte(lite, photographs, expected, rows):
    found = extract(lite, [photographs[row] for row in rows], THREE_SCALES)
    assert len(found) == len(rows)
    assert all(same_bytes(features, expected[row]) for features, row in zip(found, rows, strict=True))


def test_threads_change_no_byte_and_stay_as_they_were(lite, photographs, expected):
    torch.set_num_threads(2)
    try:
        found = extract(lite, photographs[:4], THREE_SCALES)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert all(map(same_bytes, found, expected[:4]))


def test_bfloat16_features_are_near_those_of_float32(lite, photographs):
    settings = THREE_SCALES.model_copy(update={"max_features": 1000})
    exact = extract(lite, photographs[:3], settings)
    rough = extract(lite, photographs[:3], settings.model_copy(update={"precision": "bfloat16"}))
    for one, other in zip(map(by_place, exact), map(by_place, rough), strict=True):
        assert one.points.tobytes() == other.points.tobytes() and other.descriptors.dtype == np.float32
        assert (one.descriptors * other.descriptors).sum(1).min() > 0.98
        np.testing.assert_allclose(other.attention, one.attention, rtol=0.05)


def test_no_photographs_have_no_features(lite):
    assert extract(lite, []) == []


# ---- Which features are kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [0, 1, 2, 7, 50])
@pytest.mark.parametrize("values", [1, 4, 1000])  # different values of attention: the fewer, the more ties
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 2.0, 1e9])
def test_selected_are_those_of_most_attention_above_the_threshold_and_ties_go_to_the_first(cells, values, threshold):
    attention = np.random.default_rng(cells).integers(0, values, (3, cells)).astype(np.float32)
    for count in (0, 1, 5, cells, cells + 1):
        positions, counts = select_cells(torch.from_numpy(attention), Kept(threshold, count))
        assert positions.shape == (3, min(count, cells))
        for line, found, number in zip(attention, positions.tolist(), counts.tolist(), strict=True):
            ranked = sorted(range(cells), key=lambda cell: (-line[cell], cell))
            assert found[:number] == [cell for cell in ranked if line[cell] > threshold][:count]


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.5, 0.9])
def test_the_threshold_is_a_quantile_of_the_attention_of_all_cells(lite, photographs, quantile):
    photographs, settings = photographs[:6], settings_of(scales=[0.5, 1.0], attention_quantile=quantile)
    threshold = calibrate(lite, photographs, settings)
    cells = sorted(np.concatenate([features.attention for features in extract(lite, photographs, settings)]))
    at = quantile * (len(cells) - 1)
    low, high = float(cells[int(at)]), float(cells[int(np.ceil(at))])
    assert threshold == pytest.approx(low + (at - int(at)) * (high - low), rel=1e-6)
    kept = sum(len(features.points) for features in extract(lite, photographs, settings, threshold))
    assert abs(kept - (1 - quantile) * len(cells)) <= 2


def test_without_photographs_the_threshold_is_0(lite):
    assert calibrate(lite, []) == 0.0


def test_suppression_does_not_change_the_threshold(lite, photographs):
    thresholds = [
        calibrate(lite, photographs[:4], settings_of(scales=[1.0], suppression_cells=cells)) for cells in (0, 1)
    ]
    assert thresholds[0] == thresholds[1] > 0


class Given(nn.Module):
    """In place of a network: a given attention (h, w) for every image, and codes that are all alike."""

    cells = GRID

    def __init__(self, attention):
        super().__init__()
        self.attention = torch.as_tensor(attention, dtype=torch.float32)

    def forward(self, images):
        assert images.shape[-2:] == tuple(STRIDE_PX * side for side in self.attention.shape)
        maps = self.attention.expand(len(images), 1, -1, -1)
        return torch.ones(len(images), 128, *self.attention.shape), maps


@pytest.mark.parametrize("shape", [(2, 2), (2, 9), (11, 3), (12, 13)])
@pytest.mark.parametrize("values", [3, 1000])
@pytest.mark.parametrize("cells", [0, 1, 2, 8])
def test_suppression_keeps_the_cells_that_no_near_one_outdoes(shape, values, cells, tmp_path):
    attention = np.random.default_rng(cells).integers(1, values, shape)
    path = write(tmp_path / "grey.png", np.full((STRIDE_PX * shape[0], STRIDE_PX * shape[1], 3), 128, np.uint8))
    settings = settings_of(scales=[1.0], suppression_cells=cells)
    (found,) = extract(Given(attention), [path], settings, min_attention=0.0)
    naive = {
        (i, j): attention[i, j]
        for i, j in np.ndindex(*shape)
        if attention[i, j] == attention[max(i - cells, 0) : i + cells + 1, max(j - cells, 0) : j + cells + 1].max()
    }
    kept = np.rint(found.points[:, ::-1] / STRIDE_PX).astype(int)
    assert {tuple(cell): value for cell, value in zip(kept.tolist(), found.attention, strict=True)} == naive


def test_suppressed_features_of_one_scale_are_not_near_each_other(lite, facades, tmp_path):
    path = write(tmp_path / "facade.png", facades[384])
    (found,) = extract(lite, [path], settings_of(scales=[0.5, 1.0], suppression_cells=2), min_attention=0.0)
    for scale in (0.5, 1.0):
        points = found.points[found.scales == scale]
        apart = np.abs(points[:, None] - points).max(-1) * scale / STRIDE_PX
        assert len(points) > 2 and apart[~np.eye(len(points), dtype=bool)].min() > 2.5


# ---- Odd photographs and bad networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (20, 600), (600, 20), (33, 47)])
@pytest.mark.parametrize("grey", [True, False])
def test_odd_photographs_have_features_within_their_bounds(lite, tmp_path, shape, grey):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    path = write(tmp_path / "odd.png", np.full_like(noise, 128) if grey else noise)
    (found,) = extract(lite, [path], settings_of(scales=SCALES, max_side_px=256, max_features=60))
    assert 1 <= len(found.points) <= 60
    assert (found.points >= -0.5).all() and (found.points <= np.array(shape[::-1]) - 0.5).all()
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1.0, atol=1e-6)


def test_a_photograph_that_lies_on_its_side_has_the_features_of_the_upright_one(lite, facades, tmp_path):
    facade = facades[384][:256]
    upright, lying = write(tmp_path / "upright.png", facade), tmp_path / "lying.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(facade)).save(lying, exif=exif)
    one, other = extract(lite, [upright, lying], settings_of(scales=[1.0]))
    assert read_header(lying) == (384, 256)
    assert same_bytes(one, other)


def test_a_network_without_a_local_branch_is_refused():
    with pytest.raises(ValueError, match="without a local branch"):
        LocalNetwork(build("resnet18", local=False))


def spoil(part):
    """A network of which one part of the local branch, "encoder" or "attention", gives what is not finite."""
    network = build("resnet18")
    layer = network.local.encoder if part == "encoder" else network.local.attention[-2]
    nn.init.constant_(layer.bias, float("nan"))
    return LocalNetwork(network)


@pytest.mark.parametrize("part", ["encoder", "attention"])
def test_values_that_are_not_finite_are_refused_with_the_photograph(part, photographs):
    with pytest.raises(PipelineError, match=r"not finite\n  where: .*photo000\.jpg"):
        extract(spoil(part), photographs[:1], THREE_SCALES)


def test_attention_that_is_not_finite_is_refused_with_suppression_too(photographs):
    with pytest.raises(PipelineError, match="not finite"):
        extract(spoil("attention"), photographs[:1], THREE_SCALES.model_copy(update={"suppression_cells": 1}))


def test_no_threshold_is_found_by_attention_that_is_not_finite(photographs):
    with pytest.raises(PipelineError, match="not finite"):
        calibrate(spoil("attention"), photographs[:1], THREE_SCALES)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_photograph_is_named(lite, tmp_path, workers):
    paths = write_photographs(tmp_path, 3).paths
    Path(paths[1]).write_bytes(b"\xff\xd8\xff")
    extractor = LocalExtractor(lite, THREE_SCALES, CPU)
    with pytest.raises(PipelineError, match=r"photo001\.jpg"):
        extract_local(extractor, ImageRegions(paths, np.full((3, 2), 100)), 0.0, workers)


def test_a_box_gives_the_features_of_its_part_at_the_scale_of_the_whole_in_pixels_of_the_whole(lite, facades, tmp_path):
    image, settings = facades[384], settings_of(scales=[0.5, 1.0, 2.0])
    height, width = image.shape[:2]
    left, top, right, bottom = 64, 32, 64 + 160, 32 + 128
    whole = write(tmp_path / "whole.png", image)
    part = write(tmp_path / "part.png", image[top:bottom, left:right])
    expected = extract(lite, [part], settings)[0]
    box = np.array([[left + 0.25, top, right - 0.25, bottom]])  # touches these pixels
    boxed = ImageRegions([whole], np.array([[width, height]]), box)
    found = extract_local(LocalExtractor(lite, settings, CPU), boxed, NO_THRESHOLD)[0]
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)
    np.testing.assert_allclose(found.points, expected.points + np.array([left, top]), atol=1e-3)
    doubled = boxed[0]._replace(size=(2 * width, 2 * height))
    assert fit_size(doubled, width, GRID) == (80, 64)  # the whole is halved: so is it


def test_a_split_is_written_with_its_threshold_and_only_the_wanted_images_have_features(lite, tmp_path):
    paths = write_photographs(tmp_path / "images", 7).paths
    sizes = [read_header(path) for path in paths]
    rows = [(path.name, *size, 0.0, 0.0, *map(float, size)) for path, size in zip(paths, sizes, strict=True)]
    table = pd.DataFrame(rows, columns=["path", "width", "height", "left", "top", "right", "bottom"])
    split = Split(table.assign(id=table["path"]), tmp_path / "images")
    settings = settings_of(scales=[1.0], max_features=30, calibration_photographs=4, shard_rows=2)
    extractor = LocalExtractor(lite, settings, CPU)
    write_threshold(RecordedTask(tmp_path / "threshold"), extractor, split, seed=3)
    sample = np.sort(np.random.default_rng(3).permutation(7)[:4])
    threshold = read_threshold(tmp_path / "threshold")
    assert threshold == calibrate(lite, [paths[row] for row in sample], settings) > 0

    wanted = np.arange(7) % 3 != 1
    write_local_features(RecordedTask(tmp_path / "features"), extractor, split, wanted, threshold)
    store = LocalStore(tmp_path / "features")
    expected = extract(lite, paths, settings, threshold)
    assert store.counts.tolist() == [len(found.points) * keep for found, keep in zip(expected, wanted, strict=True)]
    for row in np.flatnonzero(wanted):
        np.testing.assert_array_equal(store[row].points, expected[row].points)
        np.testing.assert_allclose(store[row].descriptors, expected[row].descriptors, atol=1e-3)


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_features_of_its_images(lite, photographs, monkeypatch):
    regions, tried = regions_of(photographs[:3]), []  # of one shape
    extractor = LocalExtractor(lite, THREE_SCALES, CPU)
    size = fit_size(regions[0], 112, lite.cells)
    (batch,) = load_batches(photographs, [PlannedBatch(np.arange(3), size)])
    expected = extract_local(extractor, regions, NO_THRESHOLD)
    forward = type(lite).forward

    def small(network, images):
        tried.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return forward(network, images)

    monkeypatch.setattr(type(lite), "forward", small)
    for _ in range(2):
        found = extract_batch(extractor, batch, Kept(NO_THRESHOLD, 40), regions)
        assert [row for row, _ in found] == [0, 1, 2]
        assert all(same_bytes(features, expected[row]) for row, features in found)
    assert tried == [3, *[1] * 9, *[1] * 9]  # three scales of three images, twice


def test_a_single_photograph_that_does_not_fit_is_an_error_with_advice(lite, photographs, monkeypatch):
    def full(network, images):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(lite), "forward", full)
    with pytest.raises(PipelineError, match=r"single photograph\n.*local\.max_side_px"):
        extract(lite, photographs[:1], THREE_SCALES)
