"""Photographs of no landmark: streets, parks, rooms, landscapes and seas here, flat subjects in demo/still.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from pipeline.competition.demo.camera import Camera, Mesh, Texture
from pipeline.competition.demo.exposure import develop, expose, radiance_of
from pipeline.competition.demo.facade import WALL_COLOURS, draw_style, paint_wall
from pipeline.competition.demo.hall import raise_shell
from pipeline.competition.demo.light import INDOORS, WEATHERS, Weather, open_sun, paint_sky, sun_direction
from pipeline.competition.demo.material import paint_turf
from pipeline.competition.demo.noise import Colour, Floats, Pixels, choose, crop_noise, mix, vary_colour
from pipeline.competition.demo.ornament import bright_colour
from pipeline.competition.demo.shape import add_box, add_roof
from pipeline.competition.demo.sprite import TREE_KINDS, paint_tree, stand_up
from pipeline.competition.demo.still import Size, draw_abstract, draw_flower, draw_plate, draw_portrait, draw_surface
from pipeline.competition.demo.view import add_passers_by

OUTDOORS = ("clear", "fair", "overcast", "sunset", "fog", "rain")


def draw_street(rng: np.random.Generator, size: Size) -> Pixels:
    """A street of houses such as stand anywhere."""
    mesh, half = Mesh(), float(rng.uniform(5, 9))
    asphalt = Texture.from_pixels(paint_turf(rng, 256, 256, (112, 112, 116), 32), tiled=True)
    mesh.add_tiles([(-200, 300, 0), (200, 300, 0), (200, -60, 0), (-200, -60, 0)], asphalt, 8.0)
    tiles = Texture.from_colour(vary_colour(rng, choose(rng, [(150, 80, 60), (90, 92, 98), (120, 100, 84)]), 14))
    for side in (-1, 1):
        start = -4.0
        while start < 75:
            width, height = float(rng.uniform(7, 13)), float(rng.uniform(6, 15))
            style = draw_style(
                rng, (224, 216, 200), vary_colour(rng, choose(rng, WALL_COLOURS), 18), door=bool(rng.random() < 0.5)
            )
            style = replace(style, ornament=None, material=choose(rng, ["plaster", "brick", "plaster", "timber"]))
            wall = paint_wall(rng, width, height, style, 10)
            centre = (side * (half + 5), start + width / 2)
            add_box(mesh, centre, (10, width), 0, height, [wall], tiles)
            add_roof(mesh, centre, (10, width), height, float(rng.uniform(1.5, 4)), 0, tiles, tiles, along_y=True)
            start += width + (rng.uniform(2, 6) if rng.random() < 0.25 else 0)
    camera = Camera.looking_at(
        (rng.uniform(-2, 2), -6, 1.65), (rng.uniform(-8, 8), 30, rng.uniform(2, 6)), max(size) * 0.8, size
    )
    add_passers_by(rng, mesh, camera, 30, False, True)
    return expose(mesh, camera, WEATHERS[choose(rng, OUTDOORS)], open_sun(rng), np.zeros((0, 3)), (1, 1, 1), rng)


def draw_park(rng: np.random.Generator, size: Size) -> Pixels:
    """Trees upon a meadow."""
    mesh = Mesh()
    turf = Texture.from_pixels(paint_turf(rng, 512, 512, vary_colour(rng, (110, 138, 70), 18), 32), tiled=True)
    mesh.add_tiles([(-300, 300, 0), (300, 300, 0), (300, -60, 0), (-300, -60, 0)], turf, 12.0)
    camera = Camera.looking_at(
        (0, -8, 1.7), (rng.uniform(-4, 4), 30, rng.uniform(1, 5)), max(size) * rng.uniform(0.7, 1.3), size
    )
    kind = choose(rng, TREE_KINDS)
    for _ in range(int(rng.integers(3, 34))):
        foot = np.array([rng.uniform(-40, 40), rng.uniform(2, 70), 0.0])
        height = float(rng.uniform(4, 11))
        stand_up(mesh, foot, (height * 0.8, height), paint_tree(kind, int(rng.integers(4))), camera.position)
    add_passers_by(rng, mesh, camera, 25, False, False)
    return expose(
        mesh, camera, WEATHERS[choose(rng, (*OUTDOORS, "snow"))], open_sun(rng), np.zeros((0, 3)), (1, 1, 1), rng
    )


def draw_room(rng: np.random.Generator, size: Size) -> Pixels:
    """A furnished room."""
    mesh, extent = Mesh(), (float(rng.uniform(4, 7)), float(rng.uniform(5, 9)), float(rng.uniform(2.7, 3.6)))
    colours = [vary_colour(rng, choose(rng, WALL_COLOURS), 18) for _ in range(3)]
    raise_shell(rng, mesh, extent, colours, (230, 224, 214), 40)
    for _ in range(int(rng.integers(2, 7))):
        cloth = Texture.from_colour(vary_colour(rng, choose(rng, [bright_colour(rng), (120, 84, 56)]), 10))
        at = (float(rng.uniform(-0.4, 0.4) * extent[0]), float(rng.uniform(-0.1, 0.42) * extent[1]))
        add_box(
            mesh,
            at,
            (float(rng.uniform(0.4, 1.8)), float(rng.uniform(0.4, 1.4))),
            0,
            float(rng.uniform(0.4, 1.3)),
            [cloth],
            cloth,
        )
    camera = Camera.looking_at(
        (rng.uniform(-1, 1), -extent[1] * 0.45, 1.5),
        (rng.uniform(-1.5, 1.5), extent[1] / 2, 1.1),
        max(size) * 0.7,
        size,
    )
    return expose(mesh, camera, INDOORS, open_sun(rng), np.array([[0, 0, extent[2] - 0.4]]), (0.35, 0.32, 0.26), rng)


def draw_sky(rng: np.random.Generator, size: Size, weather: Weather) -> Floats:
    """(H, W, 3) radiance of a sky whose horizon is in the middle of the picture."""
    camera = Camera.looking_at((0, 0, 0), (0, 1, 0.02), max(size) * 0.9, size)
    return paint_sky(camera, weather, sun_direction(np.pi + rng.uniform(-0.6, 0.6), 16), rng)


def draw_landscape(rng: np.random.Generator, size: Size) -> Pixels:
    """Ranges of hills one behind the other, perhaps with a lake that mirrors them."""
    width, height = size
    weather = WEATHERS[choose(rng, OUTDOORS)]
    picture = draw_sky(rng, size, weather)
    ground: Colour = choose(rng, [(70, 100, 60), (130, 110, 80), (90, 100, 120), (150, 130, 90), (60, 84, 70)])
    layers = int(rng.integers(3, 6))
    for k in range(layers):
        line = crop_noise(rng, 1, width, 1.6 - 0.15 * k)[0]
        top = height * (0.3 + 0.42 * k / layers + 0.24 * (1 - line) * rng.uniform(0.5, 1.2))
        colour = mix(ground, (170, 190, 215), 0.75 * (1 - (k + 1) / layers))
        slope = radiance_of(np.asarray(colour)) * (0.7 + 0.6 * crop_noise(rng, height, width, 1.3))[:, :, None]
        picture = np.where((np.arange(height)[:, None] > top)[:, :, None], slope, picture).astype(np.float32)
    if rng.random() < 0.4:
        shore = int(height * rng.uniform(0.62, 0.78))
        mirrored = picture[shore - 1 :: -1][: height - shore]
        ripple = 0.7 + 0.25 * crop_noise(rng, height - shore, width, 0.6)[:, :, None]
        picture[shore : shore + len(mirrored)] = mirrored * ripple[: len(mirrored)]
    return develop(picture, weather, rng)


def draw_sea(rng: np.random.Generator, size: Size) -> Pixels:
    """Water to the horizon, perhaps with a beach or a sail."""
    width, height = size
    weather = WEATHERS[choose(rng, OUTDOORS[:4])]
    picture = draw_sky(rng, size, weather)
    line = height // 2
    depth = np.linspace(0, 1, height - line)[:, None]
    waves = cv2.resize(crop_noise(rng, 200, max(8, width // 6), 0.7), (width, height - line))
    water = (
        radiance_of(np.asarray(vary_colour(rng, (50, 110, 140), 30))) * (0.75 + 0.5 * waves * (0.4 + depth))[:, :, None]
    )
    picture[line:] = water
    if rng.random() < 0.5:
        sand = radiance_of(np.asarray((222, 200, 160))) * (0.85 + 0.2 * crop_noise(rng, height, width, 0.5))[:, :, None]
        edge = height * (
            0.72 + 0.12 * crop_noise(rng, 1, width, 2.0)[0] + 0.1 * np.linspace(-1, 1, width) * rng.uniform(-1, 1)
        )
        picture = np.where((np.arange(height)[:, None] > edge)[:, :, None], sand, picture).astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        x, tall = rng.uniform(0.1, 0.9) * width, height * rng.uniform(0.04, 0.16)
        sail = np.array([(x, line - tall), (x + tall * 0.5, line), (x, line)])
        cv2.fillPoly(picture, [sail.astype(np.int32)], (0.9, 0.88, 0.84), cv2.LINE_AA)
    return develop(np.ascontiguousarray(picture), weather, rng)


DISTRACTORS: dict[str, Callable[[np.random.Generator, Size], Pixels]] = {
    "street": draw_street,
    "park": draw_park,
    "room": draw_room,
    "landscape": draw_landscape,
    "sea": draw_sea,
    "surface": draw_surface,
    "plate": draw_plate,
    "portrait": draw_portrait,
    "flower": draw_flower,
    "abstract": draw_abstract,
}
