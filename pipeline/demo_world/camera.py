"""A camera and a rasteriser: textured planar faces in, colour and depth of every pixel out.

World axes: x to the right, y away, z up, in metres. Camera axes: x right, y down, z forward. A depth buffer decides
which face is seen, so that the order of the faces does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.demo_world.palette import Colour

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float64]
NEAR_M = 0.15
SUBPIXEL_BITS = 4  # of the polygon filler
HALF_TEXEL = np.array([[1.0, 0, -0.5], [0, 1.0, -0.5], [0, 0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """An image for faces: RGB, and as fourth channel the light that it emits or, for a cutout, its opacity."""

    levels: tuple[Pixels, ...]  # (h, w, 4), each half the size of the one before
    cutout: bool = False
    tile_m: float = 0.0  # width of one copy in metres; 0 = one copy over the whole face

    @classmethod
    def from_pixels(cls, pixels: Pixels, cutout: bool = False, tile_m: float = 0.0) -> Texture:
        """A texture with smaller versions for distant views; pixels (h, w, 3 or 4)."""
        if pixels.shape[2] == 3:
            pixels = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
        levels = [pixels]
        while min(levels[-1].shape[:2]) > 4:
            half = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
            levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)))
        return cls(tuple(levels), cutout, tile_m)

    @classmethod
    def from_colour(cls, colour: Colour, glow: float = 0.0) -> Texture:
        """A texture of one colour that emits `glow` (0 to 255)."""
        return cls.from_pixels(np.full((1, 1, 4), (*colour, glow)).astype(np.uint8))


class Face(NamedTuple):
    """A planar face, seen from the side from which u points right and v down."""

    corners: Vectors  # (4, 3); a triangle repeats one
    frame: Vectors  # (3, 3): origin, u, v = the texture's top left corner, its upper and its left edge
    texture: Texture


@dataclass(slots=True)
class Mesh:
    """The faces of a scene or of a part of one."""

    faces: list[Face] = field(default_factory=list)

    def add_face(self, corners: npt.ArrayLike, texture: Texture, frame: Vectors | None = None) -> None:
        """Add a face: corners (4, 3) clockwise from the top left; without a frame, the corners' parallelogram."""
        at = np.asarray(corners, dtype=np.float64)
        laid = np.stack([at[0], at[1] - at[0], at[3] - at[0]]) if frame is None else frame
        self.faces.append(Face(at, laid, texture))


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera; the rows of its rotation are its right, down and forward directions in the world."""

    position: Vectors
    rotation: Vectors
    focal_px: float
    size: tuple[int, int]  # width, height

    @classmethod
    def looking_at(cls, eye: npt.ArrayLike, target: npt.ArrayLike, focal_px: float, size: tuple[int, int]) -> Camera:
        """A camera at `eye` with `target` in the middle of its image of size (width, height)."""
        position = np.asarray(eye, dtype=np.float64)
        forward = np.asarray(target, dtype=np.float64) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return cls(position, np.stack([right, np.cross(forward, right), forward]), focal_px, size)

    def scaled(self, factor: float) -> Camera:
        """The same view with `factor` times the pixels along each side."""
        size = round(self.size[0] * factor), round(self.size[1] * factor)
        return Camera(self.position, self.rotation, self.focal_px * factor, size)

    def project(self, points: Vectors) -> Vectors:
        """(..., 2) pixel positions of points (..., 3) in camera axes."""
        flat = points[..., :2] / np.maximum(points[..., 2:], NEAR_M) * self.focal_px
        return np.asarray(np.clip(flat + np.array(self.size) / 2, -1e6, 1e6))

    def inverse_intrinsics(self) -> Vectors:
        """(3, 3) from pixel (x, y, 1) to a camera ray whose z is 1."""
        width, height = self.size
        return np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, self.focal_px]]) / self.focal_px

    def directions(self, axes: Vectors) -> Floats:
        """(n, H, W): how far each pixel's ray moves along world axes (n, 3) while it moves one metre forward."""
        rays = (axes @ self.rotation.T @ self.inverse_intrinsics()).astype(np.float32)
        across, along, start = rays.T[:, :, None, None]
        x, y = (np.arange(side, dtype=np.float32) for side in self.size)
        return np.asarray(across * x + (along * y[:, None] + start))


class Canvas(NamedTuple):
    """What the camera sees at each pixel."""

    colour: Pixels  # (H, W, 4): RGB as painted, unlit; emission
    inverse_depth: Floats  # (H, W): 1 / metres forward; 0 = nothing there
    face: npt.NDArray[np.int32]  # (H, W): number of the face; -1 = nothing there


def rasterise(mesh: Mesh, camera: Camera) -> Canvas:
    """The canvas of the mesh as the camera sees it: the nearest face at each pixel."""
    shape = camera.size[::-1]
    canvas = Canvas(np.zeros((*shape, 4), np.uint8), np.zeros(shape, np.float32), np.full(shape, -1, np.int32))
    corners = (np.array([face.corners for face in mesh.faces]) - camera.position) @ camera.rotation.T
    frames = np.array([face.frame for face in mesh.faces])
    tiles = np.array([face.texture.tile_m or np.inf for face in mesh.faces])[:, None]
    repeats = np.where(np.isfinite(tiles), np.linalg.norm(frames[:, 1:], axis=2) / tiles, 1)
    frames[:, 0] -= camera.position
    basis = (frames @ camera.rotation.T)[:, [1, 2, 0]].transpose(0, 2, 1)  # columns u, v, origin
    outlines, nearest = camera.project(corners), corners[:, :, 2].min(axis=1)
    inside = (outlines.max(axis=1) >= 0).all(axis=1) & (outlines.min(axis=1) < camera.size).all(axis=1)
    seen = (np.linalg.det(basis) > 1e-9) & (corners[:, :, 2].max(axis=1) > NEAR_M) & (inside | (nearest < NEAR_M))
    order = np.argsort(nearest, kind="stable")
    order = order[seen[order]]
    planes = np.linalg.inv(basis[order]) @ camera.inverse_intrinsics()
    planes[:, :2] *= repeats[order, :, None]
    for number, plane in zip(order.tolist(), planes, strict=True):
        whole = nearest[number] >= NEAR_M
        outline = outlines[number] if whole else camera.project(clip_near(corners[number]))
        draw_face(canvas, number, mesh.faces[number].texture, outline, plane)
    return canvas


def clip_near(corners: Vectors) -> Vectors:
    """(m, 3): the part of a polygon that lies beyond the near plane."""
    kept = []
    for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            kept.append(here + (there - here) * (NEAR_M - here[2]) / (there[2] - here[2]))
    return np.array(kept)


def draw_face(canvas: Canvas, number: int, texture: Texture, outline: Vectors, plane: Vectors) -> None:
    """Draw a face wherever nothing nearer has been drawn.

    outline: (n, 2) pixel positions. plane: (3, 3) from pixel (x, y, 1) to (a, b, 1) / depth, a and b in copies of the
    texture.
    """
    height, width = canvas.face.shape
    (low_x, low_y), (high_x, high_y) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    left, top = max(0, int(low_x)), max(0, int(low_y))
    right, bottom = min(width, int(high_x) + 2), min(height, int(high_y) + 2)
    if left >= right or top >= bottom:
        return
    window, inside = np.s_[top:bottom, left:right], np.zeros((bottom - top, right - left), np.uint8)
    corners = np.rint((outline - (left, top)) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(inside, corners, 1, shift=SUBPIXEL_BITS)
    plane = plane @ np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1.0]])
    across = plane[2, 0] * np.arange(right - left) + plane[2, 2]
    nearer = (across + (plane[2, 1] * np.arange(bottom - top))[:, None]).astype(np.float32)
    inside &= nearer > canvas.inverse_depth[window]
    if not inside.any():
        return
    patch = lay_texture(texture, outline, plane, inside)
    cv2.copyTo(patch, inside, canvas.colour[window])
    cv2.copyTo(nearer, inside, canvas.inverse_depth[window])
    canvas.face[window][inside.astype(bool)] = number


def lay_texture(texture: Texture, outline: Vectors, plane: Vectors, inside: Pixels) -> Pixels:
    """(h, w, 4) the texture as seen in a window; the holes of a cutout are removed from `inside`."""
    pixels = texture.levels[0]
    if not texture.tile_m:  # the version with about as many texels as the face has pixels
        area = max(1.0, float(cv2.contourArea(outline.astype(np.float32))))
        level = int(np.floor(np.log2(pixels.shape[0] * pixels.shape[1] / area) / 2 + 0.25))
        pixels = texture.levels[min(max(level, 0), len(texture.levels) - 1)]
    if pixels.shape[:2] == (1, 1):
        return np.full((*inside.shape, 4), pixels[0, 0], np.uint8)
    turn = HALF_TEXEL @ np.diag([pixels.shape[1], pixels.shape[0], 1.0]) @ plane
    border = cv2.BORDER_WRAP if texture.tile_m else cv2.BORDER_REPLICATE
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, inside.shape[::-1]
    patch = cv2.warpPerspective(pixels, turn, size, flags=flags, borderMode=border).astype(np.uint8, copy=False)
    if texture.cutout:
        inside &= patch[:, :, 3] > 127
        patch[:, :, 3] = 0
    return patch
