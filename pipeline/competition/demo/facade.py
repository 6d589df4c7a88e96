"""The outside of a wall: openings with depth, doors, bands, ornaments and age, painted upon a material."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.competition.demo.camera import Texture
from pipeline.competition.demo.material import MATERIALS
from pipeline.competition.demo.noise import Colour, Pixels, Vectors, choose, crop_noise, darken, mix, vary_colour
from pipeline.competition.demo.ornament import ORNAMENTS

WALL_COLOURS: tuple[Colour, ...] = (
    (206, 190, 160), (178, 92, 70), (226, 214, 190), (160, 150, 138), (222, 176, 120), (200, 128, 104), (236, 232, 224),
    (142, 112, 92), (186, 196, 202), (228, 200, 120), (150, 176, 160), (120, 134, 160), (214, 160, 150),
    (110, 104, 100),     (92, 128, 150), (168, 78, 84),
)  # fmt: skip
OPENINGS = ("square", "round", "pointed", "wide", "porthole", "slit", "twin")
DOORS = ("round", "pointed", "square", "wide")


@dataclass(frozen=True, slots=True)
class WallStyle:
    """How one side of a building looks."""

    material: str
    colour: Colour
    trim: Colour
    opening: str
    fill: Colour  # of frames, shutters and doors
    bay_m: float  # from window to window
    storey_m: float
    bands: bool
    pilasters: bool
    shutters: bool
    door: str | None
    ornament: str | None


def draw_style(rng: np.random.Generator, trim: Colour, colour: Colour, door: bool) -> WallStyle:
    """A random wall style around a given trim and wall colour."""
    materials = list(MATERIALS)
    return WallStyle(
        material=choose(rng, materials),
        colour=colour,
        trim=trim,
        opening=choose(rng, OPENINGS),
        fill=vary_colour(
            rng, choose(rng, [(60, 50, 44), (235, 232, 225), (44, 84, 70), (120, 50, 40), (50, 70, 110)]), 20
        ),
        bay_m=float(rng.uniform(2.4, 5.5)),
        storey_m=float(rng.uniform(3.2, 6.0)),
        bands=bool(rng.random() < 0.6),
        pilasters=bool(rng.random() < 0.4),
        shutters=bool(rng.random() < 0.25),
        door=choose(rng, DOORS) if door else None,
        ornament=choose(rng, list(ORNAMENTS)) if rng.random() < 0.75 else None,
    )


def outline_opening(kind: str, width: float, height: float) -> Vectors:
    """(n, 2) outline of an opening within (0, 0) to (width, height), y down."""
    turn = np.linspace(np.pi, 2 * np.pi, 13)
    if kind in ("round", "twin"):
        arch = np.stack([width / 2 + np.cos(turn) * width / 2, width / 2 + np.sin(turn) * width / 2], axis=1)
        return np.vstack([arch, [(width, height), (0, height)]])
    if kind == "pointed":
        left = np.stack([width + np.cos(turn[:5]) * width, width * 0.87 + np.sin(turn[:5]) * width], axis=1)
        return np.vstack([left, (left * (-1, 1) + (width, 0))[::-1], [(width, height), (0, height)]])
    if kind == "porthole":
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        return np.stack([width / 2 * (1 + np.cos(turn)), height / 2 + width / 2 * np.sin(turn)], axis=1)
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=float)


def fill_outline(wall: Pixels, outline: Vectors, colour: tuple[float, ...]) -> None:
    """Fill a polygon, edges smoothed."""
    cv2.fillPoly(wall, [np.rint(outline * 16).astype(np.int32)], colour, cv2.LINE_AA, shift=4)


def paint_window(
    wall: Pixels, box: tuple[float, float, float, float], style: WallStyle, lamp: float, depth: float
) -> None:
    """Paint a window in box (left, top, width, height); lamp (0 to 255) is what its panes emit in the dark."""
    left, top, width, height = box
    hole = outline_opening(style.opening, width, height)
    middle = np.array([width / 2, height / 2])
    surround = (hole - middle) * (1 + 2.4 * depth / np.array([width, height])) + middle + (left, top)
    fill_outline(wall, surround + np.array([0.4, 0.5]) * depth, (*darken(style.colour, 0.62), 0))
    fill_outline(wall, surround, (*style.trim, 0))
    fill_outline(wall, hole + np.array([left, top]), (*darken(style.trim, 0.42), 0))
    pane = (hole - middle) * np.array([1 - 1.3 * depth / width, 1 - 1.1 * depth / height]) + middle
    pane += (left + depth * 0.55, top + depth * 0.7)
    glass = mix((44, 56, 70), (120, 146, 168), lamp / 900)
    fill_outline(wall, pane, (*glass, max(40.0, lamp)))
    upper = pane.copy()
    upper[:, 1] = np.minimum(upper[:, 1], top + height * 0.45)
    fill_outline(wall, upper, (*mix(glass, (150, 176, 200), 0.28), max(40.0, lamp)))
    paint_bars(wall, (left + depth * 0.5, top + depth * 0.5, width - depth, height - depth), style, depth)
    if style.opening != "porthole":
        sill = (int(left - depth), int(top + height)), (int(left + width + depth), int(top + height + depth))
        cv2.rectangle(wall, *sill, (*darken(style.trim, 1.1), 0), -1)
        cv2.line(wall, (sill[0][0], sill[1][1] + 1), (sill[1][0], sill[1][1] + 1), (*darken(style.colour, 0.5), 0), 1)


def paint_bars(wall: Pixels, box: tuple[float, float, float, float], style: WallStyle, depth: float) -> None:
    """Paint the glazing bars, and shutters beside the window where the style has them."""
    left, top, width, height = box
    thick = max(1, int(depth * 0.3))
    fill = (*style.fill, 0)
    count = {"wide": 4, "slit": 1, "twin": 2}.get(style.opening, 2)
    for k in range(1, count):
        bar = int(left + width * k / count)
        cv2.line(wall, (bar, int(top)), (bar, int(top + height)), fill, thick * (3 if style.opening == "twin" else 1))
    for share in (0.38, 0.7) if style.opening != "slit" else ():
        y = int(top + height * share)
        cv2.line(wall, (int(left), y), (int(left + width), y), fill, thick)
    if style.shutters and style.opening == "square":
        for x in (left - width * 0.55, left + width * 1.1):
            cv2.rectangle(wall, (int(x), int(top)), (int(x + width * 0.45), int(top + height)), fill, -1)
            for slat in np.arange(top, top + height, max(2.0, depth * 0.7)).astype(int).tolist():
                cv2.line(wall, (int(x), slat), (int(x + width * 0.45), slat), (*darken(style.fill, 0.7), 0), 1)


def paint_door(wall: Pixels, style: WallStyle, texels: float, middle: float) -> float:
    """Paint the portal upon the ground line at x = middle (pixels); returns its width in pixels."""
    rows = wall.shape[0]
    height = min(4.6 * texels, rows * 0.45)
    width = height * (1.05 if style.door == "wide" else 0.62)
    hole = outline_opening(style.door or "square", width, height)
    for ring in range(3, -1, -1):  # stepped jambs, the outermost first
        grown = (hole - (width / 2, height)) * (1 + 0.13 * ring) + (middle, rows)
        fill_outline(wall, grown, (*darken(style.trim, 0.62 + 0.14 * ring if ring else 0.3), 0))
    leaf = (hole - (width / 2, height)) * (0.92, 0.95) + (middle + 1, rows)
    fill_outline(wall, leaf, (*style.fill, 0))
    cv2.line(
        wall,
        (int(middle), int(rows - height)),
        (int(middle), rows),
        (*darken(style.fill, 0.45), 0),
        max(1, int(texels / 12)),
    )
    for share in (0.25, 0.5, 0.75):
        y = int(rows - height * share)
        cv2.line(wall, (int(middle - width * 0.4), y), (int(middle + width * 0.4), y), (*darken(style.fill, 0.7), 0), 1)
    return width


def paint_frame(wall: Pixels, style: WallStyle, texels: float) -> None:
    """Paint plinth, cornice, bands between the storeys and pilasters, each with a lit and a shaded edge."""
    rows, columns = wall.shape[:2]
    levels = [(0.0, 0.55), (rows / texels - 0.7, 0.7)]
    if style.bands:
        levels += [(rows / texels - style.storey_m * k, 0.28) for k in range(1, int(rows / texels / style.storey_m))]
    if style.pilasters:
        step = columns / max(1, round(columns / texels / style.bay_m))
        for x in np.arange(0, columns + 1, step):
            half = 0.22 * texels
            cv2.rectangle(wall, (int(x - half), 0), (int(x + half), rows), (*style.trim, 0), -1)
            cv2.line(wall, (int(x + half) + 1, 0), (int(x + half) + 1, rows), (*darken(style.colour, 0.55), 0), 2)
    for top, thick in levels:
        y, y_end = int(top * texels), int((top + thick) * texels)
        cv2.rectangle(wall, (0, y), (columns, y_end), (*darken(style.trim, 0.96), 0), -1)
        cv2.line(wall, (0, y), (columns, y), (*darken(style.trim, 1.2), 0), max(1, int(texels / 14)))
        cv2.rectangle(wall, (0, y_end), (columns, y_end + int(0.12 * texels)), (*darken(style.colour, 0.55), 0), -1)


def paint_openings(
    rng: np.random.Generator, wall: Pixels, style: WallStyle, texels: float, taken: list[Vectors]
) -> None:
    """Paint the grid of windows wherever no box of `taken` (left, top, right, bottom in pixels) is in the way."""
    rows, columns = wall.shape[:2]
    bays = max(1, round(columns / texels / style.bay_m))
    storeys = max(1, round((rows / texels - 1.5) / style.storey_m))
    bay, storey = columns / bays, (rows - 1.4 * texels) / storeys
    wide = {"wide": 0.8, "slit": 0.16, "porthole": 0.46, "twin": 0.55}.get(style.opening, 0.42) * bay
    tall = min(
        {"wide": 0.45, "porthole": 0.6}.get(style.opening, 0.64) * storey,
        wide * (6 if style.opening == "slit" else 2.6),
    )
    for row in range(storeys):
        for column in range(bays):
            left = (column + 0.5) * bay - wide / 2
            top = 0.9 * texels + (row + 0.5) * storey - tall / 2
            box = (left - 0.2 * wide, top, left + 1.2 * wide, top + tall)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                lamp = float(rng.uniform(150, 255)) if rng.random() < 0.55 else 0.0
                paint_window(wall, (left, top, wide, tall), style, lamp, max(1.5, 0.2 * texels))


def age_wall(rng: np.random.Generator, wall: Pixels, texels: float) -> None:
    """Darken the wall in place: under the eaves, above the ground, and in patches."""
    rows, columns = wall.shape[:2]
    metres = np.arange(rows)[:, None] / texels
    shade = 1 - 0.3 * np.exp(-metres / 0.5) - 0.22 * np.exp(-(rows / texels - metres) / 0.9)
    shade = shade * (0.88 + 0.18 * crop_noise(rng, rows, columns, 1.7))
    wall[:, :, :3] = np.clip(wall[:, :, :3] * shade[:, :, None], 0, 255).astype(np.uint8)


def paint_wall(rng: np.random.Generator, width_m: float, height_m: float, style: WallStyle, texels: float) -> Texture:
    """A wall of the given size and style, as a texture whose fourth channel is its glass and lamps."""
    rows, columns = max(8, int(height_m * texels)), max(8, int(width_m * texels))
    base = MATERIALS[style.material](rng, rows, columns, style.colour, texels)
    wall = np.ascontiguousarray(np.dstack([base, np.zeros((rows, columns), np.uint8)]))
    paint_frame(wall, style, texels)
    taken: list[Vectors] = []
    if style.door:
        half = paint_door(wall, style, texels, columns / 2) * 0.72
        taken.append(np.array([columns / 2 - half, rows - min(5.6 * texels, rows * 0.55), columns / 2 + half, rows]))
    if style.ornament and columns > 5 * texels:
        taken.append(ORNAMENTS[style.ornament](rng, wall, style.trim, style.colour, texels))
    paint_openings(rng, wall, style, texels, taken)
    age_wall(rng, wall, texels)
    return Texture.from_pixels(wall)
