"""What makes a wall memorable: rose windows, clocks, murals, friezes, banners, niches.

Each function paints upon a wall (h, w, 4) and returns the box (left, top, right, bottom in pixels) that it has taken.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pipeline.competition.demo.noise import Colour, Pixels, Vectors, darken, mix, vary_colour

Ornament = Callable[[np.random.Generator, Pixels, Colour, Colour, float], Vectors]


def rgba(colour: Colour, glow: float = 0.0) -> tuple[float, float, float, float]:
    """The colour with its emission, as OpenCV's drawing functions take it."""
    return (*colour, glow)


def bright_colour(rng: np.random.Generator) -> Colour:
    """A saturated colour."""
    hue = np.array([[[rng.integers(180), rng.integers(90, 200), rng.integers(110, 230)]]], np.uint8)
    red, green, blue = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return float(red), float(green), float(blue)


def paint_rose(rng: np.random.Generator, wall: Pixels, trim: Colour, colour: Colour, texels: float) -> Vectors:
    """A round window of stained glass with petals."""
    rows, columns = wall.shape[:2]
    radius = min(rows * 0.2, columns * 0.16, 4.5 * texels)
    x, y = columns / 2, rows * 0.3
    petals = int(rng.choice([6, 8, 10, 12, 16]))
    glass = [bright_colour(rng) for _ in range(3)]
    centre = (int(x), int(y))
    cv2.circle(wall, (centre[0] + 2, centre[1] + 3), int(radius * 1.2), rgba(darken(colour, 0.55)), -1, cv2.LINE_AA)
    cv2.circle(wall, centre, int(radius * 1.2), rgba(trim), -1, cv2.LINE_AA)
    cv2.circle(wall, centre, int(radius), rgba(darken(trim, 0.35)), -1, cv2.LINE_AA)
    for ring, size in ((0.72, 0.8), (0.4, 0.5)):
        for k in range(petals):
            angle = 2 * np.pi * (k + (ring < 0.5) / 2) / petals
            at = (int(x + np.cos(angle) * radius * ring), int(y + np.sin(angle) * radius * ring))
            cv2.circle(
                wall, at, max(1, int(radius * ring * size * 2.6 / petals)), rgba(glass[k % 3], 200), -1, cv2.LINE_AA
            )
    cv2.circle(wall, centre, max(1, int(radius * 0.17)), rgba(glass[0], 220), -1, cv2.LINE_AA)
    return np.array([x - radius * 1.25, y - radius * 1.25, x + radius * 1.25, y + radius * 1.25])


def paint_clock(rng: np.random.Generator, wall: Pixels, trim: Colour, colour: Colour, texels: float) -> Vectors:
    """A clock face."""
    rows, columns = wall.shape[:2]
    radius = min(rows * 0.14, columns * 0.2, 3.0 * texels)
    x, y = columns / 2, rows * 0.24
    face = vary_colour(rng, (238, 232, 214) if rng.random() < 0.6 else (40, 50, 80), 12)
    hand = (30.0, 28.0, 30.0) if sum(face) > 380 else (230.0, 190.0, 90.0)
    for share, paint, glow in ((1.25, darken(colour, 0.5), 0), (1.18, trim, 0), (1.0, face, 180)):
        cv2.circle(wall, (int(x), int(y)), int(radius * share), rgba(paint, glow), -1, cv2.LINE_AA)
    for k in range(12):
        way = np.array([np.sin(k * np.pi / 6), np.cos(k * np.pi / 6)]) * radius
        ends = [(int(x + way[0] * r), int(y - way[1] * r)) for r in (0.8, 0.93)]
        cv2.line(wall, ends[0], ends[1], rgba(hand), max(1, int(radius / 14)), cv2.LINE_AA)
    for length, angle in ((0.55, rng.uniform(0, 6)), (0.82, rng.uniform(0, 6))):
        tip = (int(x + np.sin(angle) * radius * length), int(y - np.cos(angle) * radius * length))
        cv2.line(wall, (int(x), int(y)), tip, rgba(hand), max(1, int(radius / 10)), cv2.LINE_AA)
    return np.array([x - radius * 1.3, y - radius * 1.3, x + radius * 1.3, y + radius * 1.3])


def paint_mural(rng: np.random.Generator, wall: Pixels, trim: Colour, colour: Colour, texels: float) -> Vectors:
    """A large painting of shapes in four colours."""
    rows, columns = wall.shape[:2]
    wide, tall = int(columns * rng.uniform(0.3, 0.5)), int(rows * rng.uniform(0.35, 0.5))
    left, top = (columns - wide) // 2, int(rows * 0.14)
    paints = [bright_colour(rng) for _ in range(4)]
    picture = np.full((tall, wide, 4), rgba(paints[0])).astype(np.uint8)
    for k in range(int(rng.integers(6, 14))):
        at = (int(rng.integers(wide)), int(rng.integers(tall)))
        size = int(rng.uniform(0.08, 0.3) * min(wide, tall)) + 1
        paint = rgba(paints[1 + k % 3])
        if rng.random() < 0.5:
            cv2.circle(picture, at, size, paint, -1, cv2.LINE_AA)
        else:
            corners = np.array(at) + rng.uniform(-2, 2, (3, 2)) * size
            cv2.fillPoly(picture, [corners.astype(np.int32)], paint, cv2.LINE_AA)
    wall[top : top + tall, left : left + wide] = picture
    cv2.rectangle(wall, (left, top), (left + wide, top + tall), rgba(trim), max(2, int(0.3 * texels)))
    return np.array([left, top, left + wide, top + tall])


def paint_frieze(rng: np.random.Generator, wall: Pixels, trim: Colour, colour: Colour, texels: float) -> Vectors:
    """A band of repeated figures across the whole wall."""
    rows, columns = wall.shape[:2]
    tall = int(max(6, min(2.6 * texels, rows * 0.2)))
    top = int(0.75 * texels)
    ground, figure = bright_colour(rng), mix(trim, (255, 250, 230), 0.4)
    cv2.rectangle(wall, (0, top), (columns, top + tall), rgba(mix(ground, trim, 0.25)), -1)
    kind = int(rng.integers(3))
    for x in range(tall // 2, columns, tall):
        at = (x, top + tall // 2)
        if kind == 0:
            cv2.circle(wall, at, tall // 3, rgba(figure), -1, cv2.LINE_AA)
            cv2.circle(wall, at, tall // 6, rgba(darken(ground, 0.7)), -1, cv2.LINE_AA)
        elif kind == 1:
            shape = np.array([(x, top + 2), (x + tall // 2, at[1]), (x, top + tall - 2), (x - tall // 2, at[1])])
            cv2.fillPoly(wall, [shape.astype(np.int32)], rgba(figure), cv2.LINE_AA)
        else:
            cv2.ellipse(
                wall, (x, top + tall), (tall // 2 - 1, int(tall * 0.8)), 0, 180, 360, rgba(figure), -1, cv2.LINE_AA
            )
    return np.array([0, top, columns, top + tall])


def paint_banners(rng: np.random.Generator, wall: Pixels, trim: Colour, colour: Colour, texels: float) -> Vectors:
    """Long cloths hung from the cornice."""
    rows, columns = wall.shape[:2]
    count = int(rng.integers(2, 6))
    tall, top = rows * rng.uniform(0.4, 0.6), int(0.8 * texels)
    cloth, device = bright_colour(rng), bright_colour(rng)
    half = columns / count * 0.17
    for k in range(count):
        x = columns * (k + 0.5) / count
        drop = np.array(
            [(x - half, top), (x + half, top), (x + half, top + tall), (x, top + tall * 0.88), (x - half, top + tall)]
        )
        cv2.fillPoly(wall, [(drop + 3).astype(np.int32)], rgba(darken(colour, 0.55)), cv2.LINE_AA)
        cv2.fillPoly(wall, [drop.astype(np.int32)], rgba(cloth), cv2.LINE_AA)
        cv2.circle(wall, (int(x), int(top + tall * 0.4)), max(1, int(half * 0.55)), rgba(device), -1, cv2.LINE_AA)
        cv2.line(wall, (int(x), top), (int(x), int(top + tall * 0.2)), rgba(device), max(1, int(half / 3)))
    return np.array([0, top, columns, top + tall])


def paint_niches(rng: np.random.Generator, wall: Pixels, trim: Colour, colour: Colour, texels: float) -> Vectors:
    """A row of round-headed niches with figures of stone."""
    rows, columns = wall.shape[:2]
    tall = min(3.6 * texels, rows * 0.24)
    count = max(3, int(columns / (tall * 0.75)))
    top = rows * 0.4
    for k in range(count):
        x, half = columns * (k + 0.5) / count, tall * 0.22
        cv2.ellipse(
            wall, (int(x), int(top + half)), (int(half), int(half)), 0, 180, 360, rgba(darken(colour, 0.38)), -1
        )
        cv2.rectangle(
            wall, (int(x - half), int(top + half)), (int(x + half), int(top + tall)), rgba(darken(colour, 0.38)), -1
        )
        robe = np.array(
            [
                (x - half * 0.35, top + half),
                (x + half * 0.35, top + half),
                (x + half * 0.6, top + tall),
                (x - half * 0.6, top + tall),
            ]
        )
        cv2.fillPoly(wall, [robe.astype(np.int32)], rgba(vary_colour(rng, trim, 18)), cv2.LINE_AA)
        cv2.circle(wall, (int(x), int(top + half * 0.75)), max(1, int(half * 0.33)), rgba(trim), -1, cv2.LINE_AA)
    return np.array([0, top, columns, top + tall])


ORNAMENTS: dict[str, Ornament] = {
    "rose": paint_rose,
    "clock": paint_clock,
    "mural": paint_mural,
    "frieze": paint_frieze,
    "banners": paint_banners,
    "niches": paint_niches,
}
