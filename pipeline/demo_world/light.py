"""Weather, light and the camera's film: from the faces of a scene to the pixels of its photograph."""

from typing import NamedTuple

import cv2
import numpy as np

from pipeline.demo_world.camera import Camera, Canvas, Floats, Mesh, Pixels, Vectors, rasterise
from pipeline.demo_world.paint import draw_line, tile_noise

SCATTERED = 0.55  # of the sunlight, by leaves and clothes, whichever way they face
SKY_LIGHT = np.array([0.11, 0.07, 0.3])  # where the sky is brighter: round things would look flat in the shade
GLOW = (1.5, 1.15, 0.65)  # the light of lit windows
OVERSAMPLING = 1.4  # of the rasteriser: smooths the edges
CONTRAST = np.float32(0.5)  # of the S-curve: how much steeper its middle is, less one, times two
SATURATION, MIDDLE_GREY = 1.18, 0.3  # of the film; the mean radiance that the exposure aims at
STOPS, CAST, VIGNETTE, GRAIN = 0.45, 0.06, 0.3, 0.012  # limits of a photograph's faults
BLURRED, SHAKEN = 0.08, 0.045  # shares of the photographs
DROPS = {"rain": (500, 0.06, 0.0, 0.2), "snow": (420, 0.0, 0.012, 0.75)}  # pixels per drop, length, width, brightness
LINEAR = np.square(np.arange(256, dtype=np.float32) / 255)  # radiance of a painted level, by a gamma of 2
Radiance = tuple[float, float, float]


class Weather(NamedTuple):
    """The light of a time of day and a weather."""

    share: float  # of the photographs outside
    sun: Radiance
    ambient: Radiance
    zenith: Radiance
    horizon: Radiance
    cover: float  # by clouds, share of the sky
    haze_m: float  # the distance at which a third of a thing's own colour is left
    lamps: float = 0.0  # brightness of street lamps and windows
    falling: str = ""  # rain or snow


# fmt: off
WEATHERS: dict[str, Weather] = {
    "clear": Weather(0.34, (2.0, 1.82, 1.5), (0.36, 0.42, 0.52), (0.07, 0.2, 0.56), (0.5, 0.69, 0.9), 0.36, 1600),
    "fair": Weather(0.25, (1.65, 1.52, 1.3), (0.4, 0.45, 0.53), (0.1, 0.25, 0.58), (0.58, 0.72, 0.88), 0.6, 1200),
    "overcast": Weather(0.13, (0.1, 0.1, 0.1), (0.74, 0.77, 0.82), (0.46, 0.5, 0.56), (0.74, 0.77, 0.8), 0.85, 800),
    "fog": Weather(0.03, (0.05, 0.05, 0.05), (0.72, 0.75, 0.78), (0.7, 0.73, 0.76), (0.74, 0.77, 0.79), 0.1, 85),
    "rain": Weather(0.04, (0, 0, 0), (0.5, 0.52, 0.58), (0.28, 0.32, 0.38), (0.48, 0.51, 0.56), 0.9, 300, 0.15, "rain"),
    "snow": Weather(0.03, (0, 0, 0), (0.78, 0.81, 0.88), (0.58, 0.62, 0.7), (0.78, 0.8, 0.85), 0.7, 260, 0.1, "snow"),
    "sunset": Weather(0.09, (1.9, 0.98, 0.42), (0.26, 0.25, 0.34), (0.1, 0.16, 0.42), (1, 0.52, 0.24), 0.55, 900, 0.2),
    "dusk": Weather(0.04, (0.05, 0.05, 0.09), (0.3, 0.27, 0.3), (0.02, 0.05, 0.18), (0.3, 0.3, 0.42), 0.4, 800, 0.9),
    "night": Weather(0.05, (0, 0, 0), (0.22, 0.17, 0.12), (0.004, 0.007, 0.022), (0.03, 0.035, 0.06), 0.3, 800, 1.15),
}
# fmt: on
INDOORS = Weather(0, (0, 0, 0), (0.6, 0.56, 0.49), (0, 0, 0), (0.4, 0.38, 0.36), 0, 900, 1.0)
SUNLIT_CLOUD, SKYLIT_CLOUD = 0.36, 0.75  # of the sun and of the ambient light, that clouds send on


def aim_sun(azimuth_rad: float, elevation_deg: float) -> Vectors:
    """(3,) unit vector towards the sun; azimuth 0 is the front of the building (-y), positive to its right."""
    up = np.deg2rad(elevation_deg)
    return np.array([np.sin(azimuth_rad) * np.cos(up), -np.cos(azimuth_rad) * np.cos(up), np.sin(up)])


def shade(mesh: Mesh, weather: Weather, sun: Vectors, canvas: Canvas, sky: Floats) -> Floats:
    """(H, W, 3) radiance: painted colour times light, seen through the haze, before the sky."""
    frames = np.array([*(face.frame for face in mesh.faces), np.zeros((3, 3))])  # the last, of no face, is number -1
    normals = np.cross(frames[:, 2], frames[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    depth = (1 / np.maximum(canvas.inverse_depth, 1e-4)).astype(np.float32)
    clear = np.exp(depth * np.float32(-1 / weather.haze_m))
    cutouts = np.array([face.texture.cutout for face in mesh.faces] + [False])
    above = np.where(cutouts, 0.9, 0.7 + normals @ SKY_LIGHT)
    facing = np.where(cutouts, SCATTERED, np.maximum(normals @ sun, 0))
    from_sky, from_sun = (np.take(each.astype(np.float32), canvas.face, mode="wrap") for each in (above, facing))
    glow = LINEAR[canvas.colour[:, :, 3]] * np.float32(weather.lamps)
    channels = []
    for c in range(3):  # one at a time: numpy is slow along a last axis of three
        light = from_sky * np.float32(weather.ambient[c]) + from_sun * np.float32(weather.sun[c])
        seen = LINEAR[canvas.colour[:, :, c]] * light + glow * np.float32(GLOW[c])
        haze = np.float32(weather.horizon[c])
        channels.append(np.where(canvas.face < 0, sky[:, :, c], (seen - haze) * clear + haze))
    return np.asarray(cv2.merge(channels), dtype=np.float32)


def paint_sky(camera: Camera, weather: Weather, sun: Vectors, rng: np.random.Generator) -> Floats:
    """(H, W, 3) radiance of the sky: gradient, clouds in perspective, the sun's glow."""
    x, y, z, toward = camera.scaled(0.5).directions(np.vstack([np.eye(3), sun]))
    length = np.sqrt(x * x + y * y + z * z)
    up, aim = np.maximum(z / length, 0), np.maximum(toward / length, 0)
    drift, scale = rng.uniform(0, 512, 2).astype(np.float32), np.float32(46) / (length * (up + np.float32(0.09)))
    at = x * scale + drift[0], y * scale + drift[1]
    clouds = cv2.remap(tile_noise(1.7, 1), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip((clouds - np.float32(0.9 - 0.75 * weather.cover)) * np.float32(4.2), 0, np.float32(0.94))
    cover *= np.minimum(up * 9, np.float32(1))
    share, body = 1 - np.exp(-up * np.float32(3.2)), np.float32(1.06) - np.float32(0.32) * clouds
    flare = aim**24 * np.float32(0.35) + aim**600 * np.float32(6)
    channels = []
    for low, high, sunlight, ambient in zip(weather.horizon, weather.zenith, weather.sun, weather.ambient, strict=True):
        blue = np.float32(low) + np.float32(high - low) * share + flare * np.float32(sunlight)
        cloud = body * np.float32(SUNLIT_CLOUD * sunlight + SKYLIT_CLOUD * ambient)
        channels.append(blue + (cloud - blue) * cover)
    return np.asarray(cv2.resize(cv2.merge(channels), camera.size), dtype=np.float32)


def expose(mesh: Mesh, weather: Weather, sun: Vectors, camera: Camera, rng: np.random.Generator) -> Pixels:
    """(H, W, 3) uint8 RGB: the mesh as this camera photographs it in a weather; sun (3,) points towards the sun."""
    fine = camera.scaled(OVERSAMPLING)
    radiance = shade(mesh, weather, sun, rasterise(mesh, fine), paint_sky(fine, weather, sun, rng))
    small = cv2.resize(radiance, camera.size, interpolation=cv2.INTER_AREA)
    return develop(np.asarray(small, dtype=np.float32), weather, rng)


def radiance_of(pixels: np.ndarray) -> Floats:
    """Linear radiance of painted pixels (values 0 to 255)."""
    return np.asarray(np.square(np.asarray(pixels, np.float32) / 255) * 1.1, dtype=np.float32)


def develop(radiance: Floats, weather: Weather, rng: np.random.Generator) -> Pixels:
    """(H, W, 3) uint8 RGB of a radiance (H, W, 3), with the faults of a camera, and rain or snow."""
    height, width = radiance.shape[:2]
    if weather.lamps > 0.1:  # halos around what is brighter than white
        small = cv2.resize(np.clip(radiance - 0.6, 0, 2), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        radiance = radiance + 0.5 * cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.2), (width, height))
    gain = (MIDDLE_GREY / max(float(radiance.mean()), 0.02)) ** 0.55 * 2 ** rng.uniform(-STOPS, STOPS)
    cast = (1 + rng.uniform(-CAST, CAST, 3)).astype(np.float32)
    image = np.sqrt(1 - np.exp(radiance * cast * np.float32(-1.55 * gain)))  # film's shoulder, then gamma 2
    image += CONTRAST * image * (1 - image) * (2 * image - 1)
    grey = cv2.merge([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3)
    image = np.asarray(cv2.addWeighted(image, SATURATION, grey, 1 - SATURATION, 0), np.float32)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    image *= (1 - np.float32(rng.uniform(0, VIGNETTE)) * ((x * x + y * y) / 2) ** 1.5)[:, :, None]
    if weather.falling:
        image = let_fall(image, weather.falling, rng)
    fault = rng.random()
    if fault < BLURRED:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.7, 1.6))), np.float32)
    elif fault < BLURRED + SHAKEN:
        image = np.asarray(cv2.blur(image, tuple(rng.integers(1, 7, 2).tolist())), np.float32)
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(0.1, 1) * GRAIN)
    return np.clip((image + grain[:, :, None]) * 255, 0, 255).astype(np.uint8)


def let_fall(image: Floats, kind: str, rng: np.random.Generator) -> Floats:
    """The image with rain streaks or snowflakes in front."""
    height, width = image.shape[:2]
    veil, slant = np.zeros((height, width), np.float32), float(rng.uniform(-0.3, 0.3))
    per_drop, long, thick, bright = DROPS[kind]
    for x, y, size in rng.uniform((0, -9, 0.3), (width, height, 1), (height * width // per_drop, 3)).tolist():
        tip = (x + slant * size * long * height, y + size * long * height)
        draw_line(veil, (x, y), tip, (bright * size,), thick * size * max(height, width))
    return np.asarray(image + (0.95 - image) * cv2.blur(veil, (2, 2))[:, :, None], dtype=np.float32)
