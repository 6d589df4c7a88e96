"""One photograph of the demo world, from its few numbers in the plan to its pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.competition.demo.camera import Mesh
from pipeline.competition.demo.distractor import DISTRACTORS
from pipeline.competition.demo.exposure import expose
from pipeline.competition.demo.hall import raise_hall
from pipeline.competition.demo.light import INDOORS, WEATHER_SHARES, WEATHERS, open_sun, trace_sun
from pipeline.competition.demo.noise import Pixels, make_generator
from pipeline.competition.demo.site import raise_site
from pipeline.competition.demo.sprite import stand_up
from pipeline.competition.demo.view import SIDES, add_passers_by, choose_size, enter_hall, face_building

NO_LANDMARK = -1
LAMP_LIGHT = (1.0, 0.74, 0.42)  # of street lamps and floodlights
TREE_CLEARANCE_M = 9.0  # a tree nearer than this would fill the picture


def render_photograph(world_seed: int, landmark: int, view: str, photograph_seed: int, longest_side_px: int) -> Pixels:
    """One photograph, (H, W, 3) uint8 RGB, the same for the same arguments.

    landmark: its rank in the plan (0 = the most photographed), or NO_LANDMARK. view: one of view.VIEWS, or for no
    landmark one of DISTRACTORS. A landmark's first photograph in a process takes longer: its walls are painted then.
    """
    rng = make_generator(world_seed, "photograph", photograph_seed)
    size = choose_size(rng, longest_side_px)
    texels = float(np.clip(longest_side_px / 16, 10, 40))
    if landmark == NO_LANDMARK:
        return DISTRACTORS[view](rng, size)
    if view in SIDES:
        return photograph_outside(rng, (world_seed, landmark, texels), view, size)
    return photograph_inside(rng, (world_seed, landmark, texels), size)


def photograph_outside(
    rng: np.random.Generator, place: tuple[int, int, float], view: str, size: tuple[int, int]
) -> Pixels:
    """(H, W, 3) a landmark from one of its sides; place = (world seed, landmark, texels a metre)."""
    site = raise_site(*place)
    weather = WEATHERS[str(rng.choice(list(WEATHER_SHARES), p=list(WEATHER_SHARES.values())))]
    sun = trace_sun(*place, weather.low_sun, int(rng.integers(10)))
    camera = face_building(rng, site, view, size)
    extras = Mesh()
    for tree in site.trees:
        if np.linalg.norm((tree.foot - camera.position)[:2]) > TREE_CLEARANCE_M:
            stand_up(extras, tree.foot, tree.size, tree.texture, camera.position)
    away = float(np.linalg.norm(camera.position[:2]) - max(site.extent[:2]) / 2)
    add_passers_by(rng, extras, camera, away, weather.falling == "rain", traffic=True)
    lamps = site.lamps if weather.lamps > 0.5 else np.zeros((0, 3))
    return expose(site.mesh.joined(extras), camera, weather, sun, lamps, LAMP_LIGHT, rng)


def photograph_inside(rng: np.random.Generator, place: tuple[int, int, float], size: tuple[int, int]) -> Pixels:
    """(H, W, 3) a landmark's hall; place = (world seed, landmark, texels a metre)."""
    hall = raise_hall(*place)
    camera = enter_hall(rng, hall, size)
    extras = Mesh()
    add_passers_by(rng, extras, camera, hall.size[1] * 0.5, False, traffic=False)
    daylight = float(rng.uniform(0.35, 1.25))
    weather = replace(INDOORS, ambient=(0.2 * daylight, 0.21 * daylight, 0.23 * daylight), lamps=daylight)
    strength = float(rng.uniform(0.35, 0.9))
    red, green, blue = (channel / 255 * strength for channel in hall.lamp_colour)
    return expose(hall.mesh.joined(extras), camera, weather, open_sun(rng), hall.lamps, (red, green, blue), rng)
