"""Landmarks from outside: nine kinds of building, each side with a wall of its own under one family roof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.competition.demo.camera import Mesh, Texture
from pipeline.competition.demo.facade import WALL_COLOURS, WallStyle, draw_style, paint_wall
from pipeline.competition.demo.material import MATERIALS, ROOFINGS
from pipeline.competition.demo.noise import Colour, choose, darken, make_generator, mix, vary_colour
from pipeline.competition.demo.shape import (
    Point,
    add_box,
    add_column,
    add_dome,
    add_lathe,
    add_lid,
    add_prism,
    add_roof,
    polygon,
    rectangle,
)

ROOF_COLOURS: tuple[Colour, ...] = (
    (150, 72, 52), (84, 88, 98), (96, 140, 122), (120, 92, 70), (172, 104, 64), (60, 66, 84), (190, 160, 80),
    (110, 60, 70),
)  # fmt: skip
TRIM_COLOURS: tuple[Colour, ...] = ((232, 224, 206), (214, 198, 168), (190, 186, 180), (240, 236, 228), (168, 120, 92))
Extent = tuple[float, float, float]  # width, depth, height in metres


@dataclass(slots=True)
class Kit:
    """What the parts of one building are made of."""

    rng: np.random.Generator
    texels: float  # per metre
    styles: list[WallStyle]  # front, right, back, left
    tower: WallStyle
    trim: Colour
    roof: Texture
    stone: Texture
    gable: Texture
    mesh: Mesh = field(default_factory=Mesh)

    def span(self, low: float, high: float) -> float:
        """A random length in metres."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """True in `share` of the cases."""
        return bool(self.rng.random() < share)

    def walls(self, size: Point, height: float, plain: bool = False) -> list[Texture]:
        """Walls for the four sides of a box; plain ones have neither door nor ornament."""
        styles = [replace(style, door=None, ornament=None) for style in self.styles] if plain else self.styles
        widths = (size[0], size[1], size[0], size[1])
        return [paint_wall(self.rng, w, height, style, self.texels) for w, style in zip(widths, styles, strict=True)]

    def tower_wall(self, width: float, height: float, ornament: str | None = None) -> Texture:
        """The wall that all sides of the building's towers share."""
        style = replace(self.tower, ornament=ornament, bay_m=max(width / 2, 1.6))
        return paint_wall(self.rng, width, height, style, self.texels)

    def block(self, centre: Point, size: Point, bottom: float, top: float, plain: bool = False) -> None:
        """Add a box with the building's walls and a flat top."""
        add_box(self.mesh, centre, size, bottom, top, self.walls(size, top - bottom, plain), self.stone)

    def pitch(
        self, centre: Point, size: Point, bottom: float, rise: float, inset: float, along_y: bool = False
    ) -> None:
        """Add a pitched roof with the building's tiles."""
        add_roof(self.mesh, centre, size, bottom, rise, inset, self.roof, self.gable, along_y)

    def spire(self, centre: Point, width: float, height: float, rise: float, wall: Texture) -> None:
        """Add a square tower with a pyramid or a dome upon it."""
        add_box(self.mesh, centre, (width, width), 0, height, [wall], self.stone)
        if self.tower.bands:
            self.pitch(centre, (width, width), height, rise, width / 2)
        else:
            add_dome(self.mesh, centre, width * 0.46, height, "onion", self.roof, self.stone)


def prepare_kit(seed: int, landmark: int, texels: float) -> Kit:
    """The materials of a landmark: its sides differ in all but the trim."""
    rng = make_generator(seed, "building", landmark)
    trim, roof = vary_colour(rng, choose(rng, TRIM_COLOURS), 10), vary_colour(rng, choose(rng, ROOF_COLOURS), 14)
    picks = rng.choice(len(WALL_COLOURS), 5, replace=False).tolist()
    colours = [vary_colour(rng, WALL_COLOURS[pick], 16) for pick in picks]
    styles = [
        draw_style(rng, trim, colour, door=bool(rng.random() < 0.6) or k == 0) for k, colour in enumerate(colours[:4])
    ]
    tower = replace(draw_style(rng, trim, mix(trim, colours[4], 0.45), door=False), shutters=False)
    side = int(6 * texels)
    tiles = ROOFINGS[choose(rng, list(ROOFINGS))](rng, side, side, roof, texels)
    grey = darken(mix(trim, colours[4], 0.3), 0.92)
    face = mix(trim, colours[0], 0.6)  # gables are in the colours of the front, lest they be taken for roofs
    bond = MATERIALS[choose(rng, ["ashlar", "brick", "planks"])](rng, 2 * side, 3 * side, face, texels)
    return Kit(
        rng,
        texels,
        styles,
        tower,
        trim,
        Texture.from_pixels(tiles),
        Texture.from_colour(grey),
        Texture.from_pixels(bond),
    )


def build_church(kit: Kit) -> Extent:
    """A nave with a gable, one or two front towers and a rounded choir."""
    width, depth, height = kit.span(13, 18), kit.span(26, 36), kit.span(11, 15)
    kit.block((0, 0), (width, depth), 0, height)
    kit.pitch((0, 0), (width, depth), height, width * kit.span(0.4, 0.65), 0, along_y=True)
    tall, broad = height * kit.span(1.6, 2.2), width * kit.span(0.3, 0.38)
    wall = kit.tower_wall(broad, tall, choose(kit.rng, ["clock", None]))
    for x in (-1, 1) if kit.chance(0.5) else (kit.rng.choice([-1, 1]),):
        kit.spire(
            (x * (width - broad * 0.2) / 2, -depth / 2 + broad * 0.4), broad, tall, broad * kit.span(1.2, 2.6), wall
        )
    ring = polygon((0, depth / 2), width * 0.36, 8)
    add_prism(kit.mesh, ring, 0, height * 0.75, [kit.tower_wall(width * 0.28, height * 0.75)])
    add_lathe(kit.mesh, (0, depth / 2), [(width * 0.4, height * 0.75), (0.05, height * 1.1)], 8, kit.roof)
    return width * 1.25, depth, tall


def build_palace(kit: Kit) -> Extent:
    """A long range with a hipped roof, a middle pavilion and wings at the ends."""
    width, depth, height = kit.span(34, 46), kit.span(17, 24), kit.span(11, 14)
    kit.block((0, 0), (width, depth), 0, height)
    kit.pitch((0, 0), (width, depth), height, kit.span(3, 6), depth / 2)
    wall = kit.tower_wall(6.5, height * 1.2)
    domed = kit.chance(0.4)
    for x in (-1, 1):
        for y in (-1, 1):
            at = (x * (width / 2 - 1.5), y * (depth / 2 - 1.5))
            add_box(kit.mesh, at, (6.5, 6.5), 0, height * 1.2, [wall], kit.stone)
            if domed:
                add_dome(kit.mesh, at, 3.2, height * 1.2, "round", kit.roof, kit.stone)
            else:
                kit.pitch(at, (6.5, 6.5), height * 1.2, kit.span(4, 7), 3.25)
    add_lathe(kit.mesh, (0, 0), [(3.6, height), (3.6, height + 8)], 8, kit.tower_wall(2.8, 8))
    add_dome(kit.mesh, (0, 0), 3.9, height + 8, "round", kit.roof, kit.stone)
    return width, depth, height + 12


def build_temple(kit: Kit) -> Extent:
    """A walled hall within rows of columns, on steps, under one low gable."""
    width, depth, height = kit.span(20, 26), kit.span(28, 38), kit.span(9, 12)
    for k in range(3):
        step = 2.4 - 0.8 * k
        add_box(kit.mesh, (0, 0), (width + step, depth + step), 0.45 * k, 0.45 * (k + 1), [kit.stone], kit.stone)
    kit.block((0, 0), (width - 6, depth - 6), 1.3, height)
    ring = rectangle((0, 0), (width - 1.4, depth - 1.4))
    for start, end, count in zip(ring, np.roll(ring, -1, axis=0), (6, 8, 6, 8), strict=True):
        for share in np.arange(count) / count:
            x, y = (start + (end - start) * share).tolist()
            add_column(kit.mesh, (x, y), 0.65, 1.3, height, kit.stone)
    beam = kit.tower_wall(width, 1.6, "frieze")
    add_box(kit.mesh, (0, 0), (width, depth), height, height + 1.6, [beam], kit.stone)
    add_lid(
        kit.mesh, rectangle((0, 0), (width, depth)), height, Texture.from_colour(darken(kit.trim, 0.6)), downward=True
    )
    kit.pitch((0, 0), (width, depth), height + 1.6, width * kit.span(0.16, 0.24), 0, along_y=True)
    return width, depth, height + 6


def build_domed_hall(kit: Kit) -> Extent:
    """A cube with a great dome upon a drum, and slender towers at the corners."""
    width, height = kit.span(20, 27), kit.span(10, 14)
    kit.block((0, 0), (width, width), 0, height)
    drum, radius = kit.span(3, 5), width * kit.span(0.33, 0.42)
    add_lathe(kit.mesh, (0, 0), [(radius, height), (radius, height + drum)], 12, kit.tower_wall(radius / 2, drum))
    shape = choose(kit.rng, ["round", "onion", "saucer"])
    tip = add_dome(kit.mesh, (0, 0), radius * 1.02, height + drum, shape, kit.roof, kit.stone)
    tall, slim = tip * kit.span(0.85, 1.15), kit.span(1.1, 1.6)
    wall = kit.tower_wall(slim, tall)
    reach = width / 2 + (kit.span(2, 5) if kit.chance(0.5) else 0)
    for x, y in rectangle((0, 0), (2 * reach, 2 * reach)).tolist():
        shaft = [
            (slim, 0),
            (slim * 0.8, tall * 0.7),
            (slim * 1.3, tall * 0.72),
            (slim * 1.3, tall * 0.75),
            (slim * 0.7, tall * 0.75),
        ]
        add_lathe(kit.mesh, (x, y), [*shaft, (slim * 0.7, tall * 0.9)], 8, wall)
        add_lathe(kit.mesh, (x, y), [(slim * 0.9, tall * 0.9), (0.05, tall)], 8, kit.roof)
    return 2 * reach, 2 * reach, max(tip, tall)


def build_castle(kit: Kit) -> Extent:
    """A walled court with round corner towers and a keep; battlements all round."""
    width, depth, height = kit.span(28, 38), kit.span(24, 32), kit.span(9, 12)
    kit.block((0, 0), (width, depth), 0, height)
    crown = kit.tower_wall(1.2, 1.3)
    ring = rectangle((0, 0), (width, depth))
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        for share in (np.arange(9) + 0.5) / 9:
            x, y = (start + (end - start) * share).tolist()
            add_box(kit.mesh, (x, y), (1.6, 1.6), height, height + 1.4, [crown], kit.stone)
    radius, tall = kit.span(3, 4.2), height * kit.span(1.3, 1.8)
    wall = kit.tower_wall(radius * 0.6, tall)
    coned = kit.chance(0.6)
    for x, y in ring.tolist():
        add_prism(kit.mesh, polygon((x, y), radius, 10), 0, tall, [wall])
        peak = (
            [(radius * 1.2, tall - 0.2), (0.05, tall + radius * 2.4)]
            if coned
            else [(radius * 1.15, tall - 0.5), (radius * 1.15, tall + 1), (0.1, tall + 1)]
        )
        add_lathe(kit.mesh, (x, y), peak, 10, kit.roof if coned else kit.stone)
    keep = kit.span(9, 12)
    kit.spire((kit.span(-3, 3), kit.span(-2, 4)), keep, tall * 1.35, keep * 0.7, kit.tower_wall(keep, tall * 1.35))
    return width + radius, depth + radius, tall * 1.5


def build_town_hall(kit: Kit) -> Extent:
    """A steep-roofed hall with a clock tower."""
    width, depth, height = kit.span(24, 34), kit.span(16, 22), kit.span(10, 13)
    kit.block((0, 0), (width, depth), 0, height)
    kit.pitch((0, 0), (width, depth), height, kit.span(6, 9), kit.span(2, 5) if kit.chance(0.6) else 0)
    broad, tall = kit.span(5.5, 7.5), height * kit.span(2.0, 2.8)
    x = choose(kit.rng, [0.0, -width * 0.34, width * 0.34])
    kit.spire((x, -depth * 0.12), broad, tall, broad * kit.span(0.8, 1.8), kit.tower_wall(broad, tall, "clock"))
    return width, depth, tall


def build_pagoda(kit: Kit) -> Extent:
    """Storeys that shrink upwards, each under spreading eaves."""
    width, level = kit.span(18, 24), 0.0
    storeys = int(kit.rng.integers(3, 6))
    for k in range(storeys):
        size, storey = width * (1 - 0.15 * k), 6.5 - 0.7 * k
        kit.block((0, 0), (size, size), level, level + storey, plain=k > 0)
        level += storey
        add_roof(kit.mesh, (0, 0), (size, size), level - 0.4, size * 0.3, size / 2, kit.roof, kit.stone, eaves=2.0)
        level += 0.8
    add_lathe(kit.mesh, (0, 0), [(0.5, level), (0.3, level + 5), (0.02, level + 8)], 8, kit.stone)
    return width + 4, width + 4, level + 6


def build_museum(kit: Kit) -> Extent:
    """Plain volumes set upon each other askew, as a modern museum has."""
    width, depth = kit.span(26, 36), kit.span(20, 28)
    first, second = kit.span(7, 9), kit.span(6, 9)
    kit.block((0, 0), (width, depth), 0, first)
    shift = (kit.span(-4, 4), kit.span(-4, 4))
    size = (width * kit.span(0.7, 1.0), depth * kit.span(0.7, 1.0))
    kit.block(shift, size, first, first + second, plain=True)
    add_lid(kit.mesh, rectangle(shift, size), first, kit.stone, downward=True)
    tall = first + second + kit.span(6, 14)
    side = kit.span(7, 10)
    kit.block((-shift[0], -shift[1]), (side, side), first + second, tall, plain=True)
    kit.pitch((-shift[0], -shift[1]), (side, side), tall, kit.span(1, 4), side / 2)
    return width, depth, tall


def build_belfry(kit: Kit) -> Extent:
    """One great tower in stages, with low halls at its foot."""
    broad, tall = kit.span(9, 12), kit.span(28, 40)
    kit.block((0, 0), (broad * 2.6, broad * 1.9), 0, tall * 0.24)
    kit.pitch((0, 0), (broad * 2.6, broad * 1.9), tall * 0.24, 3, broad * 0.5)
    kit.block((0, 0), (broad, broad), tall * 0.24, tall * 0.7, plain=True)
    upper = kit.tower_wall(broad * 0.8, tall * 0.24, "clock")
    add_box(kit.mesh, (0, 0), (broad * 1.12, broad * 1.12), tall * 0.7, tall * 0.72, [kit.stone], kit.stone)
    add_box(kit.mesh, (0, 0), (broad * 0.8, broad * 0.8), tall * 0.72, tall * 0.96, [upper], kit.stone)
    kit.pitch((0, 0), (broad * 0.8, broad * 0.8), tall * 0.96, broad * kit.span(0.8, 2.0), broad * 0.4)
    return broad * 2.6, broad * 1.9, tall * 1.1


MASSINGS: dict[str, Callable[[Kit], Extent]] = {
    "church": build_church,
    "palace": build_palace,
    "temple": build_temple,
    "mausoleum": build_domed_hall,
    "castle": build_castle,
    "town hall": build_town_hall,
    "pagoda": build_pagoda,
    "museum": build_museum,
    "belfry": build_belfry,
}


def choose_massing(seed: int, landmark: int) -> str:
    """The kind of building that a landmark is; neighbouring landmarks are of different kinds."""
    kinds = list(MASSINGS)
    start = int(make_generator(seed, "kinds").integers(len(kinds)))
    return kinds[(start + landmark) % len(kinds)]


def build_landmark(seed: int, landmark: int, texels: float) -> tuple[Mesh, Extent, Kit]:
    """The outside of a landmark with the front at -y, its extent (width, depth, height), and its materials."""
    kit = prepare_kit(seed, landmark, texels)
    extent = MASSINGS[choose_massing(seed, landmark)](kit)
    return kit.mesh, extent, kit
