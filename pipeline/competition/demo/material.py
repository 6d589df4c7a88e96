"""What walls, roofs and floors are made of: functions that paint (h, w, 3) uint8 pictures of a material.

Each takes (rng, height, width, colour, texels): the size in pixels, and how many pixels a metre has.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pipeline.competition.demo.noise import Colour, Floats, Pixels, crop_noise, mix, vary_colour

Material = Callable[[np.random.Generator, int, int, Colour, float], Pixels]


def tint(shade: Floats, colour: Colour) -> Pixels:
    """(h, w, 3): the colour times the shade (h, w), which is about 1."""
    return np.clip(shade[:, :, None] * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)


def paint_plaster(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Rendered wall with stains that have run down."""
    stains = crop_noise(rng, height, width, 1.6, zoom=max(1.0, texels / 10))
    streaks = cv2.resize(crop_noise(rng, 8, max(4, width // 3), 0.8), (width, height))
    return tint(0.86 + 0.16 * stains + 0.06 * streaks, colour)


def lay_blocks(rng: np.random.Generator, height: int, width: int, block: tuple[float, float], spread: float) -> Floats:
    """(h, w) shades near 1 of blocks (width, height in pixels) in running bond; joints darker, upper edges lit."""
    rows = (np.arange(height) / block[1]).astype(int)
    shift = (rows % 2) * 0.5 + rng.uniform(-0.08, 0.08, rows.max() + 1)[rows]
    place = np.arange(width)[None, :] / block[0] + shift[:, None] + 1
    columns = place.astype(int)
    shades = 1 + spread * rng.uniform(-1, 1, (rows.max() + 1, int(columns.max()) + 1)).astype(np.float32)
    wall = shades[rows[:, None], columns]
    joint = max(0.8, 0.05 * block[1])
    upright = (place - columns) * block[0] < joint
    level = (np.arange(height) % block[1])[:, None]
    wall = np.where(upright | (level < joint), wall * 0.72, wall)
    return np.asarray(np.where((level >= joint) & (level < 2 * joint), wall * 1.06, wall), dtype=np.float32)


def paint_brick(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Courses of small bricks."""
    wall = lay_blocks(rng, height, width, (0.55 * texels, 0.2 * texels), 0.2)
    return tint(wall * (0.9 + 0.2 * crop_noise(rng, height, width, 1.5)), colour)


def paint_ashlar(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Courses of large cut stones."""
    wall = lay_blocks(rng, height, width, (1.5 * texels, 0.75 * texels), 0.12)
    return tint(wall * (0.88 + 0.2 * crop_noise(rng, height, width, 1.0)), colour)


def paint_rubble(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Field stones: blocks whose joints have been shaken out of line."""
    wall = lay_blocks(rng, height, width, (0.9 * texels, 0.5 * texels), 0.28)
    sway = (crop_noise(rng, height, width, 1.2, zoom=2) - 0.5) * texels * 0.5
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    shaken = cv2.remap(wall, x + sway, y + sway.T[:1].mean() - sway, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return tint(np.asarray(shaken, dtype=np.float32) * (0.85 + 0.25 * crop_noise(rng, height, width, 0.8)), colour)


def paint_stripes(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Courses of two marbles in turn."""
    wall = paint_ashlar(rng, height, width, colour, texels)
    second = vary_colour(rng, mix(colour, (70, 75, 80), 0.62), 20)
    dark = ((np.arange(height) / (0.75 * texels)).astype(int) % 2 == 1)[:, None, None]
    return np.where(dark, tint(wall.mean(axis=2, dtype=np.float32) / 200, second), wall)


def paint_planks(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Upright boards."""
    boards = (np.arange(width) / (0.35 * texels)).astype(int)
    shade = 1 + 0.16 * rng.uniform(-1, 1, boards.max() + 1)[boards]
    shade = np.where((np.arange(width) % (0.35 * texels)) < max(1.0, 0.04 * texels), 0.6, shade)
    grain = cv2.resize(crop_noise(rng, max(2, height // 12), width, 0.5), (width, height))
    return tint((shade[None, :] * (0.86 + 0.25 * grain)).astype(np.float32), colour)


def paint_panels(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Large smooth slabs, as of fair-faced concrete."""
    rows = (np.arange(height) / (1.6 * texels)).astype(int)
    columns = (np.arange(width) / (2.4 * texels)).astype(int)
    shades = 1 + 0.06 * rng.uniform(-1, 1, (rows.max() + 1, columns.max() + 1))
    wall = shades[rows[:, None], columns] * (0.93 + 0.12 * crop_noise(rng, height, width, 1.6))
    seam = ((np.arange(height) % (1.6 * texels)) < 1.2)[:, None] | ((np.arange(width) % (2.4 * texels)) < 1.2)
    return tint(np.where(seam, wall * 0.75, wall).astype(np.float32), colour)


def paint_mosaic(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Glazed tiles with a figure of two or three colours, repeated."""
    side = max(6, int(1.1 * texels))
    y, x = np.mgrid[0:side, 0:side] * 2 / side - 1
    petals = int(rng.choice([4, 6, 8]))
    figure = np.hypot(x, y) < 0.55 + 0.3 * np.cos(petals * np.arctan2(y, x) + rng.uniform(0, 6))
    corner = np.hypot(np.abs(x) - 1, np.abs(y) - 1) < rng.uniform(0.3, 0.6)
    second, third = vary_colour(rng, (235, 230, 215), 15), vary_colour(rng, mix(colour, (230, 170, 60), 0.7), 40)
    tile = np.where(corner[:, :, None], third, np.where(figure[:, :, None], colour, second))
    wall = np.tile(tile, (height // side + 1, width // side + 1, 1))[:height, :width]
    grout = ((np.arange(height) % side) < 1)[:, None] | ((np.arange(width) % side) < 1)
    shade = np.where(grout, 0.8, 0.9 + 0.12 * crop_noise(rng, height, width, 0.8))
    return np.clip(wall * shade[:, :, None], 0, 255).astype(np.uint8)


def paint_timber(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Plaster between dark beams, with crosses."""
    wall = paint_plaster(rng, height, width, mix(colour, (240, 232, 210), 0.6), texels)
    beam = vary_colour(rng, (74, 48, 34), 14)
    thick = max(2, int(0.24 * texels))
    step_x, step_y = max(6, int(1.7 * texels)), max(6, int(1.9 * texels))
    for top in range(0, height, step_y):
        for left in range(0, width, step_x):
            if rng.random() < 0.3:
                cv2.line(wall, (left, top), (left + step_x, top + step_y), beam, thick - 1, cv2.LINE_AA)
                cv2.line(wall, (left + step_x, top), (left, top + step_y), beam, thick - 1, cv2.LINE_AA)
            cv2.line(wall, (left, top), (left, top + step_y), beam, thick)
        cv2.line(wall, (0, top), (width, top), beam, thick + 1)
    return wall


def paint_shingles(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Roof tiles: overlapping rows, each with a shaded lower edge."""
    wall = lay_blocks(rng, height, width, (0.42 * texels, 0.5 * texels), 0.16)
    fall = 1.1 - 0.3 * ((np.arange(height) % (0.5 * texels)) / (0.5 * texels))[:, None]
    return tint((wall * fall * (0.8 + 0.3 * crop_noise(rng, height, width, 1.4))).astype(np.float32), colour)


def paint_metal(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Sheet roofing with standing seams."""
    phase = (np.arange(width) % (0.8 * texels)) / (0.8 * texels)
    seam = np.where(phase < 0.08, 1.25, np.where(phase < 0.16, 0.7, 1.0))
    return tint((seam[None, :] * (0.8 + 0.3 * crop_noise(rng, height, width, 1.7))).astype(np.float32), colour)


def paint_paving(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Slabs in a chequer of two close shades; it tiles when a side is a whole number of two slabs."""
    slab = max(2, round(0.75 * texels))
    rows, columns = np.arange(height) // slab, np.arange(width) // slab
    chequer = (rows[:, None] + columns[None, :]) % 2
    slabs = rng.uniform(-1, 1, (rows.max() + 1, columns.max() + 1))[rows[:, None], columns]
    shade = 0.93 + 0.12 * chequer + 0.05 * slabs
    joint = ((np.arange(height) % slab) < 1)[:, None] | ((np.arange(width) % slab) < 1)
    return tint(np.where(joint, shade * 0.8, shade).astype(np.float32), colour)


def paint_turf(rng: np.random.Generator, height: int, width: int, colour: Colour, texels: float) -> Pixels:
    """Grass, gravel or sand, by the colour: fine grain upon broad patches."""
    grain = crop_noise(rng, height, width, 0.3) * 0.45 + crop_noise(rng, height, width, 1.5) * 0.25
    return tint((0.65 + grain).astype(np.float32), colour)


MATERIALS: dict[str, Material] = {
    "plaster": paint_plaster,
    "brick": paint_brick,
    "ashlar": paint_ashlar,
    "rubble": paint_rubble,
    "stripes": paint_stripes,
    "planks": paint_planks,
    "panels": paint_panels,
    "mosaic": paint_mosaic,
    "timber": paint_timber,
}
ROOFINGS: dict[str, Material] = {"shingles": paint_shingles, "metal": paint_metal}
