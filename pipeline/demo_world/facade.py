"""Walls as textures: openings with depth, doors, bands, ornaments and age, painted on a material."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pipeline.demo_world import palette
from pipeline.demo_world.camera import Pixels, Texture, Vectors
from pipeline.demo_world.material import MATERIALS
from pipeline.demo_world.paint import Box, choose, crop_noise, draw_line, fill_box, fill_disc, fill_polygon
from pipeline.demo_world.palette import Colour, darken

OPENINGS: dict[str, tuple[str, float, float, float, int]] = {
    # arch (see outline_opening), width as a share of the bay, height of the storey, height / width at most, mullions
    "square": ("square", 0.42, 0.64, 2.6, 1),
    "round": ("round", 0.42, 0.64, 2.6, 1),
    "pointed": ("pointed", 0.42, 0.64, 2.6, 1),
    "wide": ("square", 0.8, 0.45, 2.6, 3),
    "porthole": ("circle", 0.46, 0.6, 2.6, 1),
    "slit": ("square", 0.16, 0.64, 6.0, 0),
}
DOORS = ("round", "pointed", "square")
SPACING_M = ((2.4, 3.2), (5.5, 6.0))  # least and most from window to window, across and upwards
STYLE_SHARES = (0.6, 0.4, 0.75)  # of the walls: with bands, pilasters, an ornament
PLINTH_M, CORNICE_M, BAND_M, PILASTER_M, JAMB_M = 0.7, 0.55, 0.28, 0.44, 0.2
DOOR_M, ORNAMENT_M = 4.6, 5.0  # height at most; the width of a wall that an ornament needs
LIT_SHARE, LIT, UNLIT = 0.55, (150.0, 255.0), 40.0  # windows lit in the dark, and the light that they emit
ROSE_GLOW, CLOCK_GLOW = 200.0, 180.0
Ornament = Callable[[np.random.Generator, Pixels, Colour, float], Box]
STROKES = [(0.8, 0.93)] * 12 + [(0.0, 0.55), (0.0, 0.82)]  # of a clock, from and to, in units of its radius


def paint_roundel(wall: Pixels, trim: Colour, centre: tuple[float, float], radius: float) -> Box:
    """Paint a moulding around a round thing; returns its box."""
    (x, y), reach = centre, radius * 1.25
    fill_disc(wall, x + radius / 12, y + radius / 10, reach, palette.SHADE)
    fill_disc(wall, x, y, radius * 1.2, trim)
    return x - reach, y - reach, x + reach, y + reach


def paint_rose(rng: np.random.Generator, wall: Pixels, trim: Colour, texels: float) -> Box:
    """A round window of stained glass with petals."""
    rows, columns = wall.shape[:2]
    radius, x, y = min(rows * 0.2, columns * 0.16, 4.5 * texels), columns / 2, rows * 0.3
    petals, glass = 2 * int(rng.integers(3, 9)), [(*palette.bright(rng), ROSE_GLOW) for _ in range(3)]
    taken = paint_roundel(wall, trim, (x, y), radius)
    fill_disc(wall, x, y, radius, darken(trim, 0.35))
    for ring, size, shift in ((0.72, 1.5, 0.0), (0.4, 0.52, 0.5)):
        for k, angle in enumerate(2 * np.pi * (np.arange(petals) + shift) / petals):
            at = x + np.cos(angle) * radius * ring, y + np.sin(angle) * radius * ring
            fill_disc(wall, *at, radius * size / petals, glass[k % 3])
    fill_disc(wall, x, y, radius * 0.17, glass[0])
    return taken


def paint_clock(rng: np.random.Generator, wall: Pixels, trim: Colour, texels: float) -> Box:
    """A clock."""
    rows, columns = wall.shape[:2]
    radius, x, y = min(rows * 0.14, columns * 0.2, 3.0 * texels), columns / 2, rows * 0.24
    face, hand = choose(rng, [(palette.IVORY, palette.LEAD), (palette.NAVY, palette.GOLD)])
    taken = paint_roundel(wall, trim, (x, y), radius)
    fill_disc(wall, x, y, radius, (*palette.vary(rng, face, 12), CLOCK_GLOW))
    angles = [*(np.arange(12) * np.pi / 6), *rng.uniform(0, 6, 2)]
    for (start, end), angle in zip(STROKES, angles, strict=True):
        way_x, way_y = np.sin(angle) * radius, -np.cos(angle) * radius
        draw_line(wall, (x + way_x * start, y + way_y * start), (x + way_x * end, y + way_y * end), hand, radius / 11)
    return taken


def paint_mural(rng: np.random.Generator, wall: Pixels, trim: Colour, texels: float) -> Box:
    """A large painting of shapes in four colours."""
    rows, columns = wall.shape[:2]
    wide, tall = int(columns * rng.uniform(0.3, 0.5)), int(rows * rng.uniform(0.35, 0.5))
    left, top, edge = (columns - wide) // 2, int(rows * 0.14), 0.15 * texels
    ground, *paints = (palette.bright(rng) for _ in range(4))
    fill_box(wall, (left - edge, top - edge, left + wide + edge, top + tall + edge), trim)
    field = np.full((tall, wide, 4), (*ground, 0)).astype(np.uint8)
    for k in range(int(rng.integers(6, 14))):
        at, size = rng.uniform(0, (wide, tall)), rng.uniform(0.08, 0.3) * min(wide, tall)
        if rng.random() < 0.5:
            fill_disc(field, at[0], at[1], size, paints[k % 3])
        else:
            fill_polygon(field, rng.uniform(-2, 2, (3, 2)) * size, paints[k % 3], at)
    wall[top : top + tall, left : left + wide] = field
    return left, top, left + wide, top + tall


def paint_frieze(rng: np.random.Generator, wall: Pixels, trim: Colour, texels: float) -> Box:
    """A band of repeated discs, diamonds or triangles across the whole wall."""
    rows, columns = wall.shape[:2]
    tall, top, ground = max(6.0, min(2.6 * texels, rows * 0.2)), 0.75 * texels, palette.bright(rng)
    turn = np.linspace(0, 2 * np.pi, choose(rng, [16, 4, 3]), endpoint=False)
    outline = np.stack([np.sin(turn), -np.cos(turn)], axis=1) * tall * 0.42
    fill_box(wall, (0, top, columns, top + tall), palette.mix(ground, trim, 0.25))
    for x in np.arange(tall / 2, columns, tall).tolist():
        fill_polygon(wall, outline, palette.mix(trim, palette.WHITE, 0.4), (x, top + tall / 2))
        fill_polygon(wall, outline * 0.5, darken(ground, 0.7), (x, top + tall / 2))
    return 0, top, columns, top + tall


ORNAMENTS: dict[str, Ornament] = {
    "rose": paint_rose, "clock": paint_clock, "mural": paint_mural, "frieze": paint_frieze,
}  # fmt: skip


class WallStyle(NamedTuple):
    """How one side of a building looks."""

    material: str
    colour: Colour
    trim: Colour
    opening: str
    fill: Colour  # of frames and doors
    bay_m: float
    storey_m: float
    bands: bool
    pilasters: bool
    door: str | None
    ornament: str | None


def draw_style(rng: np.random.Generator, trim: Colour, colour: Colour, door: bool) -> WallStyle:
    """A random wall style with the given trim and wall colour."""
    fill, (bay_m, storey_m) = palette.pick(rng, palette.JOINERY, 20), rng.uniform(*SPACING_M).tolist()
    bands, pilasters, ornate = (rng.random(3) < STYLE_SHARES).tolist()
    kinds = choose(rng, list(MATERIALS)), choose(rng, list(OPENINGS)), choose(rng, DOORS), choose(rng, list(ORNAMENTS))
    doors = (kinds[2] if door else None), (kinds[3] if ornate else None)
    return WallStyle(kinds[0], colour, trim, kinds[1], fill, bay_m, storey_m, bands, pilasters, *doors)


def outline_opening(arch: str, width: float, height: float) -> Vectors:
    """(n, 2) outline of a round, pointed, circle or square opening; (0, 0) is its middle, y points down."""
    turn = np.linspace(np.pi, 2 * np.pi, 13)
    around = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    base = np.array([(width / 2, height / 2), (-width / 2, height / 2)])
    if arch == "round":
        return np.vstack([around * width / 2 + (0, (width - height) / 2), base])
    if arch == "pointed":
        left = around[:5] * width + (width / 2, 0.87 * width - height / 2)
        return np.vstack([left, left[::-1] * (-1, 1), base])
    if arch == "circle":
        return np.vstack([around, -around]) * width / 2
    return np.vstack([-base, base])


def paint_window(wall: Pixels, centre: Vectors, size: Vectors, style: WallStyle, lamp: float, depth: float) -> None:
    """Paint a window; lamp (0 to 255): the light of its panes in the dark; depth: of the jambs, in pixels."""
    arch, _, _, _, mullions = OPENINGS[style.opening]
    hole, (x, y), (half_x, half_y) = outline_opening(arch, *size), centre, size / 2
    surround, pane = hole * (1 + 2.4 * depth / size), hole * (1 - 1.2 * depth / size)
    glass = palette.mix(palette.GLASS, palette.REFLECTION, lamp / 1200)
    sky = palette.mix(glass, palette.REFLECTION, 0.28)
    fill_polygon(wall, surround, darken(style.colour, 0.62), centre + depth * 0.45)
    fill_polygon(wall, surround, style.trim, centre)
    fill_polygon(wall, hole, darken(style.trim, 0.42), centre)
    fill_polygon(wall, pane, (*glass, lamp), centre + depth * 0.6)
    fill_polygon(wall, np.minimum(pane, (np.inf, -0.05 * size[1])), (*sky, lamp), centre + depth * 0.6)
    for bar in np.linspace(-half_x, half_x, mullions + 2)[1:-1]:
        draw_line(wall, (x + bar, y + depth / 2 - half_y), (x + bar, y + half_y), style.fill, depth * 0.3)
    for bar in (-0.12 * size[1], 0.2 * size[1]):
        draw_line(wall, (x + depth / 2 - half_x, y + bar), (x + half_x - depth / 2, y + bar), style.fill, depth * 0.3)
    if arch != "circle":
        left, right, sill = x - half_x - depth, x + half_x + depth, y + half_y
        fill_box(wall, (left, sill, right, sill + depth), darken(style.trim, 1.1))
        fill_box(wall, (left, sill + depth + 1, right, sill + depth + 1), darken(style.colour, 0.5))


def paint_door(wall: Pixels, style: WallStyle, texels: float) -> Box:
    """Paint a portal with stepped jambs in the middle of the ground line; returns the box that it takes."""
    rows, middle = wall.shape[0], wall.shape[1] / 2
    height = min(DOOR_M * texels, rows * 0.45)
    width = height * 0.66
    hole = outline_opening(style.door or "square", width, height) - np.array([0, height / 2])
    for ring, tone in ((3, 1.04), (2, 0.9), (1, 0.76), (0, 0.3)):
        fill_polygon(wall, hole * (1 + 0.13 * ring), darken(style.trim, tone), (middle, rows))
    fill_polygon(wall, hole * (0.92, 0.95), style.fill, (middle + 1, rows))
    draw_line(wall, (middle, rows - height), (middle, rows), darken(style.fill, 0.45), texels / 12)
    return middle - width * 0.72, rows - height * 1.22, middle + width * 0.72, rows


def paint_frame(wall: Pixels, style: WallStyle, texels: float) -> None:
    """Paint plinth, cornice, bands between the storeys and pilasters, each with a lit and a shaded edge."""
    rows, columns = wall.shape[:2]
    height, shadow = rows / texels, darken(style.colour, 0.55)
    levels = [(0.0, CORNICE_M), (height - PLINTH_M, PLINTH_M)]
    if style.bands:
        levels += [(height - style.storey_m * k, BAND_M) for k in range(1, int(height / style.storey_m))]
    if style.pilasters:
        half = PILASTER_M / 2 * texels
        for x in np.linspace(0, columns, 1 + max(1, round(columns / texels / style.bay_m))).tolist():
            fill_box(wall, (x - half, 0, x + half, rows), style.trim)
            fill_box(wall, (x + half + 1, 0, x + half + 2, rows), shadow)
    for top, thick in levels:
        y, y_end = top * texels, (top + thick) * texels
        fill_box(wall, (0, y, columns, y_end), darken(style.trim, 0.96))
        fill_box(wall, (0, y, columns, y + texels / 14), darken(style.trim, 1.2))
        fill_box(wall, (0, y_end, columns, y_end + 0.12 * texels), shadow)


def paint_openings(rng: np.random.Generator, wall: Pixels, style: WallStyle, texels: float, taken: list[Box]) -> None:
    """Paint the grid of windows wherever no box of `taken` is in the way."""
    rows, columns = wall.shape[:2]
    (_, width, height, slender, _), depth = OPENINGS[style.opening], max(1.5, JAMB_M * texels)
    bays, storeys = round(columns / texels / style.bay_m), round((rows / texels - 1.5) / style.storey_m)
    bay, storey = columns / max(1, bays), (rows - 1.4 * texels) / max(1, storeys)
    wide, tall = width * bay, min(height * storey, width * bay * slender)
    for y in 0.9 * texels + (np.arange(max(1, storeys)) + 0.5) * storey:
        for x in (np.arange(max(1, bays)) + 0.5) * bay:
            lamp = float(rng.uniform(*LIT)) if rng.random() < LIT_SHARE else UNLIT
            left, top, right, bottom = x - wide * 0.7, y - tall / 2, x + wide * 0.7, y + tall / 2
            if not any(left < t[2] and t[0] < right and top < t[3] and t[1] < bottom for t in taken):
                paint_window(wall, np.array([x, y]), np.array([wide, tall]), style, lamp, depth)


def paint_wall(rng: np.random.Generator, size_m: tuple[float, float], style: WallStyle, texels: float) -> Texture:
    """A wall of size (width, height) and a style, as a texture whose fourth channel is the light of its windows."""
    columns, rows = (max(8, int(metres * texels)) for metres in size_m)
    base = MATERIALS[style.material](rng, (rows, columns), style.colour, texels)
    wall = np.ascontiguousarray(np.dstack([base, np.zeros((rows, columns), np.uint8)]))
    paint_frame(wall, style, texels)
    taken = [paint_door(wall, style, texels)] if style.door else []
    if style.ornament and columns > ORNAMENT_M * texels:
        taken.append(ORNAMENTS[style.ornament](rng, wall, style.trim, texels))
    paint_openings(rng, wall, style, texels, taken)
    metres = np.arange(rows)[:, None] / texels  # dirt under the eaves, above the ground, and in patches
    shade = 1 - 0.3 * np.exp(-metres / 0.5) - 0.22 * np.exp((metres - metres[-1]) / 0.9)
    shade = shade * (0.88 + 0.18 * crop_noise(rng, (rows, columns), 1.7))
    wall[:, :, :3] = np.clip(wall[:, :, :3] * shade[:, :, None], 0, 255).astype(np.uint8)
    return Texture.from_pixels(wall)
