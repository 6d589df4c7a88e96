"""A camera and a rasteriser: textured planar faces in, colour and depth of every pixel out.

World axes: x to the right, y away, z up, in metres. Camera axes: x right, y down, z forward. A depth buffer settles
what hides what, so that the order of the faces is of no account.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.competition.demo.noise import Colour, Floats, Pixels, Vectors

NEAR_M = 0.15
SUBPIXEL_BITS = 4  # of the polygon filler
FADE_FROM_M = 12.0  # a repeated pattern is replaced by its mean from here on, lest it flicker at the horizon


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """A picture for faces: RGB and a fourth channel, the light that the place emits, or the opacity of a cutout."""

    levels: tuple[Pixels, ...]  # (h, w, 4), each half the size of the one before
    cutout: bool = False
    tiled: bool = False

    @classmethod
    def from_pixels(cls, pixels: Pixels, cutout: bool = False, tiled: bool = False) -> Texture:
        """A texture with smaller versions for far views; pixels (h, w, 3 or 4)."""
        if pixels.shape[2] == 3:
            pixels = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
        levels = [pixels]
        while min(levels[-1].shape[:2]) > 4:
            half = (max(1, levels[-1].shape[1] // 2), max(1, levels[-1].shape[0] // 2))
            levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)))
        return cls(tuple(levels), cutout, tiled)

    @classmethod
    def from_colour(cls, colour: Colour, glow: float = 0.0) -> Texture:
        """A texture of one colour that emits `glow` (0 to 255)."""
        return cls.from_pixels(np.full((1, 1, 4), (*colour, glow)).astype(np.uint8))


@dataclass(slots=True)
class Mesh:
    """Planar faces, each with four corners (a triangle repeats one) and the frame that lays its texture.

    A frame is origin, u, v: the place of the texture's top left corner and its upper and left edges. Faces are seen
    from the side from which u points right and v down.
    """

    corners: list[Vectors] = field(default_factory=list)
    frames: list[Vectors] = field(default_factory=list)
    textures: list[Texture] = field(default_factory=list)
    repeats: list[tuple[float, float]] = field(default_factory=list)

    def add_face(self, corners: npt.ArrayLike, texture: Texture, frame: Vectors | None = None) -> None:
        """Add a face: corners (4, 3) from the top left one clockwise; without a frame, the corners' parallelogram."""
        at = np.asarray(corners, dtype=np.float64)
        laid = np.stack([at[0], at[1] - at[0], at[3] - at[0]]) if frame is None else frame
        self.corners.append(at)
        self.frames.append(laid)
        self.textures.append(texture)
        self.repeats.append((1.0, 1.0))

    def add_tiles(self, corners: npt.ArrayLike, texture: Texture, tile_m: float) -> None:
        """Add a parallelogram covered with copies of the texture, each `tile_m` metres wide."""
        self.add_face(corners, texture)
        _, right, down = self.frames[-1]
        self.repeats[-1] = (float(np.linalg.norm(right)) / tile_m, float(np.linalg.norm(down)) / tile_m)

    def joined(self, other: Mesh) -> Mesh:
        """A new mesh: these faces, then the other's."""
        return Mesh(
            self.corners + other.corners,
            self.frames + other.frames,
            self.textures + other.textures,
            self.repeats + other.repeats,
        )

    def normals(self) -> Vectors:
        """(N, 3) unit normals that point at the viewer."""
        frames = np.asarray(self.frames)
        normals = np.cross(frames[:, 2], frames[:, 1])
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera; rotation's rows are its right, down and forward directions in the world."""

    position: Vectors
    rotation: Vectors
    focal_px: float
    width: int
    height: int

    @classmethod
    def looking_at(
        cls,
        position: npt.ArrayLike,
        target: npt.ArrayLike,
        focal_px: float,
        size: tuple[int, int],
        roll_rad: float = 0.0,
    ) -> Camera:
        """A camera at `position` with `target` in the middle of a picture of size (width, height)."""
        eye = np.asarray(position, dtype=np.float64)
        forward = np.asarray(target, dtype=np.float64) - eye
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        down = np.cross(forward, right)
        tilted = right * np.cos(roll_rad) + down * np.sin(roll_rad)
        return cls(eye, np.stack([tilted, np.cross(forward, tilted), forward]), focal_px, *size)

    def inverse_intrinsics(self) -> Vectors:
        """(3, 3) from pixel (x, y, 1) to a camera ray whose z is 1."""
        focal = self.focal_px
        return np.array(
            [[1 / focal, 0, -self.width / 2 / focal], [0, 1 / focal, -self.height / 2 / focal], [0, 0, 1.0]]
        )

    def directions(self, axes: Vectors) -> Floats:
        """(n, H, W): how far each pixel's ray goes along world axes (n, 3) while it goes one metre forward."""
        across, along, start = (
            (axes @ self.rotation.T @ self.inverse_intrinsics()).astype(np.float32).T[:, :, None, None]
        )
        x, y = np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32)[:, None]
        return np.asarray(across * x + (along * y + start))


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the camera sees at each pixel."""

    colour: Pixels  # (H, W, 4): RGB as painted, unlit; emission
    inverse_depth: Floats  # (H, W): 1 / metres forward; 0 = nothing there
    face: npt.NDArray[np.int32]  # (H, W): which face; -1 = nothing there

    @classmethod
    def blank(cls, height: int, width: int) -> Canvas:
        """A canvas that has seen nothing."""
        return cls(
            np.zeros((height, width, 4), np.uint8),
            np.zeros((height, width), np.float32),
            np.full((height, width), -1, np.int32),
        )


def rasterise(mesh: Mesh, camera: Camera) -> Canvas:
    """The canvas of the mesh as the camera sees it: the nearest face at each pixel."""
    canvas = Canvas.blank(camera.height, camera.width)
    turned = (np.asarray(mesh.corners) - camera.position) @ camera.rotation.T
    frames = np.asarray(mesh.frames) @ camera.rotation.T
    frames[:, 0] -= camera.position @ camera.rotation.T
    basis = np.stack([frames[:, 1], frames[:, 2], frames[:, 0]], axis=2)  # columns u, v, origin
    facing = (np.linalg.det(basis) > 1e-9) & (turned[:, :, 2].max(axis=1) > NEAR_M)
    nearest_first = np.argsort(turned[:, :, 2].min(axis=1), kind="stable")
    nearest_first = nearest_first[facing[nearest_first]]
    planes = np.linalg.inv(basis[nearest_first]) @ camera.inverse_intrinsics()
    for face, plane in zip(nearest_first.tolist(), planes, strict=True):
        outline = project_outline(turned[face], camera)
        if outline is not None and may_be_seen(canvas, outline, turned[face, :, 2].min()):
            draw_face(canvas, outline, plane, face, mesh.textures[face], mesh.repeats[face])
    return canvas


def project_outline(corners: Vectors, camera: Camera) -> Vectors | None:
    """(n, 2) pixel positions of a face in front of the camera, or None when it is outside the picture."""
    if corners[:, 2].min() < NEAR_M:
        corners = clip_near(corners)
    if len(corners) < 3:
        return None
    outline = corners[:, :2] / corners[:, 2:] * camera.focal_px + (camera.width / 2, camera.height / 2)
    low, high = outline.min(axis=0), outline.max(axis=0)
    if high[0] < 0 or high[1] < 0 or low[0] >= camera.width or low[1] >= camera.height:
        return None
    return np.asarray(np.clip(outline, -1e6, 1e6))


def clip_near(corners: Vectors) -> Vectors:
    """(m, 3): the part of a polygon that lies beyond the near plane."""
    kept = []
    for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            kept.append(here + (there - here) * (NEAR_M - here[2]) / (there[2] - here[2]))
    return np.asarray(kept).reshape(-1, 3)


def find_window(canvas: Canvas, outline: Vectors) -> tuple[int, int, int, int]:
    """The (left, top, right, bottom) of the outline's pixels on the canvas, ends excluded."""
    height, width = canvas.face.shape
    left, top = outline.min(axis=0).tolist()
    right, bottom = outline.max(axis=0).tolist()
    return max(0, int(left)), max(0, int(top)), min(width, int(right) + 2), min(height, int(bottom) + 2)


def may_be_seen(canvas: Canvas, outline: Vectors, nearest_m: float) -> bool:
    """False when all of the outline's window is known to be nearer than the face's nearest corner."""
    left, top, right, bottom = find_window(canvas, outline)
    farthest_there = float(canvas.inverse_depth[top:bottom, left:right].min())
    return nearest_m < NEAR_M or farthest_there * nearest_m < 1


def draw_face(
    canvas: Canvas, outline: Vectors, plane: Vectors, face: int, texture: Texture, repeats: tuple[float, float]
) -> None:
    """Draw one face where nothing nearer is. plane: from pixel (x, y, 1) to (a, b, 1) / depth, a, b along the frame."""
    left, top, right, bottom = find_window(canvas, outline)
    window = np.s_[top:bottom, left:right]
    inside = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(
        inside, np.rint((outline - (left, top)) * 2**SUBPIXEL_BITS).astype(np.int32), 1, shift=SUBPIXEL_BITS
    )
    nearer = (plane[2, 0] * np.arange(left, right) + plane[2, 2]) + (plane[2, 1] * np.arange(top, bottom))[:, None]
    nearer = nearer.astype(np.float32)
    inside &= nearer > canvas.inverse_depth[window]
    if not inside.any():
        return
    offset = np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1.0]])
    patch = lay_texture(texture, plane @ offset, inside, outline, repeats, nearer)
    cv2.copyTo(patch, inside, canvas.colour[window])
    cv2.copyTo(nearer, inside, canvas.inverse_depth[window])
    canvas.face[window][inside.astype(bool)] = face


def lay_texture(
    texture: Texture,
    plane: Vectors,
    inside: Pixels,
    outline: Vectors,
    repeats: tuple[float, float],
    inverse_depth: Floats,
) -> Pixels:
    """(h, w, 4) the texture as seen in the window; a cutout's holes are removed from `inside`."""
    pixels = texture.levels[0] if texture.tiled else choose_level(texture, outline)
    if pixels.shape[:2] == (1, 1):
        return np.full((*inside.shape, 4), pixels[0, 0], np.uint8)
    scale = np.diag([pixels.shape[1] * repeats[0], pixels.shape[0] * repeats[1], 1.0])
    half_texel = np.array([[1.0, 0, -0.5], [0, 1.0, -0.5], [0, 0, 1.0]])
    border = cv2.BORDER_WRAP if texture.tiled else cv2.BORDER_REPLICATE
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (inside.shape[1], inside.shape[0])
    turn = half_texel @ scale @ plane
    patch = cv2.warpPerspective(pixels, turn, size, flags=flags, borderMode=border).astype(np.uint8, copy=False)
    if texture.cutout:
        inside &= patch[:, :, 3] > 127
        patch[:, :, 3] = 0
    if texture.tiled:
        share = np.minimum(inverse_depth * np.float32(FADE_FROM_M), np.float32(1))
        mean = np.zeros_like(patch)
        mean[:] = texture.levels[-1].reshape(-1, 4).mean(axis=0)
        return cv2.blendLinear(patch, mean, share, 1 - share).astype(np.uint8, copy=False)
    return patch


def choose_level(texture: Texture, outline: Vectors) -> Pixels:
    """The version of the texture with about as many texels as the face has pixels."""
    area = max(1.0, float(cv2.contourArea(outline.astype(np.float32))))
    texels = texture.levels[0].shape[0] * texture.levels[0].shape[1]
    level = int(np.clip(np.floor(np.log2(texels / area) / 2 + 0.25), 0, len(texture.levels) - 1))
    return texture.levels[level]
