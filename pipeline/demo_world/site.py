"""What stands around a landmark: trees, people and vehicles as flat cutouts that face the camera, and its square."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pipeline.demo_world import paint, palette, shape
from pipeline.demo_world.building import Extent, Place, build_landmark
from pipeline.demo_world.camera import Camera, Mesh, Pixels, Texture, Vectors
from pipeline.demo_world.material import paint_paving, paint_turf
from pipeline.demo_world.palette import darken
from pipeline.demo_world.shape import CORNERS, SHADED, Plot, Point

TREES, TREE_VARIANTS = ("broad", "broad", "fir", "cypress", "palm"), 6
TREE_PX, TREE_ASPECT = (224, 176), 0.8
VEHICLES = ((4.4, 44), (4.4, 44), (9.5, 88))  # length in metres, height in pixels: cars and buses
VEHICLE_TEXELS = 28  # per metre
PEOPLE_FROM_M, VEHICLES_FROM_M = 7.0, 11.0  # distance from the camera
PEOPLE, MAX_PEOPLE, VEHICLE_SHARE = 2.0, 9, 0.18  # expected number, limit, share of the photographs outside
Tree = tuple[Vectors, Point, Texture]
GROUND_M, HORIZON_M, SLICES, SKYLINE_PX = 560.0, 250.0, 12, (96, 256)
RIDGES = ((2.0, 1.0, (120, 136, 150)), (1.6, 0.62, (96, 118, 104)), (0.9, 0.42, (74, 94, 70)))  # slope, height, colour
FOUNTAIN = ((2.6, 0.0), (2.6, 0.6), (2.2, 0.6), (0.3, 0.55), (0.2, 1.5), (1.0, 1.9), (0.1, 2.0), (0.05, 2.8))
STATUE = ((0.8, 0), (0.8, 2.0), (0.5, 2.0), (0.35, 3.0), (0.45, 3.8), (0.15, 4.1), (0.25, 4.4), (0.05, 4.7))
LAMP_POST, LANTERN = ((0.09, 0.0), (0.06, 3.9)), ((0.1, 3.8), (0.24, 4.1), (0.05, 4.4))


def cut_out(sprite: Pixels) -> Texture:
    """The sprite as a cutout: what has been painted over its ground is opaque."""
    opacity = (sprite != palette.SKIRT).any(axis=2) * np.uint8(255)
    return Texture.from_pixels(np.dstack([sprite, opacity]), cutout=True)


@lru_cache(maxsize=64)
def paint_tree(kind: str, variant: int) -> Texture:
    """A tree as a cutout; the same kind and variant give the same tree."""
    rng = paint.make_generator(0, f"tree {kind}", variant)
    sprite, leaf = np.full((*TREE_PX, 3), palette.SKIRT, np.uint8), palette.pick(rng, palette.LEAVES, 16)
    paint.fill_polygon(sprite, [(85, 60), (91, 60), (96, 223), (80, 223)], palette.vary(rng, palette.BARK, 14))
    share, angle = rng.random(260), rng.uniform(0, 2 * np.pi, 260)
    x, y = np.cos(angle) * 72 * share**0.5, 80 + np.sin(angle) * 66 * share**0.5
    if kind == "fir":
        x, y = np.cos(angle) * 62 * share, 14 + 180 * share
    elif kind == "cypress":
        x, y = np.cos(angle) * 26 * np.sin(np.pi * share) ** 0.6, 14 + 180 * share
    elif kind == "palm":  # a dozen drooping fronds
        angle = np.pi * (1 + np.round(angle * 2) / 12)
        x, y = np.cos(angle) * 74 * share, 60 + np.sin(angle) * 50 * share + 46 * share**2
    light = (x - x.min()) * 0.35 + (y.max() - y) * 0.65  # darker below and to the left
    light /= max(np.ptp(x), np.ptp(y))
    for k in np.argsort(light + rng.uniform(-0.25, 0.1, len(light)), kind="stable").tolist():
        tone, radius = palette.vary(rng, darken(leaf, 0.55 + 0.75 * float(light[k])), 14), rng.uniform(4, 12)
        paint.fill_ellipse(sprite, (88 + x[k], y[k]), (radius, radius * 0.7), tone, rng.uniform(0, 1.6))
    return cut_out(sprite)


def paint_person(rng: np.random.Generator) -> Texture:
    """A standing person as a cutout."""
    sprite, stride = np.full((96, 48, 3), palette.SKIRT, np.uint8), rng.uniform(1, 6)
    coat, legs = (palette.pick(rng, palette.CLOTHES, 18) for _ in range(2))
    for side in (-1, 1):
        paint.draw_line(sprite, (24 + side * 3, 58), (24 + side * stride, 93), legs, 6)
        paint.draw_line(sprite, (24 + side * 7, 34), (24 + side * rng.uniform(7, 12), 56), darken(coat, 0.85), 5)
    paint.fill_polygon(sprite, [(15, 32), (33, 32), (32, 62), (16, 62)], coat)
    paint.fill_disc(sprite, 24, 22, 7, palette.pick(rng, palette.HAIRS, 10))
    paint.fill_disc(sprite, 24, 24.5, 6, palette.pick(rng, palette.SKINS, 10))
    return cut_out(sprite)


def paint_vehicle(rng: np.random.Generator) -> tuple[Texture, tuple[float, float]]:
    """A car or a bus from the side as a cutout, and its length and height in metres."""
    length, height = paint.choose(rng, VEHICLES)
    width, coat = int(length * VEHICLE_TEXELS), palette.pick(rng, palette.CLOTHES, 20)
    sprite = np.full((height, width, 3), palette.SKIRT, np.uint8)
    slant, top = (0.2, 0.32) if height < width / 2.5 else (0.01, 0.02), height * 0.1
    cabin = np.array([(slant[0], 0.5), (slant[1], 0.03), (1 - slant[1], 0.03), (1 - slant[0], 0.5)]) * (width, height)
    paint.fill_polygon(sprite, cabin, coat)
    paint.fill_polygon(sprite, (cabin - (width / 2, 0)) * (0.92, 0.9), palette.GLASS, (width / 2, 4))
    for x in np.linspace(width * slant[1], width * (1 - slant[1]), 3 if slant[0] > 0.1 else 7):
        paint.fill_box(sprite, (x - 2, top, x + 2, height * 0.5), coat)
    paint.fill_box(sprite, (2, height * 0.46, width - 3, height - 9), coat)
    for x in (width * 0.2, width * 0.8):
        paint.fill_disc(sprite, x, height - 10, 9, palette.LEAD)
        paint.fill_disc(sprite, x, height - 10, 4, palette.PAVINGS[3])
    return cut_out(sprite), (length, length * height / width)


def stand_up(mesh: Mesh, foot: Vectors, size: tuple[float, float], texture: Texture, eye: Vectors) -> None:
    """Add a cutout of size (width, height) in metres that stands at `foot` and faces the eye."""
    toward = (eye - foot)[:2]
    across = np.array([-toward[1], toward[0], 0.0]) / max(float(np.linalg.norm(toward)), 1e-6) * size[0] / 2
    up = np.array([0.0, 0.0, size[1]])
    mesh.add_face([foot - across + up, foot + across + up, foot + across, foot - across], texture)


def find_spot(rng: np.random.Generator, camera: Camera, near_m: float, far_m: float) -> Vectors:
    """(3,) a place on the ground within the image, between two distances from the camera."""
    forward = camera.rotation[2] * (1, 1, 0)
    forward /= np.linalg.norm(forward)
    away = rng.uniform(near_m, max(near_m + 1, far_m))
    sideways = rng.uniform(-0.5, 0.5) * camera.size[0] / camera.focal_px * away
    return np.asarray((camera.position + forward * away + camera.rotation[0] * sideways) * (1, 1, 0))


def add_passers_by(rng: np.random.Generator, mesh: Mesh, camera: Camera, far_m: float, traffic: bool) -> None:
    """Add people, and outside now and then a vehicle, between the camera and what is `far_m` metres away."""
    for _ in range(min(MAX_PEOPLE, int(rng.poisson(PEOPLE)))):
        foot, tall = find_spot(rng, camera, PEOPLE_FROM_M, far_m), float(rng.uniform(1.65, 1.95))
        shape.add_floor(mesh, Plot(foot[0], foot[1], 0.7, 0.4), 0.055, SHADED)  # without a shadow they would float
        stand_up(mesh, foot, (tall / 2, tall), paint_person(rng), camera.position)
    if traffic and rng.random() < VEHICLE_SHARE:
        texture, size = paint_vehicle(rng)
        stand_up(mesh, find_spot(rng, camera, VEHICLES_FROM_M, far_m), size, texture, camera.position)


class Site(NamedTuple):
    """A landmark outside, with everything that is the same in all photographs of it."""

    mesh: Mesh
    extent: Extent
    trees: list[Tree]  # and where they grow: (3,) foot, width and height in metres
    south_rad: float  # the side of the building that the noon sun shines on; 0 = the front


def lay_ground(rng: np.random.Generator, mesh: Mesh, extent: Extent) -> None:
    """Add the ground, a paved square round the building, the way to it and perhaps a road in front."""
    width, depth, _ = extent
    turf = paint_turf(rng, (512, 512), palette.pick(rng, palette.GROUNDS, 10), 32)
    slabs = paint_paving(rng, (192, 192), palette.pick(rng, palette.PAVINGS, 12), 32)
    paving = Texture.from_pixels(slabs, tile_m=6.0)
    shape.add_floor(mesh, Plot(0, 0, GROUND_M, GROUND_M), 0, Texture.from_pixels(turf, tile_m=12.0))
    shape.add_floor(mesh, Plot(0, 0, width + rng.uniform(8, 18), depth + rng.uniform(8, 18)), 0.03, paving)
    shape.add_floor(mesh, Plot(0, -60 - depth / 2, rng.uniform(3, 7), 120), 0.02, paving)
    if rng.random() < 0.5:
        asphalt = paint_turf(rng, (256, 256), palette.ASPHALT, 32)
        paint.fill_box(asphalt, (0, 126, 128, 130), palette.IVORY)
        road = Plot(0, -depth / 2 - rng.uniform(13, 20), GROUND_M, 7)
        shape.add_floor(mesh, road, 0.045, Texture.from_pixels(asphalt, tile_m=7.0))


def raise_horizon(rng: np.random.Generator, mesh: Mesh) -> None:
    """Add ranges of hills around the site, facing inwards."""
    rows, columns = SKYLINE_PX
    hills, bow = [], np.sin(np.pi * np.arange(columns) / columns)  # each slice begins and ends low: no seam
    for _ in range(3):
        strip = np.zeros((rows, columns, 4), np.uint8)
        for slope, share, colour in RIDGES:
            line = 0.25 + 0.75 * paint.crop_noise(rng, (1, columns), slope)[0] * bow
            strip[np.arange(rows)[:, None] >= rows * (1 - line * share)] = (*palette.vary(rng, colour, 10), 255)
        hills.append(Texture.from_pixels(strip, cutout=True))
    turn = -np.linspace(0, 2 * np.pi, SLICES, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * HORIZON_M
    shape.add_prism(mesh, ring, (-2, HORIZON_M * rng.uniform(0.07, 0.13)), hills)


def plant_trees(rng: np.random.Generator, extent: Extent) -> list[Tree]:
    """Trees around the building, most of them off its corners, where they leave the four views free."""
    kind = paint.choose(rng, TREES)
    trees: list[Tree] = []
    for _ in range(int(rng.integers(6, 16))):
        angle = (int(rng.integers(4)) + 0.5) * np.pi / 2 + rng.normal(0, 0.22)
        reach, height = np.hypot(*extent[:2]) / 2 * rng.uniform(1.15, 2.0) + 3, float(rng.uniform(5, 11))
        foot = np.array([np.cos(angle) * reach, np.sin(angle) * reach, 0.0])
        trees.append((foot, (height * TREE_ASPECT, height), paint_tree(kind, int(rng.integers(TREE_VARIANTS)))))
    return trees


def furnish_square(rng: np.random.Generator, mesh: Mesh, extent: Extent, stone: Texture) -> None:
    """Add lamp posts, and perhaps a fountain or a statue before one of the sides."""
    half, post = np.array(extent[:2]) / 2, Texture.from_colour(palette.LEAD)
    for x, y in (np.array(CORNERS) * (half + 4.5)).tolist():
        shape.add_lathe(mesh, (x, y), LAMP_POST, 5, post)
        shape.add_lathe(mesh, (x, y), LANTERN, 6, Texture.from_colour(palette.FLAME, 255))
    if rng.random() < 0.6:
        x, y = paint.choose(rng, [(0, -1), (1, 0), (0, 1), (-1, 0)]) * (half + rng.uniform(8, 11))
        shape.add_lathe(mesh, (x, y), paint.choose(rng, [FOUNTAIN, STATUE]), 8, stone)


@lru_cache(maxsize=3)
def raise_site(place: Place) -> Site:
    """The landmark and its surroundings."""
    kit, extent = build_landmark(place)
    rng = paint.make_generator(place.seed, "site", place.landmark)
    lay_ground(rng, kit.mesh, extent)
    raise_horizon(rng, kit.mesh)
    furnish_square(rng, kit.mesh, extent, kit.stone)
    return Site(kit.mesh, extent, plant_trees(rng, extent), float(rng.uniform(0, 2 * np.pi)))
