"""Landmarks from inside: a hall with floor, pillars or arches, lamps, and something to look at on the end wall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.competition.demo.camera import Mesh, Texture
from pipeline.competition.demo.facade import WALL_COLOURS, draw_style, fill_outline, outline_opening, paint_wall
from pipeline.competition.demo.material import MATERIALS, paint_paving, paint_planks
from pipeline.competition.demo.noise import Colour, Vectors, choose, darken, make_generator, mix, vary_colour
from pipeline.competition.demo.ornament import bright_colour
from pipeline.competition.demo.shape import add_box, add_column, add_lathe, add_vault, rectangle


@dataclass(frozen=True, slots=True, eq=False)
class Hall:
    """An interior: its faces, its size (width, length, height), its lamps and the colour of their light."""

    mesh: Mesh
    size: tuple[float, float, float]
    lamps: Vectors  # (n, 3)
    lamp_colour: Colour


def paint_arcade(
    rng: np.random.Generator, width_m: float, height_m: float, bays: int, colour: Colour, trim: Colour, texels: float
) -> Texture:
    """A wall pierced by arches, as a cutout."""
    rows, columns = int(height_m * texels), int(width_m * texels)
    wall = np.dstack([MATERIALS["ashlar"](rng, rows, columns, colour, texels), np.full((rows, columns), 255, np.uint8)])
    wall = np.ascontiguousarray(wall)
    bay = columns / bays
    arch = outline_opening(choose(rng, ["round", "pointed", "square"]), bay * 0.76, rows * 0.66)
    for k in range(bays):
        at = np.array([bay * (k + 0.12), rows * 0.34 + 1])
        middle = np.array([bay * 0.38, rows * 0.66])
        fill_outline(wall, (arch - middle) * 1.1 + middle + at, (*trim, 255))
        fill_outline(wall, arch + at, (*darken(trim, 0.5), 0))
    cv2.rectangle(wall, (0, int(rows * 0.18)), (columns, int(rows * 0.24)), (*darken(trim, 0.95), 255), -1)
    return Texture.from_pixels(wall, cutout=True)


def paint_feature(
    rng: np.random.Generator, width_m: float, height_m: float, colour: Colour, trim: Colour, texels: float
) -> Texture:
    """The end wall: an altarpiece, a great window, a painting or an organ."""
    rows, columns = int(height_m * texels), int(width_m * texels)
    base = MATERIALS[choose(rng, list(MATERIALS))](rng, rows, columns, colour, texels)
    wall = np.ascontiguousarray(np.dstack([base, np.zeros((rows, columns), np.uint8)]))
    kind = choose(rng, ["window", "window", "panels", "painting", "pipes"])
    wide, tall = columns * rng.uniform(0.35, 0.6), rows * rng.uniform(0.5, 0.7)
    hole = outline_opening(choose(rng, ["round", "pointed", "square", "round"]), wide, tall)
    at = np.array([(columns - wide) / 2, rows * 0.12])
    middle = np.array([wide / 2, tall / 2])
    fill_outline(wall, (hole - middle) * 1.16 + middle + at, (*trim, 0))
    fill_outline(wall, hole + at, (*darken(trim, 0.4), 0))
    inside = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(inside, [(hole + at).astype(np.int32)], 1)
    picture = FEATURES[kind](rng, rows, columns, at, (wide, tall))
    cv2.copyTo(picture, inside, wall)
    return Texture.from_pixels(wall)


def glaze(rng: np.random.Generator, rows: int, columns: int, at: Vectors, size: tuple[float, float]) -> np.ndarray:
    """(rows, columns, 4) stained glass: bright panes between lead."""
    side = max(4, int(min(size) / rng.integers(5, 12)))
    paints = np.array([(*bright_colour(rng), 235.0) for _ in range(5)])
    panes = paints[rng.integers(0, 5, (rows // side + 1, columns // side + 1))]
    glass = cv2.resize(panes, None, fx=side, fy=side, interpolation=cv2.INTER_NEAREST)[:rows, :columns]
    glass[::side] = glass[:, ::side] = (30, 30, 32, 0)
    return np.asarray(glass.astype(np.uint8))


def paint_picture(
    rng: np.random.Generator, rows: int, columns: int, at: Vectors, size: tuple[float, float]
) -> np.ndarray:
    """(rows, columns, 4) a dark painting with figures in robes."""
    canvas = np.full((rows, columns, 4), (*vary_colour(rng, (84, 64, 48), 20), 30)).astype(np.uint8)
    for _ in range(int(rng.integers(5, 11))):
        x, y = at + rng.uniform(0.15, 0.85, 2) * size
        tall = size[1] * rng.uniform(0.2, 0.4)
        robe = np.array([(x, y - tall / 2), (x + tall * 0.3, y + tall / 2), (x - tall * 0.3, y + tall / 2)])
        cv2.fillPoly(canvas, [robe.astype(np.int32)], (*bright_colour(rng), 30), cv2.LINE_AA)
        cv2.circle(canvas, (int(x), int(y - tall / 2)), max(1, int(tall * 0.12)), (232, 196, 160, 30), -1, cv2.LINE_AA)
    return canvas


def gild_panels(
    rng: np.random.Generator, rows: int, columns: int, at: Vectors, size: tuple[float, float]
) -> np.ndarray:
    """(rows, columns, 4) rows of gilded fields, each with a device."""
    gold, ground = vary_colour(rng, (206, 164, 74), 16), bright_colour(rng)
    canvas = np.full((rows, columns, 4), (*darken(gold, 0.6), 20)).astype(np.uint8)
    step = max(5, int(size[0] / rng.integers(3, 7)))
    for x in range(int(at[0]), int(at[0] + size[0]), step):
        for y in range(int(at[1]), int(at[1] + size[1]), step):
            cv2.rectangle(canvas, (x + 2, y + 2), (x + step - 2, y + step - 2), (*ground, 20), -1)
            cv2.circle(canvas, (x + step // 2, y + step // 2), step // 3, (*gold, 40), -1, cv2.LINE_AA)
    return canvas


def stand_pipes(
    rng: np.random.Generator, rows: int, columns: int, at: Vectors, size: tuple[float, float]
) -> np.ndarray:
    """(rows, columns, 4) organ pipes."""
    canvas = np.full((rows, columns, 4), (*vary_colour(rng, (96, 60, 38), 14), 0)).astype(np.uint8)
    metal = vary_colour(rng, (196, 190, 176), 24)
    step = max(4, int(size[0] / rng.integers(12, 22)))
    for k, x in enumerate(range(int(at[0]) + 2, int(at[0] + size[0]) - step, step)):
        top = int(at[1] + size[1] * (0.15 + 0.3 * abs(np.sin(k * 0.55))))
        cv2.rectangle(canvas, (x, top), (x + step - 2, int(at[1] + size[1] * 0.8)), (*metal, 20), -1)
        cv2.line(
            canvas, (x + step // 3, top), (x + step // 3, int(at[1] + size[1] * 0.8)), (*darken(metal, 1.3), 40), 1
        )
    return canvas


FEATURES = {"window": glaze, "painting": paint_picture, "panels": gild_panels, "pipes": stand_pipes}


def paint_floor(rng: np.random.Generator, colour: Colour) -> Texture:
    """A floor of slabs or boards that tiles."""
    if rng.random() < 0.3:
        return Texture.from_pixels(paint_planks(rng, 224, 224, mix(colour, (150, 100, 60), 0.6), 32), tiled=True)
    first = paint_paving(rng, 192, 192, colour, 32)
    slab = np.arange(192) // 24
    second = bright_colour(rng) if rng.random() < 0.4 else darken(colour, 0.45)
    chequer = ((slab[:, None] + slab[None, :]) % 2 == 0)[:, :, None] & (rng.random() < 0.7)
    return Texture.from_pixels(
        np.where(chequer, (first * 0.25 + np.array(second) * 0.75).astype(np.uint8), first), tiled=True
    )


def raise_shell(
    rng: np.random.Generator,
    mesh: Mesh,
    size: tuple[float, float, float],
    colours: list[Colour],
    trim: Colour,
    texels: float,
) -> None:
    """Add floor, four walls seen from inside, and a ceiling, flat or vaulted."""
    width, length, height = size
    ring = rectangle((0, 0), (width, length))
    floor = np.column_stack([ring[[3, 2, 1, 0]], np.zeros(4)])
    mesh.add_tiles(floor, paint_floor(rng, vary_colour(rng, choose(rng, WALL_COLOURS), 14)), rng.uniform(3.5, 7.0))
    side = draw_style(rng, trim, colours[0], door=False)
    ends = [paint_feature(rng, width, height, colours[1], trim, texels)]
    ends += [paint_wall(rng, width, height, draw_style(rng, trim, colours[1], door=True), texels)]
    flank = paint_wall(rng, length, height, side, texels)
    for (left, right), wall in zip([(3, 2), (2, 1), (1, 0), (0, 3)], [ends[0], flank, ends[1], flank], strict=True):
        (x, y), (next_x, next_y) = ring[left], ring[right]
        mesh.add_face([(x, y, height), (next_x, next_y, height), (next_x, next_y, 0), (x, y, 0)], wall)
    ceiling = MATERIALS[choose(rng, ["plaster", "planks", "panels", "mosaic", "ashlar"])](rng, 224, 224, colours[2], 24)
    tiles = Texture.from_pixels(ceiling, tiled=True)
    if rng.random() < 0.5:
        rise = width * rng.uniform(0.2, 0.45)
        add_vault(mesh, width / 2, (-length / 2, length / 2), height, rise, Texture.from_pixels(ceiling))
        for y, at in ((length / 2, ring[[3, 2]]), (-length / 2, ring[[1, 0]])):
            (x, _), (next_x, _) = at
            lunette = [(x, y, height + rise), (next_x, y, height + rise), (next_x, y, height), (x, y, height)]
            mesh.add_face(lunette, Texture.from_colour(darken(colours[1], 0.85)))
    else:
        mesh.add_tiles(np.column_stack([ring, np.full(4, height)]), tiles, rng.uniform(4, 9))
        for y in np.arange(-length / 2 + 2, length / 2, rng.uniform(3, 6)).tolist():
            beam = np.array([(-width / 2, y - 0.3, height - 0.4), (width / 2, y - 0.3, height - 0.4)])
            low = np.vstack([beam, beam[::-1] + np.array([0, 0.6, 0])])
            mesh.add_face(low[[0, 1, 2, 3]], Texture.from_colour(darken(trim, 0.5)))


def furnish(
    rng: np.random.Generator, mesh: Mesh, size: tuple[float, float, float], trim: Colour, colour: Colour, texels: float
) -> None:
    """Add pillars or arcades along the sides, and benches, a carpet or nothing on the floor."""
    width, length, height = size
    bays = max(3, round(length / rng.uniform(4, 6.5)))
    aisle = width * rng.uniform(0.26, 0.34)
    stone = Texture.from_colour(vary_colour(rng, trim, 20))
    if rng.random() < 0.45:
        arcade = paint_arcade(rng, length, height, bays, colour, trim, texels)
        for x, y in ((-aisle, -length / 2), (aisle, length / 2)):
            mesh.add_face([(x, y, height), (x, -y, height), (x, -y, 0), (x, y, 0)], arcade)
    else:
        radius = rng.uniform(0.3, 0.75)
        for y in (np.arange(bays) - (bays - 1) / 2) * length / bays:
            for x in (-aisle, aisle):
                add_column(mesh, (x, float(y)), radius, 0, height, stone)
    wood, runner = Texture.from_colour(vary_colour(rng, (104, 66, 40), 14)), Texture.from_colour(bright_colour(rng))
    if rng.random() < 0.55:
        for y in np.arange(-length * 0.25, length * 0.28, 1.7).tolist():
            for x in (-1, 1):
                add_box(mesh, (x * aisle * 0.5, y), (aisle * 0.66, 0.5), 0, 0.9, [wood], wood)
    if rng.random() < 0.5:
        strip = [(-1, length / 2, 0.02), (1, length / 2, 0.02), (1, -length / 2, 0.02), (-1, -length / 2, 0.02)]
        mesh.add_face(strip, runner)
    add_box(mesh, (0, length / 2 - 2.5), (min(4.0, width * 0.25), 1.3), 0, 1.2, [runner], stone)


def hang_lamps(rng: np.random.Generator, mesh: Mesh, size: tuple[float, float, float]) -> Vectors:
    """Add chandeliers along the middle; returns (n, 3) where they hang."""
    _, length, height = size
    brass, flame = Texture.from_colour((150, 118, 60), 40), Texture.from_colour((255, 236, 190), 255)
    level = height * rng.uniform(0.55, 0.75)
    spots = [(0.0, y, level) for y in np.linspace(-length * 0.3, length * 0.34, int(rng.integers(2, 4))).tolist()]
    for x, y, z in spots:
        add_lathe(mesh, (x, y), [(0.03, z), (0.03, height)], 4, brass)
        add_lathe(mesh, (x, y), [(0.2, z - 0.5), (0.9, z - 0.1), (0.8, z)], 10, brass)
        for turn in np.linspace(0, 2 * np.pi, 7)[:-1]:
            at = (x + 0.85 * float(np.cos(turn)), y + 0.85 * float(np.sin(turn)))
            add_lathe(mesh, at, [(0.1, z), (0.13, z + 0.2), (0.02, z + 0.35)], 4, flame)
    return np.asarray(spots)


@lru_cache(maxsize=3)
def raise_hall(seed: int, landmark: int, texels: float) -> Hall:
    """The inside of a landmark; it shares nothing with the outside."""
    rng = make_generator(seed, "hall", landmark)
    size = (float(rng.uniform(11, 19)), float(rng.uniform(20, 36)), float(rng.uniform(6.5, 12)))
    trim = vary_colour(rng, choose(rng, [(226, 214, 190), (200, 170, 110), (110, 80, 60), (180, 184, 190)]), 16)
    colours = [vary_colour(rng, WALL_COLOURS[k], 16) for k in rng.choice(len(WALL_COLOURS), 3, replace=False).tolist()]
    mesh = Mesh()
    raise_shell(rng, mesh, size, colours, trim, texels)
    furnish(rng, mesh, size, trim, colours[0], texels)
    lamps = hang_lamps(rng, mesh, size)
    return Hall(
        mesh, size, lamps, mix((255, 226, 180), choose(rng, [(255, 255, 255), (255, 190, 120), (220, 230, 255)]), 0.4)
    )
