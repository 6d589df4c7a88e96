"""Photographs of no landmark that need no depth: surfaces, plates of food, faces, flowers, lights and paintings."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.competition.demo.exposure import develop, radiance_of
from pipeline.competition.demo.facade import WALL_COLOURS
from pipeline.competition.demo.light import INDOORS
from pipeline.competition.demo.material import MATERIALS, paint_paving, paint_turf
from pipeline.competition.demo.noise import Colour, Floats, Pixels, choose, crop_noise, darken, vary_colour
from pipeline.competition.demo.ornament import bright_colour

Size = tuple[int, int]  # width, height


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
