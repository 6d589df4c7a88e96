"""Weather and light: how bright what a camera sees is, with shadows, haze, lamps and sky. Radiance is linear."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.competition.demo.camera import Camera, Canvas, Mesh, Texture, rasterise
from pipeline.competition.demo.noise import Floats, Vectors, tile_noise
from pipeline.competition.demo.site import raise_site
from pipeline.competition.demo.sprite import stand_up

SUN_DISTANCE_M = 900.0  # far enough to count as parallel light
SUN_MAP_SIDE = 360
UNPAINTED = Texture.from_colour((0.0, 0.0, 0.0))
SHADOW_BIAS_M = 0.45
SCATTERED = 0.55  # of the sunlight, by leaves and clothes, whichever way they face
GLOW = (1.5, 1.15, 0.65)  # the light of lit windows
LINEAR = np.square(np.arange(256, dtype=np.float32) / 255)  # radiance of a painted level, by a gamma of 2
Radiance = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Weather:
    """The light of a time of day and a weather."""

    sun: Radiance
    ambient: Radiance
    zenith: Radiance
    horizon: Radiance
    cloud: Radiance
    cover: float  # of the sky, 0 to 1
    haze_m: float  # the distance at which a third of a thing's own colour is left
    lamps: float = 0.0  # how bright street lamps and windows are
    falling: str = ""  # rain or snow
    low_sun: bool = False


WEATHERS: dict[str, Weather] = {
    "clear": Weather(
        (2.0, 1.82, 1.5), (0.36, 0.42, 0.52), (0.07, 0.2, 0.56), (0.5, 0.69, 0.9), (1.0, 1.0, 1.0), 0.36, 1600
    ),
    "fair": Weather(
        (1.65, 1.52, 1.3), (0.4, 0.45, 0.53), (0.1, 0.25, 0.58), (0.58, 0.72, 0.88), (0.98, 0.98, 1.0), 0.6, 1200
    ),
    "overcast": Weather(
        (0.1, 0.1, 0.1), (0.74, 0.77, 0.82), (0.46, 0.5, 0.56), (0.74, 0.77, 0.8), (0.56, 0.59, 0.64), 0.85, 800
    ),
    "fog": Weather(
        (0.05, 0.05, 0.05), (0.72, 0.75, 0.78), (0.7, 0.73, 0.76), (0.74, 0.77, 0.79), (0.74, 0.77, 0.8), 0.3, 85
    ),
    "rain": Weather(
        (0.03, 0.03, 0.03),
        (0.48, 0.52, 0.58),
        (0.28, 0.32, 0.38),
        (0.48, 0.51, 0.56),
        (0.3, 0.33, 0.38),
        0.9,
        300,
        0.15,
        "rain",
    ),
    "snow": Weather(
        (0.05, 0.05, 0.05),
        (0.78, 0.81, 0.88),
        (0.58, 0.62, 0.7),
        (0.78, 0.8, 0.85),
        (0.66, 0.7, 0.76),
        0.7,
        260,
        0.1,
        "snow",
    ),
    "sunset": Weather(
        (1.9, 0.98, 0.42),
        (0.26, 0.25, 0.34),
        (0.1, 0.16, 0.42),
        (1.0, 0.52, 0.24),
        (1.0, 0.5, 0.36),
        0.55,
        900,
        0.2,
        "",
        True,
    ),
    "dusk": Weather(
        (0.05, 0.05, 0.09), (0.13, 0.17, 0.3), (0.02, 0.05, 0.18), (0.3, 0.3, 0.42), (0.16, 0.17, 0.28), 0.4, 800, 0.9
    ),
    "night": Weather(
        (0.03, 0.04, 0.06),
        (0.025, 0.032, 0.06),
        (0.004, 0.007, 0.022),
        (0.03, 0.035, 0.06),
        (0.03, 0.03, 0.045),
        0.3,
        800,
        1.15,
    ),
}
INDOORS = Weather((0, 0, 0), (0.34, 0.32, 0.3), (0, 0, 0), (0.4, 0.38, 0.36), (0, 0, 0), 0, 900, 1.0)
WEATHER_SHARES = {
    "clear": 0.34, "fair": 0.25, "overcast": 0.13, "fog": 0.03, "rain": 0.04, "snow": 0.03, "sunset": 0.09,
    "dusk": 0.04, "night": 0.05,
}  # fmt: skip
SUN_PLACES = ((-62, 26), (-34, 44), (-8, 56), (24, 50), (54, 32))  # azimuth from south and elevation, degrees
LOW_SUN_PLACES = ((-78, 11), (78, 11))


@dataclass(frozen=True, slots=True, eq=False)
class SunView:
    """How far the sun's light gets: the depth of the site as seen from the sun."""

    direction: Vectors  # (3,) towards the sun
    camera: Camera
    reach_m: Floats  # (side, side) metres from the sun's camera


def sun_direction(azimuth_rad: float, elevation_deg: float) -> Vectors:
    """(3,) unit vector towards the sun; azimuth 0 is the front of the building (-y), positive to its right."""
    elevation = np.deg2rad(elevation_deg)
    flat = np.cos(elevation)
    return np.array([np.sin(azimuth_rad) * flat, -np.cos(azimuth_rad) * flat, np.sin(elevation)])


@lru_cache(maxsize=24)
def trace_sun(seed: int, landmark: int, texels: float, low: bool, place: int) -> SunView:
    """The sun's view of a landmark's site when the sun stands at one of its places."""
    site = raise_site(seed, landmark, texels)
    azimuth, elevation = LOW_SUN_PLACES[place % 2] if low else SUN_PLACES[place % len(SUN_PLACES)]
    direction = sun_direction(site.south_rad + np.deg2rad(azimuth), elevation)
    middle = np.array([0.0, 0.0, site.extent[2] * 0.35])
    eye = middle + direction * SUN_DISTANCE_M
    reach = max(np.hypot(site.extent[0], site.extent[1]) * 0.9, site.extent[2]) + 6
    camera = Camera.looking_at(eye, middle, SUN_MAP_SIDE / 2 * SUN_DISTANCE_M / reach, (SUN_MAP_SIDE, SUN_MAP_SIDE))
    mesh = Mesh().joined(site.mesh)
    for tree in site.trees:
        stand_up(mesh, tree.foot, tree.size, tree.texture, eye)
    mesh.textures = [texture if texture.cutout else UNPAINTED for texture in mesh.textures]  # depth alone is wanted
    reach_m = 1 / np.maximum(rasterise(mesh, camera).inverse_depth, 1e-4)
    return SunView(direction, camera, reach_m.astype(np.float32))


def open_sun(rng: np.random.Generator) -> SunView:
    """A sun that nothing stands in the way of."""
    direction = sun_direction(rng.uniform(-1.4, 1.4), rng.uniform(20, 60))
    camera = Camera.looking_at(direction * SUN_DISTANCE_M, (0, 0, 0), 1.0, (4, 4))
    return SunView(direction, camera, np.full((SUN_MAP_SIDE, SUN_MAP_SIDE), 1e6, np.float32))


def find_sunlit(view: SunView, camera: Camera, depth: Floats) -> Floats:
    """(H, W) share of the sun's light, 0 to 1, that reaches each pixel's place."""
    start = view.camera.rotation @ (camera.position - view.camera.position)
    x, y, z = camera.directions(view.camera.rotation) * depth + start.astype(np.float32)[:, None, None]
    scale, middle = np.float32(view.camera.focal_px) / z, np.float32(SUN_MAP_SIDE / 2)
    reach = cv2.remap(view.reach_m, x * scale + middle, y * scale + middle, cv2.INTER_NEAREST,
                      borderMode=cv2.BORDER_CONSTANT, borderValue=1e6)  # fmt: skip
    lit = (z < reach + SHADOW_BIAS_M).astype(np.float32)
    return np.asarray(cv2.blur(lit, (3, 3)), dtype=np.float32)


def light_faces(mesh: Mesh, weather: Weather, sun: Vectors) -> tuple[Floats, Floats, Floats]:
    """The light of the sky on each face, (N + 1, 3), and the sun's share: what gets into the shade, what the open adds.

    Both shares are (N + 1,); the last row stands for no face.
    """
    normals = np.vstack([mesh.normals(), np.zeros((1, 3))])
    side = normals[:, :2] @ (0.11, 0.07)  # half of the sky is brighter, lest a round thing look flat in the shade
    sky = (0.7 + 0.3 * normals[:, 2] + side)[:, None] * np.asarray(weather.ambient)
    scatters = np.array([texture.cutout for texture in mesh.textures] + [True])
    shaded = np.where(scatters, SCATTERED, 0.0)  # a tree's own shadow does not lie on the tree's cutout
    direct = np.where(scatters, 0.0, np.maximum(normals @ sun, 0))
    return sky.astype(np.float32), shaded.astype(np.float32), direct.astype(np.float32)


def shade(
    mesh: Mesh,
    canvas: Canvas,
    camera: Camera,
    weather: Weather,
    sun: SunView,
    lamps: Vectors,
    lamp_colour: Radiance,
    sky: Floats,
) -> Floats:
    """(H, W, 3) radiance: painted colour times light, seen through the haze, before the sky."""
    depth = (1 / np.maximum(canvas.inverse_depth, 1e-4)).astype(np.float32)
    from_sky, in_shade, in_sun = light_faces(mesh, weather, sun.direction)
    direct = np.zeros_like(depth)
    if max(weather.sun) > 0.2:
        direct = np.take(in_sun, canvas.face, mode="wrap") * find_sunlit(sun, camera, depth)
        direct += np.take(in_shade, canvas.face, mode="wrap")
    lit = shine_lamps(mesh, canvas, camera, depth, lamps) if len(lamps) else np.zeros_like(depth)
    glow = LINEAR[canvas.colour[:, :, 3]] * np.float32(weather.lamps)
    clear = np.exp(depth * np.float32(-1 / weather.haze_m))
    nothing = canvas.face < 0
    channels = []
    for c in range(3):  # one at a time: numpy is slow along a last axis of three
        light = np.take(from_sky[:, c], canvas.face, mode="wrap")
        light += direct * np.float32(weather.sun[c]) + lit * np.float32(lamp_colour[c])
        seen = LINEAR[canvas.colour[:, :, c]] * light + glow * np.float32(GLOW[c])
        haze = np.float32(weather.horizon[c])
        channels.append(np.where(nothing, sky[:, :, c], (seen - haze) * clear + haze))
    return np.asarray(cv2.merge(channels), dtype=np.float32)


def shine_lamps(mesh: Mesh, canvas: Canvas, camera: Camera, depth: Floats, lamps: Vectors) -> Floats:
    """(H, W) light that falls on each pixel's place from lamps (n, 3)."""
    normals = np.vstack([mesh.normals(), np.zeros((1, 3))]).astype(np.float32)
    normal_x, normal_y, normal_z = (np.take(column, canvas.face, mode="wrap") for column in normals.T)
    place_x, place_y, place_z = camera.directions(np.eye(3)) * depth
    total = np.zeros_like(depth)
    for lamp_x, lamp_y, lamp_z in (lamps - camera.position).astype(np.float32):
        x, y, z = lamp_x - place_x, lamp_y - place_y, lamp_z - place_z
        square = x * x + y * y + z * z + 4
        facing = (x * normal_x + y * normal_y + z * normal_z) / np.sqrt(square)
        total += (np.maximum(facing, 0) + np.float32(0.3)) * 34 / square
    return total


def paint_sky(camera: Camera, weather: Weather, sun: Vectors, rng: np.random.Generator) -> Floats:
    """(H, W, 3) radiance of the sky: gradient, clouds in perspective, the sun's glow, stars at night."""
    small = Camera(
        camera.position, camera.rotation, camera.focal_px / 2, (camera.width + 1) // 2, (camera.height + 1) // 2
    )
    x, y, z, toward = small.directions(np.vstack([np.eye(3), sun]))
    length = np.sqrt(x * x + y * y + z * z)
    up = np.maximum(z / length, 0)
    share = 1 - np.exp(-up * np.float32(3.2))
    drift = rng.uniform(0, 512, 2).astype(np.float32)
    scale = np.float32(46) / (length * (up + np.float32(0.09)))
    clouds = np.asarray(
        cv2.remap(
            tile_noise(1.7, 1), x * scale + drift[0], y * scale + drift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
    )
    cover = np.clip((clouds - np.float32(0.9 - 0.75 * weather.cover)) * np.float32(4.2), 0, np.float32(0.94))
    cover *= np.minimum(up * 9, np.float32(1))
    body = np.float32(1.06) - np.float32(0.32) * clouds
    aim = np.maximum(toward / length, 0)
    flare = aim**24 * np.float32(0.35) + aim**600 * np.float32(6)
    channels = []
    for c in range(3):
        blue = np.float32(weather.horizon[c]) + np.float32(weather.zenith[c] - weather.horizon[c]) * share
        blue += flare * np.float32(weather.sun[c])
        channels.append(blue + (body * np.float32(weather.cloud[c]) - blue) * cover)
    sky = np.asarray(cv2.resize(cv2.merge(channels), (camera.width, camera.height)), dtype=np.float32)
    if weather.lamps > 1:
        stars = rng.integers(0, camera.height, 60), rng.integers(0, camera.width, 60)
        sky[stars] += rng.uniform(0.1, 0.7, (60, 1)).astype(np.float32)
    return sky
