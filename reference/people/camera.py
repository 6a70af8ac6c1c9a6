"""Cameras that keep a person in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Camera

F32 = NDArray[np.float32]

__all__ = ["LONG_LENS", "Lens", "draw_lens", "framed", "orbit"]

LONG_LENS = 10000 / 512
"""Focal length of the release in picture widths: about 35 m away."""

LONG_LENS_SHARE = 0.4
FOV_DEGREES = (35.0, 60.0)
FIT_ROUNDS = 4


@dataclass(frozen=True)
class Lens:
    """Focal length in picture widths, and the share of the frame the person shall fill."""

    focal: float
    fill: float


def draw_lens(rng: np.random.Generator) -> Lens:
    """The release's long lens, or a game camera's field of view."""
    if rng.random() < LONG_LENS_SHARE:
        focal = LONG_LENS
    else:
        focal = 0.5 / np.tan(np.radians(rng.uniform(*FOV_DEGREES)) / 2)
    return Lens(float(focal), float(rng.uniform(0.85, 0.92)))


def look_rotation(azimuth: float, elevation: float) -> F32:
    """World to camera, for a camera at `azimuth` (0 in front, towards the subject's left) and
    `elevation` above the horizon, level. [3,3]."""
    ca, sa = np.cos(azimuth), np.sin(azimuth)
    ce, se = np.cos(elevation), np.sin(elevation)
    forward = -np.array([ce * sa, se, ce * ca])
    right = np.array([ca, 0.0, -sa])
    return np.stack([right, np.cross(forward, right), forward]).astype(np.float32)


def framed(
    points: Sequence[F32], *, azimuth: float, elevation: float, lens: Lens, size: int
) -> Camera:
    """A square picture in which all `points` ([n,3] each) fill `lens.fill` of the frame."""
    rotation = look_rotation(azimuth, elevation)
    local = np.concatenate([p @ rotation.T for p in points]).astype(np.float64)
    low, high = local.min(0), local.max(0)
    span = float((high - low)[:2].max())
    # Start from the box seen from afar, then correct for perspective.
    offset = -(low + high) / 2
    offset[2] += lens.focal * span / lens.fill
    for _ in range(FIT_ROUNDS):
        placed = local + offset
        image = placed[:, :2] / placed[:, 2:]
        corner, end = image.min(0), image.max(0)
        distance = float(placed[:, 2].mean())
        offset[:2] -= (corner + end) / 2 * distance
        offset[2] += distance * (lens.focal * float((end - corner).max()) / lens.fill - 1)
    focal, half = lens.focal * size, size / 2
    intrinsics = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]], np.float32)
    return Camera(intrinsics, rotation, offset.astype(np.float32), size, size)


def orbit(camera: Camera, angle: float, *, about: F32) -> Camera:
    """The camera carried by `angle` around the vertical axis through the point `about` [3]."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    rotation = camera.rotation @ turn.T
    translation = camera.translation + camera.rotation @ about - rotation @ about
    return Camera(
        camera.intrinsics,
        rotation.astype(np.float32),
        translation.astype(np.float32),
        camera.width,
        camera.height,
    )
