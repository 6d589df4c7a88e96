"""Solids that buildings consist of; each function adds the faces of one to a mesh."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.demo_world.camera import Mesh, Texture, Vectors
from pipeline.demo_world.palette import SHADE

Point = tuple[float, float]
Walls = Sequence[Texture]
SHADED = Texture.from_colour(SHADE)
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))  # of a plot, counter-clockwise from above, from the front left
ARC = np.linspace(0, np.pi / 2, 7)
PROFILES: dict[str, tuple[int, tuple[Point, ...]]] = {  # sides; pairs of a share of the radius and one of the height
    "drum": (10, ((1, 0), (1, 1))),
    "cone": (12, ((1, 0), (0.01, 1))),
    "column": (8, ((1.35, 0.0), (1.0, 0.06), (0.86, 0.92), (1.4, 0.95), (1.4, 1.0))),
    "minaret": (8, ((1, 0), (0.8, 0.78), (1.3, 0.8), (1.3, 0.83), (0.7, 0.83), (0.7, 1))),
    "round": (16, tuple((float(np.cos(turn)) + 0.01, float(np.sin(turn))) for turn in ARC)),
    "onion": (16, ((0.86, 0), (1.1, 0.15), (1.1, 0.28), (0.98, 0.41), (0.66, 0.57), (0.32, 0.71), (0.1, 0.86), (0, 1))),
}


class Plot(NamedTuple):
    """A rectangle on the ground: its middle, its width along x and its depth along y, in metres."""

    x: float
    y: float
    width: float
    depth: float

    def ring(self) -> Vectors:
        """(4, 2) its CORNERS."""
        return np.array(CORNERS) * (self.width / 2, self.depth / 2) + (self.x, self.y)


def add_prism(mesh: Mesh, ring: Vectors, span: Point, walls: Walls) -> None:
    """Add upright walls around a ring of corners between two heights; too few walls repeat."""
    for k, (left, right) in enumerate(zip(ring, np.roll(ring, -1, axis=0), strict=True)):
        corners = [(*left, span[1]), (*right, span[1]), (*right, span[0]), (*left, span[0])]
        mesh.add_face(corners, walls[k % len(walls)])


def add_floor(mesh: Mesh, plot: Plot, height: float, texture: Texture, downward: bool = False) -> None:
    """Add a level rectangle, seen from above or, `downward`, from below."""
    mesh.add_face(np.column_stack([plot.ring()[:: 1 if downward else -1], np.full(4, height)]), texture)


def add_box(mesh: Mesh, plot: Plot, span: Point, walls: Walls, lid: Texture) -> None:
    """Add a box with walls in the order front, right, back, left and a flat top."""
    add_prism(mesh, plot.ring(), span, walls)
    add_floor(mesh, plot, span[1], lid)


def add_slope(mesh: Mesh, lower: npt.ArrayLike, upper: npt.ArrayLike, texture: Texture) -> None:
    """Add a sloping trapezoid: lower and upper edge, each from left to right; the wider one carries the texture."""
    low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    down, across = low.mean(axis=0) - high.mean(axis=0), np.stack([low[1] - low[0], high[1] - high[0]])
    if np.linalg.norm(across[0]) >= np.linalg.norm(across[1]):
        frame = np.stack([low[0] - down, across[0], down])
    else:
        frame = np.stack([high[0], across[1], down])
    mesh.add_face([high[0], high[1], low[1], low[0]], texture, frame)


def add_roof(mesh: Mesh, plot: Plot, span: Point, style: Point, cover: Walls) -> None:
    """Add a pitched roof between two heights, its ridge along the plot's longer side.

    style: hip (0 = gables, 1 = slopes on all sides: a pyramid on a square), eaves in metres. cover: tiles, gable.
    """
    hip, eaves = style
    along_y, (breadth, length) = plot.depth > plot.width, sorted((plot.width, plot.depth))
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)]) if along_y else np.eye(2)
    level, reach = span[0], length / 2 - hip * breadth / 2
    if not hip:
        level -= (span[1] - span[0]) * eaves / (breadth / 2)
    ring = Plot(0, 0, length + 2 * eaves * (hip > 0), breadth + 2 * eaves).ring() @ turn + plot[:2]
    base = np.column_stack([ring, np.full(4, level)])
    ridge = np.column_stack([np.array([(-reach, 0.0), (reach, 0.0)]) @ turn + plot[:2], np.full(2, span[1])])
    for k, ends in enumerate([(0, 1), (1, 1), (1, 0), (0, 0)]):
        add_slope(mesh, base[[k, (k + 1) % 4]], ridge[list(ends)], cover[1 if k % 2 and not hip else 0])
    mesh.add_face(base, SHADED)


def add_lathe(mesh: Mesh, centre: Point, profile: Sequence[Point], sides: int, texture: Texture) -> None:
    """Add a solid of revolution: profile = (radius, height) pairs from the bottom up, turned in `sides` facets."""
    turn = 2 * np.pi * (np.arange(sides) - 0.5) / sides - np.pi / 2  # one side faces the front
    around = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    rings = [np.column_stack([around * r + centre, np.full(sides, z)]) for r, z in profile]
    for below, above in pairwise(rings):
        for k in range(sides):
            add_slope(mesh, below[[k, (k + 1) % sides]], above[[k, (k + 1) % sides]], texture)


def add_turned(mesh: Mesh, plot: Plot, span: Point, kind: str, texture: Texture) -> None:
    """Add one of PROFILES, as wide as the plot, between two heights."""
    sides, profile = PROFILES[kind]
    rings = [(plot.width / 2 * share, span[0] + (span[1] - span[0]) * level) for share, level in profile]
    add_lathe(mesh, (plot.x, plot.y), rings, sides, texture)
