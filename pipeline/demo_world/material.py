"""Materials of walls, roofs and floors: functions that paint (h, w, 3) uint8 pixels.

Each takes (rng, (height, width) in pixels, colour, pixels per metre).
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from pipeline.demo_world import palette
from pipeline.demo_world.camera import Pixels
from pipeline.demo_world.paint import crop_noise, draw_line
from pipeline.demo_world.palette import Colour

Shape = tuple[int, int]
Material = Callable[[np.random.Generator, Shape, Colour, float], Pixels]
BLOCKS = {  # width and height in metres, spread of the shades, slope of the stains' spectrum
    "brick": (0.55, 0.2, 0.2, 1.5),
    "ashlar": (1.5, 0.75, 0.12, 1.0),
    "panels": (2.4, 1.6, 0.06, 1.6),
    "planks": (0.35, 40.0, 0.16, 0.5),
    "shingles": (0.42, 0.5, 0.16, 1.4),
    "metal": (0.8, 40.0, 0.04, 1.7),
}
SLAB_M, BEAMS_M, BEAM_M = 0.75, (1.7, 1.9), 0.24


def tint(shade: np.ndarray, colour: Colour) -> Pixels:
    """(h, w, 3): the colour times the shade (h, w), which is about 1."""
    return np.clip(shade[:, :, None].astype(np.float32) * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)


def paint_blocks(kind: str, rng: np.random.Generator, shape: Shape, colour: Colour, texels: float) -> Pixels:
    """One of BLOCKS in running bond, with dark joints and lit upper edges."""
    width, height, spread, slope = BLOCKS[kind]
    along = np.arange(shape[0]) / (height * texels)
    rows = along.astype(int)
    shift = (rows % 2) * 0.5 + rng.uniform(-0.08, 0.08, rows.max() + 1)[rows]
    across = np.arange(shape[1])[None, :] / (width * texels) + shift[:, None] + 1
    columns = across.astype(int)
    shades = 1 + spread * rng.uniform(-1, 1, (rows.max() + 1, int(columns.max()) + 1)).astype(np.float32)
    joint, level = max(0.8, 0.05 * texels * min(width, height)), ((along - rows) * height * texels)[:, None]
    dark = ((across - columns) * width * texels < joint) | (level < joint)
    wall = shades[rows[:, None], columns] * np.where(dark, 0.72, np.where(level < 2 * joint, 1.06, 1.0))
    if kind == "shingles":  # the lower edge of each row is in the shade
        wall *= (1.1 - 0.3 * (along - rows))[:, None]
    return tint(wall * (0.88 + 0.22 * crop_noise(rng, shape, slope)), colour)


def paint_plaster(rng: np.random.Generator, shape: Shape, colour: Colour, texels: float) -> Pixels:
    """Rendered wall with stains that have run down."""
    streaks = cv2.resize(crop_noise(rng, (8, max(4, shape[1] // 3)), 0.8), shape[::-1])
    return tint(0.86 + 0.16 * crop_noise(rng, shape, 1.6, max(1.0, texels / 10)) + 0.06 * streaks, colour)


def paint_timber(rng: np.random.Generator, shape: Shape, colour: Colour, texels: float) -> Pixels:
    """Plaster between dark beams, with crosses."""
    wall = paint_plaster(rng, shape, palette.mix(colour, palette.IVORY, 0.6), texels)
    beam, thick = palette.vary(rng, palette.BEAM, 14), max(2, int(BEAM_M * texels))
    across, along = (max(6, int(metres * texels)) for metres in BEAMS_M)
    for top in range(0, shape[0], along):
        for left in range(0, shape[1], across):
            if rng.random() < 0.3:
                draw_line(wall, (left, top), (left + across, top + along), beam, thick - 1)
                draw_line(wall, (left + across, top), (left, top + along), beam, thick - 1)
            draw_line(wall, (left, top), (left, top + along), beam, thick)
        draw_line(wall, (0, top), (shape[1], top), beam, thick + 1)
    return wall


def paint_paving(rng: np.random.Generator, shape: Shape, colour: Colour, texels: float) -> Pixels:
    """Slabs in a chequer of two similar shades; it tiles when a side is an even number of slabs."""
    slab = max(2, round(SLAB_M * texels))
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    slabs = rng.uniform(-1, 1, (shape[0] // slab + 1, shape[1] // slab + 1))[y // slab, x // slab]
    shade = 0.93 + 0.12 * ((y // slab + x // slab) % 2) + 0.05 * slabs
    return tint(np.where((y % slab < 1) | (x % slab < 1), shade * 0.8, shade), colour)


def paint_turf(rng: np.random.Generator, shape: Shape, colour: Colour, texels: float) -> Pixels:
    """Grass, gravel or sand, according to the colour: fine grain on broad patches."""
    return tint(0.65 + crop_noise(rng, shape, 0.3) * 0.45 + crop_noise(rng, shape) * 0.25, colour)


BLOCK_MATERIALS: dict[str, Material] = {kind: partial(paint_blocks, kind) for kind in BLOCKS}
ROOFINGS = {kind: BLOCK_MATERIALS.pop(kind) for kind in ("shingles", "metal")}
MATERIALS = {"plaster": paint_plaster, "timber": paint_timber} | BLOCK_MATERIALS
