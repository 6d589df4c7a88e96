"""Photographs of no landmark: streets, rooms, landscapes, seas, tables, faces, flowers, lights, surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from pipeline.competition.demo_camera import Camera, Mesh, Texture
from pipeline.competition.demo_exposure import develop, expose
from pipeline.competition.demo_facade import WALL_COLOURS, draw_style, paint_wall
from pipeline.competition.demo_hall import raise_shell
from pipeline.competition.demo_light import SUN_DISTANCE_M, WEATHERS, SunView, Weather, paint_sky, sun_direction
from pipeline.competition.demo_material import MATERIALS, paint_paving, paint_turf
from pipeline.competition.demo_noise import Colour, Floats, Pixels, choose, crop_noise, darken, mix, vary_colour
from pipeline.competition.demo_ornament import bright_colour
from pipeline.competition.demo_shape import add_box, add_roof
from pipeline.competition.demo_sprite import TREE_KINDS, paint_tree, stand_up
from pipeline.competition.demo_view import add_passers_by

Size = tuple[int, int]  # width, height
OUTDOORS = ("clear", "fair", "overcast", "sunset", "fog", "rain")
INDOORS = Weather((0, 0, 0), (0.34, 0.32, 0.3), (0, 0, 0), (0.4, 0.38, 0.36), (0, 0, 0), 0, 900, 1.0)


def open_sun(rng: np.random.Generator) -> SunView:
    """A sun that nothing stands in the way of."""
    direction = sun_direction(rng.uniform(-1.4, 1.4), rng.uniform(20, 60))
    camera = Camera.looking_at(direction * SUN_DISTANCE_M, (0, 0, 0), 1.0, (4, 4))
    return SunView(direction, camera, np.full((416, 416), 1e6, np.float32))


def radiance_of(pixels: np.ndarray) -> Floats:
    """Linear radiance of painted pixels (values 0 to 255)."""
    return np.asarray(np.square(np.asarray(pixels, np.float32) / 255) * 1.1, dtype=np.float32)


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


def draw_surface(rng: np.random.Generator, size: Size) -> Pixels:
    """A close-up of a material, seen askew under uneven light."""
    width, height = size
    paint = choose(rng, [*MATERIALS.values(), paint_paving, paint_turf])
    side = 420
    flat = paint(rng, side, side, vary_colour(rng, choose(rng, WALL_COLOURS), 25), float(rng.uniform(30, 110)))
    corners = np.array([(0, 0), (side, 0), (side, side), (0, side)]) + rng.uniform(-0.0, 0.3, (4, 2)) * side * (
        (1, 1),
        (-1, 1),
        (-1, -1),
        (1, -1),
    )
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    turn = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    seen = cv2.warpPerspective(flat, turn, size, flags=cv2.INTER_AREA)
    light = 0.5 + 0.9 * crop_noise(rng, height, width, 2.0, zoom=2)
    return develop(radiance_of(seen) * light[:, :, None], INDOORS, rng)


def draw_bokeh(rng: np.random.Generator, size: Size, colour: Colour) -> Floats:
    """(H, W, 3) values 0 to 255 of a background out of focus."""
    width, height = size
    soft = crop_noise(rng, height, width, 2.0, zoom=1.5)[:, :, None]
    back = np.asarray(colour) * (0.5 + 0.6 * soft) + np.asarray(bright_colour(rng)) * 0.3 * (1 - soft)
    canvas = np.ascontiguousarray(back.astype(np.float32))
    for _ in range(int(rng.integers(0, 18))):
        at = (int(rng.integers(width)), int(rng.integers(height)))
        disc = np.zeros((height, width), np.float32)
        cv2.circle(disc, at, int(max(size) * rng.uniform(0.02, 0.07)), 0.4, -1, cv2.LINE_AA)
        canvas += (np.asarray(bright_colour(rng), np.float32) - canvas) * disc[:, :, None]
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), max(size) / 90), dtype=np.float32)


def draw_plate(rng: np.random.Generator, size: Size) -> Pixels:
    """Food upon a plate upon a table, from above."""
    width, height = size
    table = MATERIALS[choose(rng, ["planks", "mosaic", "plaster"])](
        rng, height, width, vary_colour(rng, (150, 110, 80), 40), 60
    )
    centre, radius = (
        (int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.4, 0.6))),
        int(min(size) * rng.uniform(0.3, 0.46)),
    )
    cv2.circle(table, (centre[0] + 6, centre[1] + 8), radius, (50, 40, 34), -1, cv2.LINE_AA)
    for share, tone in ((1.0, 238), (0.78, 214), (0.75, 246)):
        cv2.circle(table, centre, int(radius * share), vary_colour(rng, (tone, tone, tone - 6), 6), -1, cv2.LINE_AA)
    base = bright_colour(rng)
    for _ in range(int(rng.integers(12, 60))):
        way, turn = radius * 0.66 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        at = (int(centre[0] + way * np.cos(turn)), int(centre[1] + way * np.sin(turn)))
        axes = (int(radius * rng.uniform(0.04, 0.2)) + 1, int(radius * rng.uniform(0.04, 0.14)) + 1)
        colour = vary_colour(
            rng, choose(rng, [base, (190, 120, 60), (110, 150, 60), (200, 70, 50), (236, 210, 150)]), 25
        )
        spin = float(rng.uniform(0, 180))
        cv2.ellipse(table, (at[0] + 1, at[1] + 2), axes, spin, 0, 360, darken(colour, 0.5), -1, cv2.LINE_AA)
        cv2.ellipse(table, at, axes, spin, 0, 360, colour, -1, cv2.LINE_AA)
    return develop(radiance_of(table) * (0.7 + 0.6 * crop_noise(rng, height, width, 2.0))[:, :, None], INDOORS, rng)


def draw_portrait(rng: np.random.Generator, size: Size) -> Pixels:
    """Head and shoulders of somebody before a blurred background."""
    width, height = size
    canvas = draw_bokeh(rng, size, choose(rng, WALL_COLOURS))
    skin = vary_colour(rng, choose(rng, [(232, 190, 160), (190, 140, 104), (128, 86, 62)]), 12)
    hair, coat = vary_colour(rng, choose(rng, [(44, 32, 28), (110, 74, 44), (200, 170, 120)]), 14), bright_colour(rng)
    x, y, unit = (
        int(width * rng.uniform(0.36, 0.64)),
        int(height * rng.uniform(0.34, 0.44)),
        min(size) * rng.uniform(0.15, 0.2),
    )
    cv2.ellipse(
        canvas, (x, int(y + unit * 3.1)), (int(unit * 2.1), int(unit * 1.7)), 0, 180, 360, coat, -1, cv2.LINE_AA
    )
    cv2.rectangle(canvas, (int(x - unit * 2.1), int(y + unit * 3.1)), (int(x + unit * 2.1), height), coat, -1)
    cv2.ellipse(
        canvas, (x, int(y - unit * 0.15)), (int(unit * 1.14), int(unit * 1.5)), 0, 0, 360, hair, -1, cv2.LINE_AA
    )
    cv2.rectangle(canvas, (int(x - unit * 0.4), y), (int(x + unit * 0.4), int(y + unit * 1.7)), darken(skin, 0.8), -1)
    cv2.ellipse(
        canvas, (x, int(y + unit * 0.12)), (int(unit * 0.92), int(unit * 1.24)), 0, 0, 360, skin, -1, cv2.LINE_AA
    )
    for side in (-1, 1):
        eye = (int(x + side * unit * 0.36), y)
        cv2.ellipse(canvas, eye, (int(unit * 0.15) + 1, int(unit * 0.08) + 1), 0, 0, 360, (40, 32, 30), -1, cv2.LINE_AA)
    cv2.ellipse(
        canvas,
        (x, int(y + unit * 0.66)),
        (int(unit * 0.34), int(unit * 0.12)),
        0,
        0,
        180,
        (170, 70, 70),
        -1,
        cv2.LINE_AA,
    )
    return develop(radiance_of(canvas) * (0.75 + 0.5 * crop_noise(rng, height, width, 2.0))[:, :, None], INDOORS, rng)


def draw_flower(rng: np.random.Generator, size: Size) -> Pixels:
    """Blossoms before green."""
    width, height = size
    canvas = draw_bokeh(rng, size, vary_colour(rng, (60, 100, 50), 25))
    petal, heart = bright_colour(rng), vary_colour(rng, (226, 190, 60), 25)
    for _ in range(int(rng.integers(1, 5))):
        x, y, reach = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.7), min(size) * rng.uniform(0.14, 0.32)
        cv2.line(
            canvas,
            (int(x), int(y)),
            (int(x + rng.uniform(-30, 30)), height),
            (60, 110, 50),
            max(2, int(reach / 10)),
            cv2.LINE_AA,
        )
        count = int(rng.integers(5, 14))
        for k in range(count):
            turn = 2 * np.pi * k / count
            at = (int(x + np.cos(turn) * reach * 0.6), int(y + np.sin(turn) * reach * 0.6))
            axes = (int(reach * 0.46), int(reach * 1.3 / count) + 2)
            tone = darken(petal, float(rng.uniform(0.8, 1.15)))
            cv2.ellipse(canvas, at, axes, float(np.rad2deg(turn)), 0, 360, tone, -1, cv2.LINE_AA)
        cv2.circle(canvas, (int(x), int(y)), int(reach * 0.26), heart, -1, cv2.LINE_AA)
    return develop(radiance_of(canvas), INDOORS, rng)


def draw_abstract(rng: np.random.Generator, size: Size) -> Pixels:
    """Lights out of focus, or a painting of plain shapes."""
    width, height = size
    if rng.random() < 0.5:
        return develop(radiance_of(draw_bokeh(rng, size, (30, 30, 50))) * np.float32(1.3), INDOORS, rng)
    canvas = np.full((height, width, 3), bright_colour(rng), np.float32)
    for _ in range(int(rng.integers(4, 16))):
        corners = rng.uniform(0, 1, 2) * size + rng.uniform(-0.4, 0.4, (int(rng.integers(3, 6)), 2)) * max(size)
        cv2.fillPoly(canvas, [cv2.convexHull(corners.astype(np.int32))], bright_colour(rng), cv2.LINE_AA)
    return develop(radiance_of(canvas) * (0.8 + 0.4 * crop_noise(rng, height, width, 1.0))[:, :, None], INDOORS, rng)


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
