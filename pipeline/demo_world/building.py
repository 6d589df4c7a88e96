"""Landmarks from outside: nine kinds of building put together from parts, each side with a wall of its own."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.demo_world import palette, shape
from pipeline.demo_world.camera import Mesh, Texture
from pipeline.demo_world.facade import WallStyle, draw_style, paint_wall
from pipeline.demo_world.material import MATERIALS, ROOFINGS
from pipeline.demo_world.paint import choose, make_generator
from pipeline.demo_world.shape import CORNERS, Plot, Point

MIDDLE: tuple[Point, ...] = ((0.0, 0.0),)
ENDS: tuple[Point, ...] = ((-0.95, -0.88), (0.95, -0.88))  # of the front
OUTSIDE: tuple[Point, ...] = tuple((x * 1.1, y * 1.1) for x, y in CORNERS)
EDGE = (-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8)
EDGES: tuple[Point, ...] = tuple(at for k in EDGE for at in ((k, -1.0), (1.0, k), (-k, 1.0), (-1.0, -k)))
ROOFS = {"gable": (0.0, 0.5), "hip": (1.0, 0.5), "eaves": (1.0, 2.0)}  # see shape.add_roof
FACETS = {"tower": 1, "clock": 1, "drum": 3, "minaret": 3}  # walls of towers: the tower is so many times as wide
TAPER, STRETCH = (0.85, 1.2), (0.65, 1.35)  # how buildings of a kind differ in the widths and heights of their parts
GABLES = ("ashlar", "brick", "planks")
Extent = tuple[float, float, float]  # width, depth, height in metres


class Part(NamedTuple):
    """A solid at one or more places; its sizes are shares of the building's."""

    solid: str  # of ROOFS, shape.PROFILES or FACETS, walls, storey, stone, cap or dome
    bottom: float  # share of the height
    top: float
    width: float = 1.0
    depth: float = 0.0  # 0 = square
    places: tuple[Point, ...] = MIDDLE  # x and y; -1 and 1 are the building's edges


class Kind(NamedTuple):
    """A kind of building: what it is called, the ranges of its width, depth and height in metres, and its parts."""

    titles: tuple[str, ...]
    ranges: tuple[Point, Point, Point]
    parts: tuple[Part, ...]


# fmt: off
HALL = Part("walls", 0, 1, 1, 1)
KINDS = (
    Kind(("Church of {}", "{} Minster", "Abbey of {}"), ((13, 18), (26, 36), (11, 15)), (
        HALL, Part("gable", 1, 1.6, 1, 1), Part("clock", 0, 1.9, 0.34, 0, ENDS), Part("cap", 1.9, 2.7, 0.34, 0, ENDS),
        Part("drum", 0, 0.75, 0.7, 0, ((0, 1),)), Part("cone", 0.75, 1.15, 0.7, 0, ((0, 1),)))),
    Kind(("{} Town Hall", "Guildhall of {}", "Old Town Hall, {}"), ((24, 34), (16, 22), (10, 13)), (
        HALL, Part("gable", 1, 1.65, 1, 1), Part("clock", 0, 2.4, 0.22, 0, ((0.6, -0.3),)),
        Part("cap", 2.4, 3.1, 0.22, 0, ((0.6, -0.3),)))),
    Kind(("Palace of {}", "{} House", "Summer Palace, {}"), ((34, 46), (17, 24), (11, 14)), (
        HALL, Part("hip", 1, 1.35, 1, 1), Part("tower", 0, 1.2, 0.16, 0, CORNERS),
        Part("cap", 1.2, 1.6, 0.16, 0, CORNERS), Part("drum", 1, 1.7, 0.18), Part("round", 1.7, 2.1, 0.19))),
    Kind(("Temple of {}", "Great Temple, {}", "{} Portico"), ((20, 26), (28, 38), (9, 12)), (
        Part("stone", 0, 0.05, 1.1, 1.07), Part("stone", 0.05, 0.1, 1.04, 1.02), Part("walls", 0.1, 0.86, 0.74, 0.84),
        Part("column", 0.1, 0.86, 0.06, 0, EDGES), Part("stone", 0.86, 1, 1.06, 1.04),
        Part("gable", 1, 1.42, 1.06, 1.04))),
    Kind(("Mausoleum of {}", "Domed Hall of {}", "Tomb of {}"), ((20, 27), (20, 27), (10, 14)), (
        HALL, Part("drum", 1, 1.35, 0.78), Part("dome", 1.35, 2.6, 0.8),
        Part("minaret", 0, 2.0, 0.12, 0, OUTSIDE), Part("cone", 2.0, 2.3, 0.12, 0, OUTSIDE))),
    Kind(("{} Castle", "Fortress of {}", "Citadel of {}"), ((28, 38), (24, 32), (9, 12)), (
        HALL, Part("tower", 1, 1.13, 0.05, 0, EDGES), Part("drum", 0, 1.5, 0.22, 0, CORNERS),
        Part("cone", 1.5, 2.2, 0.24, 0, CORNERS), Part("tower", 0, 2.0, 0.32), Part("cap", 2.0, 2.7, 0.32))),
    Kind(("{} Pagoda", "Pagoda of {}", "Tower of Many Eaves, {}"), ((17, 26), (17, 26), (5, 8)), (
        HALL, Part("eaves", 0.95, 1.7), Part("storey", 1, 2, 0.84), Part("eaves", 1.95, 2.6, 0.84),
        Part("storey", 2, 2.9, 0.68), Part("eaves", 2.85, 3.4, 0.68), Part("storey", 3, 3.75, 0.52),
        Part("eaves", 3.7, 4.2, 0.52), Part("cone", 4.2, 5, 0.05))),
    Kind(("{} Museum", "Museum of {}", "{} Arts Centre"), ((26, 36), (20, 28), (7, 9)), (
        HALL, Part("storey", 1, 1.9, 0.84, 0.84, ((0.22, -0.22),)), Part("storey", 1.9, 3, 0.3, 0, ((-0.3, 0.2),)),
        Part("cap", 3, 3.4, 0.3, 0, ((-0.3, 0.2),)))),
    Kind(("Belfry of {}", "{} Tower", "Clock Tower of {}"), ((20, 32), (16, 24), (6, 10)), (
        HALL, Part("hip", 1, 1.5, 1, 1), Part("storey", 1, 3.2, 0.38), Part("stone", 3.2, 3.3, 0.43),
        Part("clock", 3.3, 4.4, 0.32), Part("cap", 4.4, 5.8, 0.32))),
)
# fmt: on


class Place(NamedTuple):
    """Which landmark of which world, and how many texels per metre its walls have."""

    seed: int
    landmark: int  # its rank in the plan, 0 = the most photographed
    texels: float


@dataclass(slots=True)
class Kit:
    """What the parts of one building are made of."""

    rng: np.random.Generator
    texels: float
    styles: list[WallStyle]  # front, right, back, left
    tower: WallStyle
    dome: str
    roof: Texture
    stone: Texture
    gable: Texture
    mesh: Mesh = field(default_factory=Mesh)

    def add(self, kind: str, plots: list[Plot], span: Point) -> None:
        """Add one solid on each plot, all alike, between two heights."""
        solid = {"dome": self.dome, "cap": "hip" if self.tower.bands else "onion"}.get(kind, kind)
        walls = self.cover(solid, plots[0], span[1] - span[0])
        for plot in plots:
            if solid in ROOFS:
                shape.add_roof(self.mesh, plot, span, ROOFS[solid], (self.roof, self.gable))
            elif solid in shape.PROFILES:
                shape.add_turned(self.mesh, plot, span, solid, walls[0])
            else:
                shape.add_box(self.mesh, plot, span, walls, self.stone)

    def cover(self, solid: str, plot: Plot, height: float) -> list[Texture]:
        """The textures of a solid's sides: a wall for each side of the building, or one for all of a tower's."""
        if solid in ("walls", "storey"):  # only walls have doors and ornaments
            sizes = [(width, height) for width in (plot.width, plot.depth) * 2]
            styles = self.styles
            if solid == "storey":
                styles = [style._replace(door=None, ornament=None) for style in styles]
        elif solid in FACETS:
            sizes, bay_m = [(plot.width / FACETS[solid], height)], max(plot.width / 2, 1.6)
            styles = [self.tower._replace(ornament="clock" if solid == "clock" else None, bay_m=bay_m)]
        else:
            return [self.stone if solid in ("stone", "column") else self.roof]
        return [paint_wall(self.rng, size, style, self.texels) for size, style in zip(sizes, styles, strict=True)]


def prepare_kit(place: Place) -> Kit:
    """The materials of a landmark: its sides have only the trim in common."""
    rng, texels = make_generator(place.seed, "building", place.landmark), place.texels
    trim, roof = palette.pick(rng, palette.TRIMS, 10), palette.pick(rng, palette.ROOFS, 14)
    picks = rng.choice(len(palette.WALLS), 5, replace=False).tolist()
    *colours, accent = (palette.vary(rng, palette.WALLS[pick], 16) for pick in picks)
    styles = [draw_style(rng, trim, colour, door=k == 0 or rng.random() < 0.6) for k, colour in enumerate(colours)]
    tower = draw_style(rng, trim, palette.mix(trim, accent, 0.45), door=False)
    side = int(6 * texels)
    tiles = ROOFINGS[choose(rng, list(ROOFINGS))](rng, (side, side), roof, texels)
    gable = palette.mix(trim, colours[0], 0.6)  # in the colours of the front, or gables would be taken for roofs
    bond = MATERIALS[choose(rng, GABLES)](rng, (2 * side, 3 * side), gable, texels)
    stone = Texture.from_colour(palette.darken(palette.mix(trim, accent, 0.3), 0.92))
    dome = choose(rng, ["round", "onion"])
    return Kit(rng, texels, styles, tower, dome, Texture.from_pixels(tiles), stone, Texture.from_pixels(bond))


def choose_kind(seed: int, landmark: int) -> Kind:
    """The kind of building that a landmark is; neighbouring landmarks are of different kinds."""
    return KINDS[(int(make_generator(seed, "kinds").integers(len(KINDS))) + landmark) % len(KINDS)]


def build_landmark(place: Place) -> tuple[Kit, Extent]:
    """The building, with its mesh, front at -y, and its extent (width, depth, height)."""
    kit, kind = prepare_kit(place), choose_kind(place.seed, place.landmark)
    width, depth, height = (float(kit.rng.uniform(*limits)) for limits in kind.ranges)
    taper, mirror, ends = kit.rng.uniform(*TAPER), choose(kit.rng, [-1, 1]), choose(kit.rng, [1, 2, 2])
    marks = np.array(sorted({mark for part in kind.parts for mark in (part.bottom, part.top)}))
    steps = np.diff(marks, prepend=0) * np.where(marks > 1, kit.rng.uniform(*STRETCH, len(marks)), 1)
    levels = dict(zip(marks.tolist(), (np.cumsum(steps) * height).tolist(), strict=True))
    for part in kind.parts:
        broad = part.width**taper * width
        deep = part.depth * depth or broad
        plots = [Plot(x * mirror * width / 2, y * depth / 2, broad, deep) for x, y in part.places]
        kit.add(part.solid, plots[:ends] if part.places == ENDS else plots, (levels[part.bottom], levels[part.top]))
    return kit, (width, depth, max(levels.values()))
