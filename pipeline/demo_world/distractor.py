"""Photographs of no landmark: streets, parks, landscapes, seas and plates of food."""

from collections.abc import Callable

import numpy as np

from pipeline.demo_world import palette, shape
from pipeline.demo_world.camera import Camera, Floats, Mesh, Pixels, Texture
from pipeline.demo_world.facade import draw_style, paint_wall
from pipeline.demo_world.light import INDOORS, WEATHERS, aim_sun, develop, expose, paint_sky, radiance_of
from pipeline.demo_world.material import MATERIALS, paint_turf
from pipeline.demo_world.paint import choose, crop_noise, fill_disc, fill_ellipse, fill_polygon
from pipeline.demo_world.palette import Colour, darken
from pipeline.demo_world.shape import Plot
from pipeline.demo_world.site import TREE_ASPECT, TREE_VARIANTS, TREES, add_passers_by, paint_tree, stand_up

Size = tuple[int, int]  # width, height
OUTDOORS = ("clear", "fair", "overcast", "sunset", "fog", "rain")
HOUSES = ("plaster", "brick", "plaster", "timber")
OPEN_GROUND = Plot(0, 120, 560, 400)


def walk_out(rng: np.random.Generator, mesh: Mesh, ground: Colour, tile_m: float, size: Size) -> Pixels:
    """The photograph of a mesh on open ground, in some weather, with people."""
    weather, target = WEATHERS[choose(rng, OUTDOORS)], (rng.uniform(-6, 6), 30, rng.uniform(2, 6))
    turf = paint_turf(rng, (512, 512), ground, 32)
    shape.add_floor(mesh, OPEN_GROUND, 0, Texture.from_pixels(turf, tile_m=tile_m))
    camera = Camera.looking_at((rng.uniform(-2, 2), -7, 1.65), target, max(size) * rng.uniform(0.7, 1.1), size)
    add_passers_by(rng, mesh, camera, 30, traffic=True)
    return expose(mesh, weather, aim_sun(rng.uniform(-1.4, 1.4), rng.uniform(20, 60)), camera, rng)


def draw_street(rng: np.random.Generator, size: Size) -> Pixels:
    """A street of houses such as stand anywhere."""
    mesh, half = Mesh(), float(rng.uniform(5, 9))
    tiles = Texture.from_colour(palette.pick(rng, palette.ROOFS, 14))
    for side in (-1, 1):
        start = -4.0
        while start < 75:
            width, height = float(rng.uniform(7, 13)), float(rng.uniform(6, 15))
            style = draw_style(rng, palette.TRIMS[0], palette.pick(rng, palette.WALLS, 18), door=rng.random() < 0.5)
            style = style._replace(ornament=None, material=choose(rng, HOUSES))
            plot = Plot(side * (half + 5), start + width / 2, 10, width)
            shape.add_box(mesh, plot, (0, height), [paint_wall(rng, (width, height), style, 10)], tiles)
            shape.add_roof(mesh, plot, (height, height + rng.uniform(1.5, 4)), (0, 0.5), (tiles, tiles))
            start += width + (rng.uniform(2, 6) if rng.random() < 0.25 else 0)
    return walk_out(rng, mesh, palette.ASPHALT, 8.0, size)


def draw_park(rng: np.random.Generator, size: Size) -> Pixels:
    """Trees on a meadow."""
    mesh, kind = Mesh(), choose(rng, TREES)
    for _ in range(int(rng.integers(3, 34))):
        foot, height = np.array([rng.uniform(-40, 40), rng.uniform(2, 70), 0.0]), float(rng.uniform(4, 11))
        tree = paint_tree(kind, int(rng.integers(TREE_VARIANTS)))
        stand_up(mesh, foot, (height * TREE_ASPECT, height), tree, np.array([0, -7, 1.65]))
    return walk_out(rng, mesh, palette.vary(rng, palette.GROUNDS[0], 18), 12.0, size)


def cover_below(rng: np.random.Generator, image: Floats, top: np.ndarray, colour: Colour, slope: float) -> None:
    """Cover each column of the image from row top (W,) downwards with a mottled colour."""
    mottled = radiance_of(np.asarray(colour)) * (0.7 + 0.5 * crop_noise(rng, image.shape, slope))[:, :, None]
    np.copyto(image, mottled, where=(np.arange(len(image))[:, None] > top)[:, :, None])


def draw_landscape(rng: np.random.Generator, size: Size) -> Pixels:
    """Ranges of hills below a sky, or the sea with sails and perhaps a beach."""
    (width, height), weather = size, WEATHERS[choose(rng, OUTDOORS)]
    camera = Camera.looking_at((0, 0, 0), (0, 1, 0.02), max(size) * 0.9, size)
    image = paint_sky(camera, weather, aim_sun(np.pi + rng.uniform(-0.6, 0.6), 16), rng)
    ground, layers = palette.pick(rng, palette.HILLS, 10), int(rng.integers(3, 6))
    if rng.random() < 0.5:
        for k in range(layers):
            top = 0.3 + 0.42 * k / layers + 0.3 * crop_noise(rng, (1, width), 1.6 - 0.15 * k)[0] * rng.uniform(0.5, 1)
            far = palette.mix(ground, palette.HAZE, 0.75 * (1 - (k + 1) / layers))
            cover_below(rng, image, height * top, far, 1.3)
        return develop(image, weather, rng)
    cover_below(rng, image, np.full(width, height * 0.5), palette.vary(rng, palette.SEA, 30), 0.7)
    for x, tall in rng.uniform((0.1, 0.04), (0.9, 0.16), (int(rng.integers(0, 4)), 2)) * size:
        fill_polygon(image, [(0, -tall), (tall * 0.5, 0), (0, 0)], (0.9, 0.88, 0.84), (x, height * 0.5))
    shore = rng.uniform(0.65, 1.3) + 0.15 * crop_noise(rng, (1, width), 2.0)[0]  # from 1 on there is no beach
    cover_below(rng, image, height * shore, palette.SAND, 0.5)
    return develop(image, weather, rng)


def draw_plate(rng: np.random.Generator, size: Size) -> Pixels:
    """Food on a plate on a table, from above."""
    kind, wood = choose(rng, ["planks", "panels", "plaster", "timber"]), palette.vary(rng, palette.WOOD, 50)
    table, foods = MATERIALS[kind](rng, size[::-1], wood, 60), (palette.bright(rng), *palette.FOODS)
    (x, y), radius = np.array(size) * rng.uniform((0.35, 0.4), (0.65, 0.6)), min(size) * rng.uniform(0.3, 0.46)
    fill_disc(table, x + 6, y + 8, radius, palette.SHADE)
    for share, tone in ((1.0, 0.93), (0.78, 0.84), (0.75, 0.96)):
        fill_disc(table, x, y, radius * share, darken(palette.WHITE, tone))
    for _ in range(int(rng.integers(12, 60))):
        at, axes = np.array([x, y]) + rng.normal(0, 0.25, 2) * radius, rng.uniform(0.04, (0.2, 0.14)) * radius + 1
        colour, spin = palette.pick(rng, foods, 25), rng.uniform(0, np.pi)
        fill_ellipse(table, at + 1.5, axes, darken(colour, 0.5), spin)
        fill_ellipse(table, at, axes, colour, spin)
    light = radiance_of(table) * (0.6 + 0.8 * crop_noise(rng, table.shape, 2.0))[:, :, None]
    return develop(light, INDOORS, rng)


DISTRACTORS: dict[str, Callable[[np.random.Generator, Size], Pixels]] = {
    "street": draw_street, "park": draw_park, "landscape": draw_landscape, "plate": draw_plate,
}  # fmt: skip
