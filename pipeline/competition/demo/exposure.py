"""From a lit scene to a photograph: exposure, bloom, falling rain and snow, blur, grain, colour cast."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.competition.demo.camera import Camera, Mesh, rasterise
from pipeline.competition.demo.light import Radiance, SunView, Weather, paint_sky, shade
from pipeline.competition.demo.noise import Floats, Pixels, Vectors

OVERSAMPLING = 1.4  # of the rasteriser against the picture: smooths the edges
CONTRAST = np.float32(0.5)  # of the S-curve: how much the middle is steeper, less one, times two
SATURATION = 1.18
MIDDLE_GREY = 0.3  # the mean radiance that the exposure aims at


def expose(
    mesh: Mesh,
    camera: Camera,
    weather: Weather,
    sun: SunView,
    lamps: Vectors,
    lamp_colour: Radiance,
    rng: np.random.Generator,
) -> Pixels:
    """(H, W, 3) uint8 RGB: the scene as this camera photographs it in this weather, in the camera's own size."""
    fine = Camera(
        camera.position,
        camera.rotation,
        camera.focal_px * OVERSAMPLING,
        round(camera.width * OVERSAMPLING),
        round(camera.height * OVERSAMPLING),
    )
    sky = paint_sky(fine, weather, sun.direction, rng)
    radiance = shade(mesh, rasterise(mesh, fine), fine, weather, sun, lamps, lamp_colour, sky)
    radiance = np.asarray(
        cv2.resize(radiance, (camera.width, camera.height), interpolation=cv2.INTER_AREA), dtype=np.float32
    )
    return develop(radiance, weather, rng)


def radiance_of(pixels: np.ndarray) -> Floats:
    """Linear radiance of painted pixels (values 0 to 255)."""
    return np.asarray(np.square(np.asarray(pixels, np.float32) / 255) * 1.1, dtype=np.float32)


def develop(radiance: Floats, weather: Weather, rng: np.random.Generator) -> Pixels:
    """(H, W, 3) uint8 RGB of a radiance (H, W, 3), with the faults of a camera and what falls from the sky."""
    if weather.lamps > 0.1:
        radiance = add_bloom(radiance)
    gain = (MIDDLE_GREY / max(float(radiance.mean()), 0.02)) ** 0.55 * 2 ** rng.uniform(-0.45, 0.45)
    cast = (1 + rng.uniform(-0.06, 0.06, 3)).astype(np.float32)
    picture = np.sqrt(1 - np.exp(radiance * cast * np.float32(-1.55 * gain)))  # film's shoulder, then gamma 2
    picture = enrich(picture)
    picture *= fade_corners(picture.shape[0], picture.shape[1], float(rng.uniform(0, 0.3)))
    if weather.falling:
        picture = let_fall(picture, weather.falling, rng)
    picture = blur_picture(picture, rng)
    grain = rng.standard_normal(picture.shape[:2], dtype=np.float32) * np.float32(rng.uniform(0.002, 0.012))
    return np.clip((picture + grain[:, :, None]) * 255, 0, 255).astype(np.uint8)


def enrich(picture: Floats) -> Floats:
    """The picture with the firmer contrast and the fuller colours that cameras give."""
    picture = picture + CONTRAST * picture * (1 - picture) * (2 * picture - 1)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(
        cv2.addWeighted(picture, SATURATION, cv2.merge([grey, grey, grey]), 1 - SATURATION, 0), dtype=np.float32
    )


def add_bloom(radiance: Floats) -> Floats:
    """The radiance with halos about what is brighter than white."""
    small = cv2.resize(np.clip(radiance - 0.6, 0, 2), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    halo = cv2.resize(cv2.GaussianBlur(small, (0, 0), 2.2), (radiance.shape[1], radiance.shape[0]))
    return np.asarray(radiance + 0.5 * halo, dtype=np.float32)


def fade_corners(height: int, width: int, strength: float) -> Floats:
    """(H, W, 1) factors that darken towards the corners."""
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    return np.asarray(1 - strength * ((x * x + y * y) / 2) ** 1.5, dtype=np.float32)[:, :, None]


def let_fall(picture: Floats, kind: str, rng: np.random.Generator) -> Floats:
    """The picture with rain streaks or snowflakes before it."""
    height, width = picture.shape[:2]
    veil = np.zeros((height, width), np.float32)
    count = height * width // (500 if kind == "rain" else 420)
    slant = float(rng.uniform(-0.3, 0.3))
    for x, y, size in zip(
        rng.uniform(0, width, count), rng.uniform(-9, height, count), rng.uniform(0.3, 1, count), strict=True
    ):
        if kind == "rain":
            length = size * height * 0.06
            cv2.line(veil, (int(x), int(y)), (int(x + slant * length), int(y + length)), 0.2 * size, 1, cv2.LINE_AA)
        else:
            cv2.circle(veil, (int(x), int(y)), int(size * max(height, width) / 150), 0.75 * size, -1, cv2.LINE_AA)
    return np.asarray(picture + (0.95 - picture) * cv2.blur(veil, (2, 2))[:, :, None], dtype=np.float32)


def blur_picture(picture: Floats, rng: np.random.Generator) -> Floats:
    """The picture, in one case of eight out of focus or shaken."""
    fault = rng.random()
    if fault < 0.08:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.7, 1.6))), dtype=np.float32)
    if fault < 0.125:
        length = int(rng.integers(3, 8))
        shake = np.zeros((length, length), np.float32)
        end = (int(rng.integers(length)), length - 1)
        cv2.line(shake, (length - 1 - end[0], 0), end, 1.0, 1)
        return np.asarray(cv2.filter2D(picture, -1, shake / shake.sum()), dtype=np.float32)
    return picture
