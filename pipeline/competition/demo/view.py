"""Where the photographer stands, and who walks into the picture."""

from __future__ import annotations

import numpy as np

from pipeline.competition.demo.camera import Camera, Mesh, Texture
from pipeline.competition.demo.hall import Hall
from pipeline.competition.demo.noise import Vectors, choose
from pipeline.competition.demo.site import Site
from pipeline.competition.demo.sprite import paint_person, paint_vehicle, stand_up

SIDES = {"front": 0.0, "right": 90.0, "back": 180.0, "left": 270.0}  # azimuth of the camera in degrees
VIEWS = (*SIDES, "inside")
ASPECTS = ((4, 3), (4, 3), (4, 3), (3, 2), (3, 2), (3, 4), (3, 4), (2, 3), (1, 1), (16, 9), (5, 2))
PEOPLE_FROM_M = 7.0
SHADE = Texture.from_colour((52, 52, 54))


def choose_size(rng: np.random.Generator, longest_side_px: int) -> tuple[int, int]:
    """The (width, height) of a photograph: landscape mostly, also portrait, square and panorama."""
    wide, tall = choose(rng, ASPECTS)
    scale = longest_side_px / max(wide, tall)
    return round(wide * scale), round(tall * scale)


def face_building(rng: np.random.Generator, site: Site, view: str, size: tuple[int, int]) -> Camera:
    """A camera outside, before one side of the building."""
    width, depth, tall = site.extent
    azimuth = np.deg2rad(SIDES[view] + float(np.clip(rng.normal(0, 10), -23, 23)))
    outward = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    breadth = width * abs(outward[1]) + depth * abs(outward[0])
    inward = (width * abs(outward[0]) + depth * abs(outward[1])) / 2
    away = max(breadth, tall) * rng.uniform(0.65, 1.4) + 3
    eye = outward * (inward + away) + (0, 0, 1.65)
    if rng.random() < 0.15:
        eye[2] = rng.uniform(5, tall * 0.9)
    fit = min(size[0] / breadth, size[1] / (tall * 1.1)) * (away + inward * 0.4)
    zoom = rng.uniform(1.5, 2.3) if rng.random() < 0.16 else rng.uniform(0.82, 1.3)
    focal = float(np.clip(fit * zoom, 0.5 * max(size), 4 * max(size)))
    across = np.array([outward[1], -outward[0], 0.0])
    sideways = rng.normal(0, 0.07 if zoom < 1.4 else 0.2) * breadth
    target = across * sideways + (0, 0, tall * rng.uniform(0.26, 0.42))
    return Camera.looking_at(eye, target, focal, size, float(rng.normal(0, 0.012)))


def enter_hall(rng: np.random.Generator, hall: Hall, size: tuple[int, int]) -> Camera:
    """A camera inside, mostly looking down the hall."""
    width, length, height = hall.size
    back = -1.0 if rng.random() < 0.12 else 1.0
    eye = np.array([rng.normal(0, 0.07) * width, -back * length * rng.uniform(0.12, 0.44), 1.65])
    eye[0] = float(np.clip(eye[0], -width * 0.2, width * 0.2))
    target = np.array([rng.normal(0, 0.12) * width, back * length / 2, height * rng.uniform(0.3, 0.55)])
    focal = max(size) * float(rng.uniform(0.5, 0.95))
    return Camera.looking_at(eye, target, focal, size, float(rng.normal(0, 0.012)))


def find_spot(rng: np.random.Generator, camera: Camera, near_m: float, far_m: float) -> Vectors:
    """(3,) a place on the ground within the picture, between two distances from the camera."""
    forward = camera.rotation[2] * (1, 1, 0)
    forward = forward / np.linalg.norm(forward)
    away = rng.uniform(near_m, max(near_m + 1, far_m))
    sideways = rng.uniform(-0.5, 0.5) * camera.width / camera.focal_px * away
    spot = camera.position + forward * away + np.array([forward[1], -forward[0], 0]) * sideways
    return np.array([spot[0], spot[1], 0.0])


def add_shade(mesh: Mesh, foot: Vectors, size: tuple[float, float]) -> None:
    """Add a dark patch on the ground below something, lest it float."""
    half = np.array(size) / 2
    x, y, z = foot.tolist()
    ring = [
        (x - half[0], y + half[1]),
        (x + half[0], y + half[1]),
        (x + half[0], y - half[1]),
        (x - half[0], y - half[1]),
    ]
    mesh.add_face([(*corner, z + 0.055) for corner in ring], SHADE)


def add_passers_by(
    rng: np.random.Generator, mesh: Mesh, camera: Camera, far_m: float, rainy: bool, traffic: bool
) -> None:
    """Add people, and now and then a vehicle, between the camera and what is `far_m` metres away."""
    for _ in range(min(9, int(rng.poisson(2.0)))):
        foot = find_spot(rng, camera, PEOPLE_FROM_M, far_m)
        add_shade(mesh, foot, (0.7, 0.4))
        tall = float(rng.uniform(1.65, 1.95))
        stand_up(mesh, foot, (tall / 2, tall), paint_person(rng, rainy and rng.random() < 0.8), camera.position)
    if traffic and rng.random() < 0.22:
        texture, length = paint_vehicle(rng)
        foot = find_spot(rng, camera, 11.0, far_m)
        rows, columns = texture.levels[0].shape[:2]
        stand_up(mesh, foot, (length, length * rows / columns), texture, camera.position)
