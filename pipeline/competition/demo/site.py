"""Where a landmark stands: ground, paving, road, trees, hedges, lamps, and the horizon all round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.competition.demo.building import Extent, build_landmark
from pipeline.competition.demo.camera import Mesh, Texture
from pipeline.competition.demo.material import paint_paving, paint_turf
from pipeline.competition.demo.noise import (
    Colour,
    Vectors,
    choose,
    crop_noise,
    darken,
    make_generator,
    mix,
    vary_colour,
)
from pipeline.competition.demo.shape import add_box, add_lathe, rectangle
from pipeline.competition.demo.sprite import TREE_KINDS, paint_tree

GROUND_REACH_M = 280.0
HORIZON_SLICES = 12
GROUND_COLOURS: tuple[Colour, ...] = ((112, 140, 70), (126, 146, 84), (196, 176, 132), (150, 146, 140), (140, 130, 104))
PAVING_COLOURS: tuple[Colour, ...] = ((190, 180, 164), (164, 160, 156), (196, 160, 130), (150, 144, 138))


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree and where it grows."""

    foot: Vectors  # (3,)
    size: tuple[float, float]  # width and height in metres
    texture: Texture


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A landmark outside, with all that stays where it is from photograph to photograph."""

    mesh: Mesh
    extent: Extent
    trees: tuple[Tree, ...]
    lamps: Vectors  # (n, 3) where light comes from at night
    south_rad: float  # the side of the building that the noon sun shines on; 0 = the front


def lay_ground(rng: np.random.Generator, mesh: Mesh, extent: Extent) -> None:
    """Add the ground, a paved square round the building and perhaps a road before it."""
    colour = vary_colour(rng, choose(rng, GROUND_COLOURS), 10)
    turf = Texture.from_pixels(paint_turf(rng, 512, 512, colour, 32), tiled=True)
    reach = GROUND_REACH_M
    mesh.add_tiles([(-reach, reach, 0), (reach, reach, 0), (reach, -reach, 0), (-reach, -reach, 0)], turf, 12.0)
    paving = paint_paving(rng, 192, 192, vary_colour(rng, choose(rng, PAVING_COLOURS), 12), 32)
    lay_strip(mesh, (extent[0] + rng.uniform(8, 18), extent[1] + rng.uniform(8, 18)), (0, 0), 0.03, paving, 6.0)
    lay_strip(mesh, (rng.uniform(3, 7), 120), (0, -60 - extent[1] / 2), 0.02, paving, 6.0)
    if rng.random() < 0.5:
        asphalt = paint_turf(rng, 256, 256, (104, 104, 108), 32)
        cv2.line(asphalt, (0, 128), (128, 128), (210, 206, 196), 5)
        lay_strip(mesh, (2 * reach, 7), (0, -extent[1] / 2 - rng.uniform(13, 20)), 0.045, asphalt, 7.0)


def lay_strip(
    mesh: Mesh, size: tuple[float, float], centre: tuple[float, float], height: float, pixels: np.ndarray, tile_m: float
) -> None:
    """Add a level rectangle of paving."""
    ring = rectangle(centre, size)[[3, 2, 1, 0]]
    mesh.add_tiles(np.column_stack([ring, np.full(4, height)]), Texture.from_pixels(pixels, tiled=True), tile_m)


def paint_horizon(rng: np.random.Generator) -> np.ndarray:
    """(96, 3072, 4) the far skyline all round as a cutout: hills, woods or roofs."""
    columns = 256 * HORIZON_SLICES
    place = np.arange(columns)
    strip = np.zeros((96, columns, 4), np.uint8)
    ridges = [(2.0, 1.0, (120, 136, 150)), (1.6, 0.62, (96, 118, 104)), (0.9, 0.42, (74, 94, 70))]
    for slope, share, colour in ridges[int(rng.integers(2)) :]:
        line = crop_noise(rng, 1, columns, slope)[0]
        seam = np.clip(place / 200, 0, 1)
        line = line * seam + line[0] * (1 - seam)
        top = 92 - (30 + 56 * line) * share * rng.uniform(0.5, 1.0)
        strip[np.arange(96)[:, None] >= top] = (*vary_colour(rng, colour, 10), 255)
    if rng.random() < 0.5:
        left = 0
        while left < columns:
            wide, tall = int(rng.integers(14, 60)), int(rng.integers(14, 52))
            wall = vary_colour(rng, choose(rng, PAVING_COLOURS), 30)
            cv2.rectangle(strip, (left, 92 - tall), (left + wide, 95), (*wall, 255), -1)
            for y in range(95 - tall, 92, 7):
                for x in range(left + 3, left + wide - 3, 6):
                    cv2.rectangle(strip, (x, y), (x + 2, y + 3), (*darken(wall, 0.55), 255), -1)
            left += wide + int(rng.integers(0, 26))
    return strip


def raise_horizon(rng: np.random.Generator, mesh: Mesh, distance_m: float = 250.0) -> None:
    """Add the skyline round the site, facing inwards."""
    slices = np.split(paint_horizon(rng), HORIZON_SLICES, axis=1)
    tall = distance_m * rng.uniform(0.09, 0.16)
    for k, pixels in enumerate(slices):
        turn = -2 * np.pi * (np.array([k, k + 1]) / HORIZON_SLICES)
        (x, next_x), (y, next_y) = np.cos(turn) * distance_m, np.sin(turn) * distance_m
        texture = Texture.from_pixels(np.ascontiguousarray(pixels), cutout=True)
        mesh.add_face([(x, y, tall), (next_x, next_y, tall), (next_x, next_y, -2), (x, y, -2)], texture)


def plant_trees(rng: np.random.Generator, extent: Extent) -> tuple[Tree, ...]:
    """Trees round the building, most of them off its corners, where they leave the four views free."""
    kind = choose(rng, TREE_KINDS)
    trees = []
    for _ in range(int(rng.integers(6, 16))):
        corner = int(rng.integers(4)) * np.pi / 2 + np.pi / 4
        angle = corner + rng.normal(0, 0.22)
        reach = np.hypot(extent[0], extent[1]) / 2 * rng.uniform(1.15, 2.0) + 3
        height = float(rng.uniform(5, 11))
        foot = np.array([np.cos(angle) * reach, np.sin(angle) * reach, 0.0])
        width = height * (0.8 if kind != "cypress" else 0.55)
        trees.append(Tree(foot, (width, height), paint_tree(kind, int(rng.integers(4)))))
    return tuple(trees)


def add_hedges(rng: np.random.Generator, mesh: Mesh, extent: Extent) -> None:
    """Add clipped hedges beside the way to each door."""
    leaf = Texture.from_pixels(paint_turf(rng, 64, 256, vary_colour(rng, (70, 104, 54), 12), 32))
    for side in (-1, 1):
        for x in (-1, 1):
            length = extent[0] * rng.uniform(0.15, 0.3)
            centre = (x * (extent[0] * 0.32 + 2), side * (extent[1] / 2 + rng.uniform(4, 6)))
            add_box(mesh, centre, (length, 1.0), 0, rng.uniform(0.6, 1.1), [leaf], leaf)


def add_fountain(rng: np.random.Generator, mesh: Mesh, extent: Extent, stone: Texture) -> None:
    """Add a basin with a jet's stone, or a statue on a pedestal, before one of the sides."""
    angle = int(rng.integers(4)) * np.pi / 2
    reach = (extent[1] if angle % np.pi > 1 else extent[0]) / 2 + rng.uniform(8, 11)
    at = (float(np.cos(angle) * reach), float(np.sin(angle) * reach))
    if rng.random() < 0.5:
        water = Texture.from_colour((120, 160, 176), 30)
        add_lathe(mesh, at, [(2.6, 0), (2.6, 0.6), (2.2, 0.6)], 14, stone)
        add_lathe(mesh, at, [(2.2, 0.5), (0.3, 0.55)], 14, water)
        add_lathe(mesh, at, [(0.3, 0.5), (0.2, 1.5), (1.0, 1.9), (0.1, 2.0), (0.05, 2.8)], 10, stone)
    else:
        bronze = Texture.from_colour((92, 112, 96))
        add_box(mesh, at, (1.6, 1.6), 0, 2.2, [stone], stone)
        add_lathe(mesh, at, [(0.6, 2.2), (0.42, 3.2), (0.55, 4.0), (0.18, 4.3), (0.3, 4.6), (0.05, 4.95)], 8, bronze)


def add_lamps(rng: np.random.Generator, mesh: Mesh, extent: Extent) -> Vectors:
    """Add lamp posts round the square; returns (n, 3) where the floodlights of the four walls and the posts are."""
    post, lantern = Texture.from_colour((48, 52, 54)), Texture.from_colour((250, 226, 170), 255)
    lights = []
    for x, y in rectangle((0, 0), (extent[0] + 9, extent[1] + 9)).tolist():
        add_lathe(mesh, (x, y), [(0.09, 0), (0.06, 3.9)], 5, post)
        add_lathe(mesh, (x, y), [(0.1, 3.8), (0.24, 4.1), (0.05, 4.4)], 6, lantern)
        lights.append((x, y, 4.0))
    reach_x, reach_y = extent[0] / 2 + 5, extent[1] / 2 + 5
    lights += [(0, -reach_y, 0.5), (0, reach_y, 0.5), (reach_x, 0, 0.5), (-reach_x, 0, 0.5)]
    return np.asarray(lights)


@lru_cache(maxsize=3)
def raise_site(seed: int, landmark: int, texels: float) -> Site:
    """The landmark and its surroundings, as every photograph of it finds them."""
    building, extent, kit = build_landmark(seed, landmark, texels)
    rng = make_generator(seed, "site", landmark)
    mesh = Mesh().joined(building)
    lay_ground(rng, mesh, extent)
    raise_horizon(rng, mesh)
    if rng.random() < 0.6:
        add_hedges(rng, mesh, extent)
    if rng.random() < 0.6:
        add_fountain(rng, mesh, extent, Texture.from_colour(mix(kit.trim, (150, 150, 150), 0.4)))
    lamps = add_lamps(rng, mesh, extent)
    return Site(mesh, extent, plant_trees(rng, extent), lamps, float(rng.uniform(0, 2 * np.pi)))
