"""One photograph of the demo world: where the camera stands, who walks into the image, and the pixels."""

import numpy as np

from pipeline.demo_world.building import Place
from pipeline.demo_world.camera import Camera, Mesh, Pixels, Vectors
from pipeline.demo_world.distractor import DISTRACTORS
from pipeline.demo_world.hall import raise_hall
from pipeline.demo_world.light import INDOORS, WEATHERS, Weather, aim_sun, expose
from pipeline.demo_world.paint import choose, make_generator
from pipeline.demo_world.site import add_passers_by, raise_site, stand_up

Shown = tuple[Mesh, Weather, Vectors, Camera]  # what is photographed, in which weather, the sun's direction, from where
NO_LANDMARK = -1
SIDES = {"front": 0.0, "right": 90.0, "back": 180.0, "left": 270.0}  # azimuth of the camera in degrees
VIEWS = (*SIDES, "inside")
ASPECTS = ((4, 3), (4, 3), (4, 3), (3, 2), (3, 2), (3, 4), (3, 4), (2, 3), (1, 1), (16, 9), (5, 2))
TEXELS, EYE_M = (10, 40), 1.65  # per metre of wall, at least and at most; height of the camera
OFF_AXIS_DEG = (9, 20)  # standard deviation and limit of the azimuth
AWAY = (0.65, 1.4)  # distance from the wall in units of the building's breadth or height
RAISED_SHARE, CLOSE_SHARE = 0.15, 0.12  # of the photographs: from a window opposite; of a part of the building
ZOOM, CLOSE_ZOOM, HALL_ZOOM = (0.82, 1.3), (1.5, 2.3), (0.5, 0.95)
TREE_CLEARANCE_M = 9.0  # a nearer tree would fill the image
SUN_DEG, SUN_HEIGHT_DEG, LOW_SUN_DEG = 65.0, (26, 56), 11.0  # limit of the azimuth from south, and elevation
DAYLIGHT, BACKWARD_SHARE = (0.5, 1.6), 0.12  # inside


def render_image(seed: int, landmark: int, view: str, number: int, longest_side_px: int) -> Pixels:
    """One photograph, (H, W, 3) uint8 RGB, the same for the same arguments.

    seed: of the world; landmark: its rank in the plan, or NO_LANDMARK; view: one of VIEWS, or for no landmark one of
    DISTRACTORS; number: the photograph's own seed. A landmark's first image in a process takes longer: its walls are
    painted then.
    """
    rng = make_generator(seed, "photograph", number)
    wide, tall = choose(rng, ASPECTS)
    scale = longest_side_px / max(wide, tall)
    size = round(wide * scale), round(tall * scale)
    if landmark == NO_LANDMARK:
        return DISTRACTORS[view](rng, size)
    place = Place(seed, landmark, float(np.clip(longest_side_px / 16, *TEXELS)))
    return expose(*(look_inside(rng, place, size) if view == "inside" else look_at(rng, place, view, size)), rng)


def look_at(rng: np.random.Generator, place: Place, view: str, size: tuple[int, int]) -> Shown:
    """A landmark from one of its sides, in some weather."""
    site, extras = raise_site(place), Mesh()
    name = str(rng.choice(list(WEATHERS), p=[weather.share for weather in WEATHERS.values()]))
    azimuth = site.south_rad + np.deg2rad(rng.uniform(-SUN_DEG, SUN_DEG))
    sun = aim_sun(azimuth, LOW_SUN_DEG if name == "sunset" else rng.uniform(*SUN_HEIGHT_DEG))
    camera = face_building(rng, site.extent, view, size)
    for foot, tree_size, texture in site.trees:
        if np.linalg.norm((foot - camera.position)[:2]) > TREE_CLEARANCE_M:
            stand_up(extras, foot, tree_size, texture, camera.position)
    away = float(np.linalg.norm(camera.position[:2]) - max(site.extent[:2]) / 2)
    add_passers_by(rng, extras, camera, away, traffic=True)
    return Mesh(site.mesh.faces + extras.faces), WEATHERS[name], sun, camera


def face_building(rng: np.random.Generator, extent: tuple[float, ...], view: str, size: tuple[int, int]) -> Camera:
    """A camera outside, before one side of a building of extent (width, depth, height)."""
    width, depth, tall = extent
    spread, limit = OFF_AXIS_DEG
    azimuth = np.deg2rad(SIDES[view] + float(np.clip(rng.normal(0, spread), -limit, limit)))
    outward = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    breadth = width * abs(outward[1]) + depth * abs(outward[0])
    inward = (width * abs(outward[0]) + depth * abs(outward[1])) / 2
    away, close = max(breadth, tall) * rng.uniform(*AWAY) + 3, rng.random() < CLOSE_SHARE
    eye = outward * (inward + away) + (0, 0, rng.uniform(5, tall * 0.9) if rng.random() < RAISED_SHARE else EYE_M)
    fit = min(size[0] / breadth, size[1] / (tall * 1.1)) * (away + inward * 0.4)
    focal = float(np.clip(fit * rng.uniform(*(CLOSE_ZOOM if close else ZOOM)), 0.5 * max(size), 4 * max(size)))
    sideways = rng.normal(0, 0.2 if close else 0.07) * breadth
    target = np.array([outward[1], -outward[0], 0.0]) * sideways + (0, 0, tall * rng.uniform(0.26, 0.42))
    return Camera.looking_at(eye, target, focal, size)


def look_inside(rng: np.random.Generator, place: Place, size: tuple[int, int]) -> Shown:
    """A landmark's hall, mostly looking down its length, in the light of its windows and lamps."""
    (hall, (width, length, height)), extras = raise_hall(place), Mesh()
    way = -1.0 if rng.random() < BACKWARD_SHARE else 1.0
    eye = (float(np.clip(rng.normal(0, 0.07), -0.2, 0.2)) * width, -way * length * rng.uniform(0.12, 0.44), EYE_M)
    target = (rng.normal(0, 0.12) * width, way * length / 2, height * rng.uniform(0.3, 0.55))
    camera = Camera.looking_at(eye, target, max(size) * float(rng.uniform(*HALL_ZOOM)), size)
    add_passers_by(rng, extras, camera, length * 0.5, traffic=False)
    bright = float(rng.uniform(*DAYLIGHT))
    red, green, blue = (channel * bright for channel in INDOORS.ambient)
    weather = INDOORS._replace(ambient=(red, green, blue), lamps=bright)
    return Mesh(hall.faces + extras.faces), weather, aim_sun(0, 45), camera
