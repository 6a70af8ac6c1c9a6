"""Cameras around a person: the release's orbit, a camera that frames a body, and trained ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, Camera
from gas_rt.errors import InputError

__all__ = ["about_y", "camera_problems", "framing_camera", "moved_with", "orbit", "turned"]

FRAMING_ROUNDS = 8  # of measuring and correcting; three reach a tenth of a pixel
SLACK = 1.05  # outside a trained range by less than this is not worth a warning


def about_y(angle_rad: float) -> NDArray[np.float64]:
    """Rotation by `angle_rad` about the y axis."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def orbit(
    camera: Camera, frames: int, *, centre: F32 | None = None, turns: float = 1.0
) -> list[Camera]:
    """`frames` cameras on a circle that begins at `camera`, about the vertical through `centre`.

    With the centre at the origin this is the release's orbit: R_i = R Ry(θ_i)ᵀ, t constant.
    """
    if frames < 1:
        raise InputError(f"orbit: expected at least one frame, got {frames}")
    step = 2 * math.pi * turns / frames
    return [turned(camera, k * step, centre=centre) for k in range(frames)]


def turned(camera: Camera, angle_rad: float, *, centre: F32 | None = None) -> Camera:
    """The camera carried by `angle_rad` about the vertical through `centre` [3] (the origin)."""
    pivot = np.zeros(3) if centre is None else np.asarray(centre, np.float64)
    before = camera.rotation.astype(np.float64)
    after = before @ about_y(angle_rad).T
    translation = camera.translation.astype(np.float64) + (before - after) @ pivot
    return Camera(
        camera.intrinsics,
        after.astype(np.float32),
        translation.astype(np.float32),
        camera.width,
        camera.height,
    )


def moved_with(camera: Camera, offset_m: F32) -> Camera:
    """The camera carried along by `offset_m` in the world."""
    translation = camera.translation - camera.rotation @ np.asarray(offset_m, np.float32)
    return Camera(camera.intrinsics, camera.rotation, translation, camera.width, camera.height)


def framing_camera(
    points: F32,
    *,
    side_px: int,
    azimuth_deg: float = 0.0,
    elevation_deg: float = 5.0,
    focal_over_side: float = 2.0,
    fill: float = 0.85,
) -> Camera:
    """A square camera in which `points` [N, 3] (metres, world) fill `fill` of the longer side.

    Azimuth 0 looks the body in the face (from +z); it grows towards the body's left (+x).
    """
    points = np.asarray(points, np.float64)
    focal = focal_over_side * side_px
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    tilt_c, tilt_s = math.cos(elevation), math.sin(elevation)
    # World to camera with y down and z forward, before tilting: a half turn about x, facing -z.
    upright = np.diag([1.0, -1.0, -1.0]) @ about_y(-azimuth)
    tilt = np.array([[1, 0, 0], [0, tilt_c, -tilt_s], [0, tilt_s, tilt_c]])
    rotation = tilt @ upright
    centre = (points.min(0) + points.max(0)) / 2
    extent = float(np.ptp(points, axis=0).max())
    aim, distance = centre.copy(), focal * extent / (fill * side_px)
    for _ in range(FRAMING_ROUNDS):
        seen = (points - aim) @ rotation.T + [0, 0, distance]
        if seen[:, 2].min() <= 0.1 * distance:
            distance *= 2
            continue
        xy = seen[:, :2] / seen[:, 2:]
        lo, hi = xy.min(0), xy.max(0)
        distance *= focal * float((hi - lo).max()) / (fill * side_px)
        aim = aim + rotation[:2].T @ ((lo + hi) / 2 * distance)
    half = side_px / 2
    k = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]], np.float32)
    translation = -rotation @ aim + [0, 0, distance]
    return Camera(k, rotation.astype(np.float32), translation.astype(np.float32), side_px, side_px)


def camera_problems(
    camera: Camera,
    root: NDArray[np.floating],
    *,
    ranges: Mapping[str, tuple[float, float]],
    height_m: float,
) -> list[str]:
    """What about a camera lies outside the ranges the model was trained on.

    `root` [3] is where the body stands, its pose's translation. Known ranges:
    ``focal_over_side``, ``elevation_deg`` of the line of sight, ``distance_m`` along it, and
    ``fill``, the share of the picture's height that a standing person of `height_m` takes.
    """
    depth = float(camera.rotation[2] @ root + camera.translation[2])
    downward = float(np.clip(-camera.rotation[2, 1], -1, 1))
    focal = float(camera.intrinsics[1, 1])
    values = {
        "focal_over_side": focal / max(camera.width, camera.height),
        "elevation_deg": math.degrees(math.asin(downward)),
        "distance_m": depth,
        "fill": focal * height_m / (depth * camera.height) if depth > 0 else math.inf,
    }
    problems = []
    for name, value in values.items():
        low, high = ranges.get(name, (-math.inf, math.inf))
        slack = (SLACK - 1) * max(abs(low), abs(high)) if math.isfinite(low + high) else 0.0
        if not low - slack <= value <= high + slack:
            problems.append(
                f"{name} of the camera is {value:.2f}, the model was trained on {low:g} to "
                f"{high:g}: expect a poor picture"
            )
    return problems
