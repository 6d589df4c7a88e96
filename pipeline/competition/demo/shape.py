"""Solids of which buildings are put together; each function adds the faces of one to a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.competition.demo.camera import Mesh, Texture
from pipeline.competition.demo.noise import Vectors

Point = tuple[float, float]


def rectangle(centre: Point, size: Point) -> Vectors:
    """(4, 2) corners of a rectangle, counter-clockwise from above: front left, front right, back right, back left."""
    half = np.array(size) / 2
    return np.asarray(np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half + centre)


def polygon(centre: Point, radius: float, sides: int) -> Vectors:
    """(sides, 2) corners of a regular polygon with one side to the front."""
    turn = 2 * np.pi * (np.arange(sides) - 0.5) / sides - np.pi / 2
    return np.asarray(np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + centre)


def add_prism(mesh: Mesh, ring: Vectors, bottom: float, top: float, walls: Sequence[Texture]) -> None:
    """Add upright walls upon a ring of corners; wall k goes from corner k to the next; `walls` repeat where too few."""
    for k, (left, right) in enumerate(zip(ring, np.roll(ring, -1, axis=0), strict=True)):
        corners = [(*left, top), (*right, top), (*right, bottom), (*left, bottom)]
        mesh.add_face(corners, walls[k % len(walls)])


def add_lid(mesh: Mesh, ring: Vectors, height: float, texture: Texture, downward: bool = False) -> None:
    """Add a level face upon a convex ring of corners, seen from above or, `downward`, from below."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    frame = np.array([(low[0], high[1], height), (high[0] - low[0], 0, 0), (0, low[1] - high[1], 0)])
    if downward:
        frame = np.array([(low[0], low[1], height), (high[0] - low[0], 0, 0), (0, high[1] - low[1], 0)])
    raised = np.column_stack([ring, np.full(len(ring), height)])
    for k in range(1, len(ring) - 1, 2):
        mesh.add_face(raised[[0, k, k + 1, min(k + 2, len(ring) - 1)]], texture, frame)


def add_box(
    mesh: Mesh, centre: Point, size: Point, bottom: float, top: float, walls: Sequence[Texture], lid: Texture
) -> None:
    """Add a box with walls in the order front, right, back, left."""
    ring = rectangle(centre, size)
    add_prism(mesh, ring, bottom, top, walls)
    add_lid(mesh, ring, top, lid)


def add_slope(mesh: Mesh, lower: npt.ArrayLike, upper: npt.ArrayLike, texture: Texture) -> None:
    """Add a sloping trapezoid: lower and upper edge, each from left to right; the wider one carries the texture."""
    low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    down = low.mean(axis=0) - high.mean(axis=0)
    if np.linalg.norm(low[1] - low[0]) >= np.linalg.norm(high[1] - high[0]):
        frame = np.stack([low[0] - down, low[1] - low[0], down])
    else:
        frame = np.stack([high[0], high[1] - high[0], down])
    mesh.add_face([high[0], high[1], low[1], low[0]], texture, frame)


def add_roof(
    mesh: Mesh,
    centre: Point,
    size: Point,
    bottom: float,
    rise: float,
    inset: float,
    tiles: Texture,
    gable: Texture,
    along_y: bool = False,
    eaves: float = 0.5,
) -> None:
    """Add a pitched roof. inset: how far the ridge's ends stand back; 0 = gables, half the length = a pyramid."""
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)]) if along_y else np.eye(2)
    length, breadth = (size[1], size[0]) if along_y else size
    ring = rectangle((0, 0), (length + 2 * eaves * (inset > 0), breadth + 2 * eaves))
    ends = np.array([(-length / 2 + inset, 0.0), (length / 2 - inset, 0.0)])
    level = bottom - rise * eaves / (breadth / 2) * (inset == 0)
    base = np.column_stack([ring @ turn + centre, np.full(4, level)])
    ridge = np.column_stack([ends @ turn + centre, np.full(2, bottom + rise)])
    add_slope(mesh, base[[0, 1]], ridge[[0, 1]], tiles)
    add_slope(mesh, base[[2, 3]], ridge[[1, 0]], tiles)
    sides = tiles if inset > 0 else gable
    add_slope(mesh, base[[1, 2]], ridge[[1, 1]], sides)
    add_slope(mesh, base[[3, 0]], ridge[[0, 0]], sides)
    add_lid(mesh, base[:, :2], level, Texture.from_colour((70, 62, 56)), downward=True)


def add_lathe(mesh: Mesh, centre: Point, profile: Sequence[Point], sides: int, texture: Texture) -> None:
    """Add a solid of revolution: profile = (radius, height) pairs from the bottom up, turned in `sides` facets."""
    for (radius, height), (next_radius, next_height) in pairwise(profile):
        below = np.column_stack([polygon(centre, radius, sides), np.full(sides, height)])
        above = np.column_stack([polygon(centre, next_radius, sides), np.full(sides, next_height)])
        for k in range(sides):
            pair = [k, (k + 1) % sides]
            add_slope(mesh, below[pair], above[pair], texture)


def add_column(mesh: Mesh, centre: Point, radius: float, bottom: float, top: float, texture: Texture) -> None:
    """Add a column with a base and a capital."""
    height = top - bottom
    profile = [(1.35, 0.0), (1.0, 0.06), (0.86, 0.92), (1.4, 0.95), (1.4, 1.0)]
    add_lathe(mesh, centre, [(radius * r, bottom + height * z) for r, z in profile], 8, texture)


def add_dome(
    mesh: Mesh, centre: Point, radius: float, bottom: float, shape: str, texture: Texture, tip: Texture
) -> float:
    """Add a dome (round, onion or saucer) with a spike; returns the height of its tip."""
    if shape == "onion":
        points = [
            (0.86, 0),
            (1.08, 0.22),
            (1.12, 0.45),
            (0.98, 0.72),
            (0.66, 1.0),
            (0.32, 1.25),
            (0.1, 1.5),
            (0.02, 1.75),
        ]
    else:
        rise = 1.0 if shape == "round" else 0.5
        turn = np.linspace(0, np.pi / 2, 7)
        points = [(float(np.cos(t)) + 0.01, rise * float(np.sin(t))) for t in turn]
    add_lathe(mesh, centre, [(radius * r, bottom + radius * z) for r, z in points], 20, texture)
    add_lid(mesh, polygon(centre, radius * points[0][0], 12), bottom, tip, downward=True)
    crown = bottom + radius * points[-1][1]
    add_lathe(mesh, centre, [(0.09 * radius, crown - 0.1), (0.02 * radius, crown + 0.4 * radius)], 6, tip)
    return crown + 0.4 * radius


def add_vault(mesh: Mesh, half_width: float, ends: Point, bottom: float, rise: float, texture: Texture) -> None:
    """Add a barrel vault seen from inside, along y from ends[0] to ends[1]."""
    turn = np.linspace(np.pi, 0, 9)
    arch = np.stack([np.cos(turn) * half_width, bottom + np.sin(turn) * rise], axis=1)
    for (x, z), (next_x, next_z) in pairwise(arch):
        mesh.add_face([(x, ends[1], z), (next_x, ends[1], next_z), (next_x, ends[0], next_z), (x, ends[0], z)], texture)
