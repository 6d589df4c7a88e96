"""Flat cutouts that stand upright and face the camera: trees, people, vehicles."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from pipeline.competition.demo.camera import Mesh, Texture
from pipeline.competition.demo.noise import Colour, Pixels, Vectors, choose, darken, make_generator, mix, vary_colour

TREE_KINDS = ("broad", "broad", "broad", "fir", "cypress", "palm", "bare")
CLOTHES: tuple[Colour, ...] = (
    (170, 40, 44), (40, 66, 130), (36, 38, 44), (220, 216, 205), (60, 110, 70), (214, 160, 50), (120, 80, 130),
    (90, 130, 170),
)  # fmt: skip
SKINS: tuple[Colour, ...] = ((234, 196, 168), (196, 148, 112), (140, 98, 70), (92, 62, 46))


def blank_sprite(height: int, width: int) -> Pixels:
    """(height, width, 4) nothing: transparent mid-green, so that soft edges do not turn black."""
    return np.full((height, width, 4), (90, 95, 80, 0)).astype(np.uint8)


def solid(colour: Colour) -> tuple[float, float, float, float]:
    """The colour, opaque."""
    return (*colour, 255.0)


def paint_foliage(rng: np.random.Generator, sprite: Pixels, blobs: Vectors, leaf: Colour, size: float) -> None:
    """Paint clumps of leaves at blobs (n, 2), those below and to the left darker."""
    low, high = blobs.min(axis=0), blobs.max(axis=0)
    light = ((blobs[:, 0] - low[0]) * 0.35 + (high[1] - blobs[:, 1]) * 0.65) / max(1.0, float((high - low).max()))
    for k in np.argsort(light + rng.uniform(-0.25, 0.1, len(blobs)), kind="stable").tolist():
        tone = vary_colour(rng, darken(leaf, 0.55 + 0.75 * float(light[k])), 14)
        radius = int(size * rng.uniform(0.5, 1.2)) + 1
        at = (int(blobs[k, 0]), int(blobs[k, 1]))
        cv2.ellipse(sprite, at, (radius, max(1, int(radius * 0.8))), rng.uniform(0, 90), 0, 360, solid(tone), -1)


@lru_cache(maxsize=64)
def paint_tree(kind: str, variant: int) -> Texture:
    """A tree as a cutout; the same kind and variant give the same tree."""
    rng = make_generator(0, f"tree {kind}", variant)
    sprite = blank_sprite(224, 176)
    bark = vary_colour(rng, (86, 68, 54), 14)
    leaf = vary_colour(rng, choose(rng, [(70, 112, 52), (92, 124, 58), (54, 92, 58), (176, 128, 50)]), 16)
    cv2.fillPoly(sprite, [np.array([(84, 120), (92, 120), (96, 223), (80, 223)])], solid(bark), cv2.LINE_AA)
    if kind == "palm":
        paint_fronds(rng, sprite, vary_colour(rng, (78, 118, 56), 16))
    elif kind == "bare":
        grow_branch(rng, sprite, (88, 150), -np.pi / 2, 44.0, bark)
    else:
        share = rng.random(260)
        angle = rng.uniform(0, 2 * np.pi, 260)
        if kind == "broad":
            blobs = np.stack([88 + np.cos(angle) * 72 * share**0.5, 80 + np.sin(angle) * 66 * share**0.5], axis=1)
        else:
            spread = (62 if kind == "fir" else 26) * (share if kind == "fir" else np.sin(np.pi * share) ** 0.6)
            blobs = np.stack([88 + np.cos(angle) * spread, 14 + 180 * share], axis=1)
        paint_foliage(rng, sprite, blobs, darken(leaf, 1.0 if kind == "broad" else 0.75), 11 if kind == "broad" else 8)
    return Texture.from_pixels(sprite, cutout=True)


def paint_fronds(rng: np.random.Generator, sprite: Pixels, leaf: Colour) -> None:
    """Paint the crown of a palm."""
    cv2.fillPoly(sprite, [np.array([(85, 56), (92, 56), (96, 223), (82, 223)])], solid((112, 92, 70)), cv2.LINE_AA)
    for angle in rng.uniform(np.pi * 0.95, np.pi * 2.05, 22):
        reach = np.linspace(0, 1, 9)
        x = 88 + np.cos(angle) * 74 * reach
        y = 56 + np.sin(angle) * 50 * reach + 46 * reach**2
        curve = np.stack([x, y], axis=1).astype(np.int32)
        cv2.polylines(sprite, [curve], False, solid(vary_colour(rng, leaf, 24)), 5, cv2.LINE_AA)


def grow_branch(
    rng: np.random.Generator, sprite: Pixels, start: tuple[float, float], angle: float, length: float, bark: Colour
) -> None:
    """Paint a branch and what grows from it."""
    end = (start[0] + np.cos(angle) * length, start[1] + np.sin(angle) * length)
    thick = max(1, int(length / 6))
    cv2.line(sprite, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), solid(bark), thick, cv2.LINE_AA)
    if length > 7:
        for side in (-1, 0, 1):
            grow_branch(
                rng,
                sprite,
                end,
                angle + side * rng.uniform(0.35, 0.75) + rng.uniform(-0.2, 0.2),
                length * rng.uniform(0.6, 0.78),
                bark,
            )


def paint_person(rng: np.random.Generator, umbrella: bool) -> Texture:
    """A standing person as a cutout, 1.75 m tall with a little air above."""
    sprite = blank_sprite(96, 48)
    coat, legs = vary_colour(rng, choose(rng, CLOTHES), 20), vary_colour(rng, choose(rng, CLOTHES), 16)
    skin = choose(rng, SKINS)
    stride = int(rng.integers(1, 6))
    for side in (-1, 1):
        cv2.line(sprite, (24 + side * 3, 58), (24 + side * stride, 93), solid(legs), 6, cv2.LINE_AA)
        cv2.line(
            sprite,
            (24 + side * 7, 34),
            (24 + side * int(rng.integers(7, 12)), 56),
            solid(darken(coat, 0.85)),
            5,
            cv2.LINE_AA,
        )
    body = np.array([(15, 32), (33, 32), (32, 62), (16, 62)])
    cv2.fillPoly(sprite, [body], solid(coat), cv2.LINE_AA)
    cv2.circle(sprite, (24, 23), 7, solid(skin), -1, cv2.LINE_AA)
    hair = choose(rng, [(40, 30, 26), (90, 62, 40), (190, 160, 110), (120, 120, 122)])
    cv2.ellipse(sprite, (24, 21), (7, 6), 0, 180, 360, solid(hair), -1, cv2.LINE_AA)
    if umbrella:
        cv2.ellipse(sprite, (24, 16), (22, 13), 0, 180, 360, solid(choose(rng, CLOTHES)), -1, cv2.LINE_AA)
    return Texture.from_pixels(sprite, cutout=True)


def paint_vehicle(rng: np.random.Generator) -> tuple[Texture, float]:
    """A car, van or bus from the side as a cutout, and its length in metres."""
    kind = choose(rng, ["car", "car", "van", "bus"])
    length = {"car": 4.4, "van": 5.4, "bus": 10.5}[kind]
    width, height = int(length * 28), 44 if kind == "car" else 72 if kind == "van" else 88
    sprite = blank_sprite(height, width)
    paint, glass = vary_colour(rng, choose(rng, CLOTHES), 20), (70.0, 88.0, 102.0)
    if kind == "car":
        cabin = np.array([(0.2, 0.5), (0.32, 0.08), (0.68, 0.06), (0.86, 0.5)]) * (width, height)
        cv2.fillPoly(sprite, [cabin.astype(np.int32)], solid(darken(paint, 0.9)), cv2.LINE_AA)
        pane = (cabin - cabin.mean(axis=0)) * (0.86, 0.72) + cabin.mean(axis=0)
        cv2.fillPoly(sprite, [pane.astype(np.int32)], solid(glass), cv2.LINE_AA)
        cv2.line(sprite, (width // 2, 5), (width // 2, height // 2), solid(paint), 4)
    else:
        cv2.rectangle(sprite, (2, 3), (width - 3, height // 2), solid(paint), -1)
        step = width // (7 if kind == "bus" else 4)
        for left in range(6, width - step + 4, step):
            cv2.rectangle(sprite, (left, 10), (left + step - 6, int(height * 0.45)), solid(glass), -1)
    cv2.rectangle(sprite, (2, int(height * 0.46)), (width - 3, height - 9), solid(paint), -1)
    cv2.line(
        sprite, (2, int(height * 0.62)), (width - 3, int(height * 0.62)), solid(mix(paint, (255, 255, 255), 0.3)), 2
    )
    for share in (0.2, 0.8):
        at = (int(width * share), height - 10)
        cv2.circle(sprite, at, 9, solid((24, 24, 26)), -1, cv2.LINE_AA)
        cv2.circle(sprite, at, 4, solid((150, 152, 156)), -1, cv2.LINE_AA)
    return Texture.from_pixels(sprite, cutout=True), length


def stand_up(mesh: Mesh, foot: Vectors, size: tuple[float, float], texture: Texture, eye: Vectors) -> None:
    """Add a cutout of size (width, height) in metres that stands at `foot` and is turned to the eye."""
    toward = (eye - foot)[:2]
    across = np.array([-toward[1], toward[0], 0.0]) / max(float(np.linalg.norm(toward)), 1e-6) * size[0] / 2
    up = np.array([0.0, 0.0, size[1]])
    mesh.add_face([foot - across + up, foot + across + up, foot + across, foot - across], texture)
