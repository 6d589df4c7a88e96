"""A landmark inside: a hall with pillars, lamps, and something to look at on the end wall.

It shares no surface with the outside.
"""

from functools import lru_cache

import cv2
import numpy as np

from pipeline.demo_world import palette, shape
from pipeline.demo_world.building import Extent, Place
from pipeline.demo_world.camera import Mesh, Texture
from pipeline.demo_world.facade import WallStyle, draw_style, outline_opening, paint_wall
from pipeline.demo_world.material import MATERIALS, paint_paving
from pipeline.demo_world.paint import choose, fill_box, fill_disc, fill_polygon, make_generator
from pipeline.demo_world.palette import Colour, darken
from pipeline.demo_world.shape import Plot, Point

ARCHES = ("round", "pointed", "square")
CEILINGS = ("plaster", "planks", "panels", "brick", "ashlar")
WIDTH_M, LENGTH_M, HEIGHT_M = (11, 19), (20, 36), (6.5, 12)
PANES, PANELS = (5, 12), (3, 7)  # across the feature of the end wall
PANE_GLOW, PANEL_GLOW, LAMP_GLOW = 235.0, 30.0, 255.0
LAMP = ((0.05, -0.5), (0.5, -0.35), (0.9, 0.0), (0.6, 0.15), (0.05, 0.4), (0.03, 6.0))  # radius and height


def paint_feature(rng: np.random.Generator, size_m: Point, style: WallStyle, texels: float) -> Texture:
    """The end wall with a window of stained glass or a screen of gilded panels in an arch."""
    columns, rows = (int(metres * texels) for metres in size_m)
    base = MATERIALS[style.material](rng, (rows, columns), style.colour, texels)
    wall = np.ascontiguousarray(np.dstack([base, np.zeros((rows, columns), np.uint8)]))
    wide, tall, glazed = columns * rng.uniform(0.35, 0.6), rows * rng.uniform(0.5, 0.7), rng.random() < 0.5
    hole, at = outline_opening(choose(rng, ARCHES), wide, tall), np.array([columns / 2, rows * 0.12 + tall / 2])
    fill_polygon(wall, hole * 1.16, style.trim, at)
    inside, canvas = np.zeros((rows, columns), np.uint8), np.full_like(wall, (*palette.LEAD, 0))
    fill_polygon(inside, hole, (255,), at)
    side, glow = wide / rng.integers(*(PANES if glazed else PANELS)), PANE_GLOW if glazed else PANEL_GLOW
    paints = [(*palette.bright(rng), glow) for _ in range(5)]
    gold = (*palette.vary(rng, palette.GOLD, 16), PANEL_GLOW)
    for x in np.arange(0, columns, side).tolist():
        for y in np.arange(0, rows, side).tolist():
            fill_box(canvas, (x + 1, y + 1, x + side - 1, y + side - 1), choose(rng, paints) if glazed else paints[0])
            if not glazed:
                fill_disc(canvas, x + side / 2, y + side / 2, side / 3, gold)
    cv2.copyTo(canvas, inside, wall)
    return Texture.from_pixels(wall)


def paint_floor(rng: np.random.Generator) -> Texture:
    """A floor of boards or of slabs, often a chequer of two colours, that tiles."""
    colour, tile_m = palette.pick(rng, palette.WALLS, 14), float(rng.uniform(3.5, 7.0))
    if rng.random() < 0.3:
        boards = MATERIALS["planks"](rng, (224, 224), palette.mix(colour, palette.WOOD, 0.6), 32)
        return Texture.from_pixels(boards, tile_m=tile_m)
    slabs, slab = paint_paving(rng, (192, 192), colour, 32), np.arange(192) // 24
    second = np.array(palette.bright(rng) if rng.random() < 0.4 else darken(colour, 0.45))
    chequer = ((slab[:, None] + slab) % 2 == 0)[:, :, None] & (rng.random() < 0.7)
    return Texture.from_pixels(np.where(chequer, slabs * 0.25 + second * 0.75, slabs).astype(np.uint8), tile_m=tile_m)


def furnish(rng: np.random.Generator, mesh: Mesh, plot: Plot, height: float, trim: Colour) -> None:
    """Add beams, pillars along the sides, an altar, lamps, and perhaps benches and a carpet."""
    width, length = plot.width, plot.depth
    bays, aisle = max(3, round(length / rng.uniform(4, 6.5))), width * rng.uniform(0.26, 0.34)
    colours = palette.vary(rng, trim, 20), palette.vary(rng, palette.WOOD, 14), palette.bright(rng), darken(trim, 0.5)
    stone, wood, cloth, beam = (Texture.from_colour(colour) for colour in colours)
    thick, pillar = float(rng.uniform(0.6, 1.5)), choose(rng, ["column", "drum"])
    for y in ((np.arange(bays) - (bays - 1) / 2) * length / bays).tolist():
        shape.add_floor(mesh, Plot(0, y, width, 0.6), height - 0.4, beam, downward=True)
        for x in (-aisle, aisle):
            shape.add_turned(mesh, Plot(x, y, thick, thick), (0, height), pillar, stone)
    if rng.random() < 0.55:
        for y in np.arange(-length * 0.25, length * 0.28, 1.7).tolist():
            for x in (-aisle / 2, aisle / 2):
                shape.add_box(mesh, Plot(x, y, aisle * 0.66, 0.5), (0, 0.9), [wood], wood)
    if rng.random() < 0.5:
        shape.add_floor(mesh, Plot(0, 0, 2, length), 0.02, cloth)
    shape.add_box(mesh, Plot(0, length / 2 - 2.5, min(4.0, width * 0.25), 1.3), (0, 1.2), [cloth], stone)
    lamp, level = Texture.from_colour(palette.FLAME, LAMP_GLOW), height * rng.uniform(0.55, 0.75)
    for y in np.linspace(-length * 0.3, length * 0.34, int(rng.integers(2, 4))).tolist():
        shape.add_lathe(mesh, (0, y), [(radius, level + z) for radius, z in LAMP], 10, lamp)


@lru_cache(maxsize=3)
def raise_hall(place: Place) -> tuple[Mesh, Extent]:
    """The inside of a landmark and its extent (width, length, height)."""
    rng, texels = make_generator(place.seed, "hall", place.landmark), place.texels
    width, length, height = (float(rng.uniform(*limits)) for limits in (WIDTH_M, LENGTH_M, HEIGHT_M))
    picks = rng.choice(len(palette.WALLS), 3, replace=False).tolist()
    flank, end, above = (palette.vary(rng, palette.WALLS[pick], 16) for pick in picks)
    mesh, plot, trim = Mesh(), Plot(0, 0, width, length), palette.pick(rng, palette.TRIMS, 30)
    entry = draw_style(rng, trim, end, door=True)
    feature, front = paint_feature(rng, (width, height), entry, texels), paint_wall(rng, (width, height), entry, texels)
    side = paint_wall(rng, (length, height), draw_style(rng, trim, flank, door=False), texels)
    tiles = MATERIALS[choose(rng, CEILINGS)](rng, (224, 224), above, 24)
    ceiling = Texture.from_pixels(tiles, tile_m=float(rng.uniform(4, 9)))
    shape.add_prism(mesh, plot.ring()[::-1], (0, height), [feature, side, front, side])  # clockwise: seen from inside
    shape.add_floor(mesh, plot, 0, paint_floor(rng))
    shape.add_floor(mesh, plot, height, ceiling, downward=True)
    furnish(rng, mesh, plot, height, trim)
    return mesh, (width, length, height)
